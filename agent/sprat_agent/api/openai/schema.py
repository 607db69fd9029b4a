"""What OpenAI's requests for generated text have in common. Pure."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec
from msgspec import Meta, Struct

from sprat_agent.api.faults import invalid
from sprat_agent.api.sampling import (
    MAX_SEED,
    Name,
    Penalty,
    RepeatPenalty,
    Seed,
    Share,
    Stop,
    TokenCount,
    TopK,
    chosen_by,
)
from sprat_agent.runtime.wire import Request as Asked
from sprat_agent.runtime.wire import Sampling

MAX_CHOICES: Final = 8
_MAX_STOPS: Final = 4

Temperature: TypeAlias = Annotated[float, Meta(ge=0, le=2)]
TopP: TypeAlias = Annotated[float, Meta(gt=0, le=1)]
_LogitBias: TypeAlias = Annotated[
    dict[Annotated[int, Meta(ge=0, lt=1 << 31)], Annotated[float, Meta(ge=-100, le=100)]],
    Meta(max_length=1024),
]


class StreamOptions(Struct, forbid_unknown_fields=True):
    """What a stream tells beside the text."""

    include_usage: bool = False
    include_obfuscation: bool = False  # accepted and ignored


class Sampled(Struct, kw_only=True):
    """Fields of all requests that generate; `top_k` and those after it are not OpenAI's own."""

    model: Name
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, Meta(ge=1, le=MAX_CHOICES)] | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    max_tokens: TokenCount | None = None
    stop: Stop | Annotated[list[Stop], Meta(max_length=_MAX_STOPS)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: _LogitBias | None = None  # by token id
    seed: Seed | None = None
    user: Any = None  # accepted and ignored
    top_k: TopK | None = None
    min_p: Share | None = None
    repetition_penalty: RepeatPenalty | None = None


class _JsonSchema(Struct, forbid_unknown_fields=True):
    name: str = ""
    description: str | None = None
    schema: dict[str, Any] | None = None
    strict: bool | None = None


class ResponseFormat(Struct, forbid_unknown_fields=True):
    """What the answer's text is to satisfy."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: _JsonSchema | None = None


def sampling(request: Sampled) -> Sampling:
    """Return how tokens are chosen."""
    return chosen_by(
        temperature=request.temperature,
        top_p=request.top_p,
        top_k=request.top_k,
        min_p=request.min_p,
        repeat_penalty=request.repetition_penalty,
        presence_penalty=request.presence_penalty,
        frequency_penalty=request.frequency_penalty,
        logit_bias=tuple((request.logit_bias or {}).items()),
        seed=request.seed,
    )


def stops(request: Sampled) -> tuple[str, ...]:
    """Return what ends the answer."""
    stop = request.stop or []
    return (stop,) if isinstance(stop, str) else tuple(stop)


def of_format(wanted: ResponseFormat | None) -> dict[str, Any] | bool | None:
    """Return the JSON schema of the answer; None: any text.

    Raises:
        ApiError: A format of type json_schema has none.
    """
    if wanted is None or wanted.type == "text":
        return None
    if wanted.type == "json_object":
        return {"type": "object"}
    if wanted.json_schema is None or wanted.json_schema.schema is None:
        message = "expected the schema in response_format.json_schema.schema, found none"
        raise invalid(message, param="response_format")
    return wanted.json_schema.schema


def choices(asked: Asked, count: int) -> tuple[Asked, ...]:
    """Return the request once for each choice; a seed goes up by one from choice to choice."""
    return tuple(_with_seed(asked, at) for at in range(count))


def _with_seed(asked: Asked, at: int) -> Asked:
    seed = asked.sampling.seed
    if seed is None or at == 0:
        return asked
    wrapped = seed + at if seed + at <= MAX_SEED else seed + at - (1 << 64)
    chosen = msgspec.structs.replace(asked.sampling, seed=wrapped)
    return msgspec.structs.replace(asked, sampling=chosen)
