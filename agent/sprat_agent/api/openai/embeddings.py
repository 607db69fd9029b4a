"""POST /v1/embeddings."""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct
from starlette.requests import Request as HttpRequest
from starlette.types import Receive, Scope, Send

from sprat_agent.api import faults, names, replies
from sprat_agent.api.answering import unless_gone
from sprat_agent.api.body import decode, read_body
from sprat_agent.api.dialect import Json
from sprat_agent.api.faults import invalid, unsupported
from sprat_agent.api.models import Models
from sprat_agent.api.openai import inputs, schema
from sprat_agent.runtime.answer import Vectors
from sprat_agent.runtime.faults import AnswerError

MAX_INPUTS: Final = 2048
# Texts that a worker gets at once: a bound on its answer, and others get their turn in between.
_BATCH: Final = 64


class Request(Struct, forbid_unknown_fields=True):
    """The body, as it comes."""

    model: schema.Name
    input: inputs.Inputs
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int, Meta(ge=1)] | None = None  # refused
    user: Any = None  # accepted and ignored


_DECODER: Final = msgspec.json.Decoder(Request)


class Embeddings:
    """The endpoint; if its client goes away, the work stops."""

    def __init__(self, models: Models) -> None:
        self._models = models

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request.

        Raises:
            ApiError: Instead of an answer.
        """
        request = parse(await read_body(HttpRequest(scope, receive)))
        await unless_gone(receive, self._answer(request, scope, receive, send))

    async def _answer(self, request: Request, scope: Scope, receive: Receive, send: Send) -> None:
        texts = inputs.meaning(request.input, "input", MAX_INPUTS)
        name, adapter = names.split(request.model)
        if adapter:
            message = f"embeddings know no adapters: ask for {name[:100]!r} without its tag"
            raise invalid(message, param="model")
        try:
            made = [
                await self._models.embedding(name, texts[at : at + _BATCH])
                for at in range(0, len(texts), _BATCH)
            ]
        except AnswerError as error:
            raise faults.from_answer(error) from error
        response = replies.json(body_of(request, made), headers=replies.of_model(made[0].loadable))
        await response(scope, receive, send)


def parse(body: bytes) -> Request:
    """Read a request and check that what it asks for is supported.

    Raises:
        ApiError: Not JSON, a wrong or unknown field, or something unsupported: one sentence.
    """
    request = decode(_DECODER, body)
    if request.dimensions is not None:
        raise unsupported("dimensions", "shortening embeddings")
    return request


def body_of(request: Request, made: Sequence[Vectors]) -> Json:
    """Return the whole answer."""
    vectors = [vector for one in made for vector in one.vectors]
    is_text = request.encoding_format == "base64"
    data = [
        {"object": "embedding", "index": index, "embedding": _encoded(vector, is_text=is_text)}
        for index, vector in enumerate(vectors)
    ]
    tokens = sum(one.prompt_tokens for one in made)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": request.model, "usage": usage}


def _encoded(vector: bytes, *, is_text: bool) -> str | list[float]:
    if is_text:
        return base64.b64encode(vector).decode("ascii")
    return [value for (value,) in struct.iter_unpack("<f", vector)]
