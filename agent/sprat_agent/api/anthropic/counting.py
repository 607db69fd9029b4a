"""POST /v1/messages/count_tokens: how long a prompt is, by the model's template and vocabulary."""

from __future__ import annotations

from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from sprat_agent.api import faults, names, priority, replies
from sprat_agent.api.answering import unless_gone
from sprat_agent.api.anthropic import schema
from sprat_agent.api.body import read_body
from sprat_agent.api.models import Models
from sprat_agent.runtime.faults import AnswerError


class TokenCounting:
    """The endpoint, an ASGI application; a model that is not in memory is loaded to count."""

    def __init__(self, models: Models) -> None:
        self._models = models

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request.

        Raises:
            ApiError: Instead of an answer.
        """
        request = Request(scope, receive)
        is_batch = priority.is_batch(request.headers)
        asked = schema.parse_count(await read_body(request))
        conversation = schema.conversation(asked)

        async def answer() -> None:
            name, _ = names.split(asked.model)
            try:
                names.find(self._models, asked.model)
                found = await self._models.counting(name, conversation, is_batch=is_batch)
            except AnswerError as error:
                raise faults.from_answer(error) from error
            body = {"input_tokens": found.tokens}
            response = replies.json(body, headers=replies.of_model(found.loadable))
            await response(scope, receive, send)

        await unless_gone(receive, answer())
