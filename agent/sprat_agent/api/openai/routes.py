"""OpenAI's paths."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from sprat_agent.api import faults, names, replies
from sprat_agent.api.answering import Answering
from sprat_agent.api.embedding import Embedding
from sprat_agent.api.models import Models
from sprat_agent.api.openai import embeddings, shapes
from sprat_agent.api.openai.chat import Chat
from sprat_agent.api.openai.completion import Completion
from sprat_agent.api.openai.response import Response as ResponseDialect
from sprat_agent.runtime.faults import AnswerError


def routes(models: Models, answering: Answering, started: int) -> list[BaseRoute]:
    """Return OpenAI's endpoints; `started` (Unix seconds) is what models say of their age."""
    listing = _Listing(models, started)
    return [
        Route("/v1/chat/completions", answering.endpoint(Chat()), methods=["POST"]),
        Route("/v1/completions", answering.endpoint(Completion()), methods=["POST"]),
        Route("/v1/responses", answering.endpoint(ResponseDialect()), methods=["POST"]),
        Route("/v1/embeddings", Embedding(models, embeddings.read), methods=["POST"]),
        Route("/v1/models", listing.models),
        Route("/v1/models/{name:path}", listing.model),
    ]


class _Listing:
    """The endpoints that tell of models."""

    def __init__(self, models: Models, started: int) -> None:
        self._models = models
        self._started = started

    async def models(self, _request: Request) -> Response:
        """GET /v1/models: one entry for each alias that can be asked, and for each adapter."""
        offered = names.listed(self._models.offered())
        entries = [shapes.model_entry(name, one, self._started) for name, one in offered]
        return replies.json({"object": "list", "data": entries})

    async def model(self, request: Request) -> Response:
        """GET /v1/models/{name}."""
        name = str(request.path_params["name"])
        try:
            found = names.find(self._models, name)
        except AnswerError as error:
            raise faults.from_answer(error) from error
        return replies.json(shapes.model_entry(name, found, self._started))
