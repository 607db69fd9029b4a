"""What all of Ollama's requests that generate have in common. Pure.

Options that are not known are ignored, as Ollama ignores them: its clients send those of engines of
all ages. `keep_alive` and `think` are ignored too: which model stays in memory is the fleet's
business, and whether a model thinks is its template's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec import Meta, Struct

from sprat_agent.api.faults import invalid
from sprat_agent.api.sampling import (
    Name,
    Penalty,
    RepeatPenalty,
    Seed,
    Share,
    Stop,
    TopK,
    TopLogprobs,
    chosen_by,
)
from sprat_agent.runtime.wire import Request, Sampling

ContextOf: TypeAlias = Callable[[str], int]  # of a model by name, in tokens; raises ApiError
_Stops: TypeAlias = Stop | Annotated[list[Stop], Meta(max_length=16)]


class Options(Struct):
    """`options` of a request."""

    temperature: Annotated[float, Meta(ge=0, le=100)] | None = None
    top_k: TopK | None = None
    top_p: Share | None = None
    min_p: Share | None = None
    seed: Seed | None = None
    repeat_penalty: RepeatPenalty | None = None
    repeat_last_n: Annotated[int, Meta(ge=-1, le=1 << 24)] | None = None  # -1: the whole context
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    num_predict: Annotated[int, Meta(ge=-2, le=1 << 24)] | None = None  # below 0: no limit
    num_ctx: Annotated[int, Meta(ge=1)] | None = None
    stop: _Stops | None = None


class Generating(Struct, kw_only=True):
    """Fields of `/api/chat` and `/api/generate`."""

    model: Name
    stream: bool | None = None  # Ollama streams unless told otherwise
    format: str | dict[str, Any] | None = None
    options: Options | None = None
    keep_alive: Any = None
    think: Any = None
    logprobs: bool | None = None
    top_logprobs: TopLogprobs | None = None

    @property
    def is_streamed(self) -> bool:
        """Whether the answer comes in pieces."""
        return self.stream is not False


def applied(asked: Generating, request: Request, context_of: ContextOf) -> Request:
    """Return the request with what the options and the format ask for.

    Raises:
        ApiError: They ask for something that this device cannot give.
    """
    options = asked.options or Options()
    _check_context(asked.model, options, context_of)
    if options.num_predict == 0:
        message = "expected num_predict of 1 or more, or -1 for no limit, found 0"
        raise invalid(message, param="options")
    limit = options.num_predict or -1
    stop = options.stop or ()
    return msgspec.structs.replace(
        request,
        sampling=_sampling(options, context_of(asked.model)),
        max_tokens=limit if limit > 0 else None,
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
        schema=_schema(asked.format),
        logprobs=(asked.top_logprobs or 0) if asked.logprobs else None,
    )


def _check_context(model: str, options: Options, context_of: ContextOf) -> None:
    context = context_of(model)
    if options.num_ctx is not None and options.num_ctx > context:
        message = (
            f"expected num_ctx of up to {context}, which {model!r} has on this device, found"
            f" {options.num_ctx}"
        )
        raise invalid(message, param="options", code="context_length_exceeded")


def _sampling(options: Options, context: int) -> Sampling:
    window = context if options.repeat_last_n == -1 else options.repeat_last_n
    return chosen_by(
        temperature=options.temperature,
        top_p=options.top_p,
        top_k=options.top_k,
        min_p=options.min_p,
        repeat_penalty=options.repeat_penalty,
        presence_penalty=options.presence_penalty,
        frequency_penalty=options.frequency_penalty,
        penalty_window=window,
        seed=options.seed,
    )


def _schema(wanted: str | dict[str, Any] | None) -> dict[str, Any] | None:
    match wanted:
        case None | "":
            return None
        case "json":
            return {"type": "object"}
        case dict():
            return wanted
        case _:
            message = f"expected 'json' or a JSON schema, found {wanted[:40]!r}"
            raise invalid(message, param="format")
