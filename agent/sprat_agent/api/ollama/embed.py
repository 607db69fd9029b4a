"""POST /api/embed, and POST /api/embeddings as older clients know it."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct
from starlette.routing import BaseRoute, Route

from sprat_agent.api.body import decode
from sprat_agent.api.dialect import Json
from sprat_agent.api.embedding import Call, Embedding, Made, floats
from sprat_agent.api.faults import unsupported
from sprat_agent.api.models import Models
from sprat_agent.api.sampling import Name
from sprat_agent.runtime.wire import Text


def routes(models: Models) -> list[BaseRoute]:
    """Return the endpoints."""
    return [
        Route("/api/embed", Embedding(models, read), methods=["POST"]),
        Route("/api/embeddings", Embedding(models, read_legacy), methods=["POST"]),
    ]


class _Embed(Struct, forbid_unknown_fields=True):
    model: Name
    input: str | Annotated[list[str], Meta(max_length=2048)] = ""
    truncate: bool | None = None  # cut what is too long; Ollama does unless told otherwise
    dimensions: int | None = None  # refused
    options: Any = None  # accepted and ignored, as what follows
    keep_alive: Any = None


class _Legacy(Struct, forbid_unknown_fields=True):
    model: Name
    prompt: str | None = None
    options: Any = None  # accepted and ignored, as what follows
    keep_alive: Any = None


_EMBED: Final = msgspec.json.Decoder(_Embed)
_LEGACY: Final = msgspec.json.Decoder(_Legacy)


def read(body: bytes) -> Call:
    """Understand a body of /api/embed.

    Raises:
        ApiError: It cannot be understood, or asks for something unsupported.
    """
    asked = decode(_EMBED, body)
    if asked.dimensions:
        raise unsupported("dimensions", "shortening embeddings")
    given = [asked.input] if isinstance(asked.input, str) else asked.input
    texts = () if given == [""] else tuple(Text(one) for one in given)

    def written(made: Made) -> Json:
        return {
            "model": asked.model,
            "embeddings": [floats(vector) for vector in made.vectors],
            "total_duration": made.took_ns,
            "load_duration": 0,
            "prompt_eval_count": made.prompt_tokens,
        }

    return Call(asked.model, texts, asked.truncate is not False, written)


def read_legacy(body: bytes) -> Call:
    """Understand a body of /api/embeddings.

    Raises:
        ApiError: It cannot be understood.
    """
    asked = decode(_LEGACY, body)

    def written(made: Made) -> Json:
        return {"embedding": floats(made.vectors[0]) if made.vectors else []}

    texts = (Text(asked.prompt),) if asked.prompt else ()
    return Call(asked.model, texts, is_truncated=True, body=written)
