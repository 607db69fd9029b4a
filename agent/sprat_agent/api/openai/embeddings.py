"""POST /v1/embeddings. Pure."""

from __future__ import annotations

import base64
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct

from sprat_agent.api.body import decode
from sprat_agent.api.dialect import Json
from sprat_agent.api.embedding import Call, Made, floats
from sprat_agent.api.faults import unsupported
from sprat_agent.api.openai import inputs
from sprat_agent.api.sampling import Name

MAX_INPUTS: Final = 2048


class Request(Struct, forbid_unknown_fields=True):
    """The body, as it comes."""

    model: Name
    input: inputs.Inputs
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int, Meta(ge=1)] | None = None  # refused
    user: Any = None  # accepted and ignored


_DECODER: Final = msgspec.json.Decoder(Request)


def read(body: bytes) -> Call:
    """Understand a body.

    Raises:
        ApiError: Not JSON, a wrong or unknown field, or something unsupported: one sentence.
    """
    asked = decode(_DECODER, body)
    if asked.dimensions is not None:
        raise unsupported("dimensions", "shortening embeddings")
    texts = inputs.meaning(asked.input, "input", MAX_INPUTS)

    def written(made: Made) -> Json:
        is_text = asked.encoding_format == "base64"
        data = [
            {"object": "embedding", "index": index, "embedding": _encoded(vector, is_text=is_text)}
            for index, vector in enumerate(made.vectors)
        ]
        usage = {"prompt_tokens": made.prompt_tokens, "total_tokens": made.prompt_tokens}
        return {"object": "list", "data": data, "model": asked.model, "usage": usage}

    return Call(asked.model, texts, is_truncated=False, body=written)


def _encoded(vector: bytes, *, is_text: bool) -> str | list[float]:
    return base64.b64encode(vector).decode("ascii") if is_text else floats(vector)
