"""What a request to go on with a text may say, and what it means to an engine. Pure."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from sprat_agent.api.body import decode
from sprat_agent.api.faults import invalid, unsupported
from sprat_agent.api.openai import inputs, schema
from sprat_agent.api.sampling import TopLogprobs
from sprat_agent.runtime.wire import Request as Asked

MAX_PROMPTS: Final = 128
_MAX_TOKENS: Final = 16  # OpenAI's, where the request sets no limit


class Request(schema.Sampled, forbid_unknown_fields=True, kw_only=True):
    """The body of POST /v1/completions, as it comes."""

    prompt: inputs.Inputs
    echo: bool | None = None
    logprobs: TopLogprobs | None = None
    # Supported only where they ask for nothing.
    best_of: Annotated[int, Meta(ge=1)] | None = None
    suffix: Any = None


_DECODER: Final = msgspec.json.Decoder(Request)


def parse(body: bytes) -> Request:
    """Read a request and check that what it asks for is supported.

    Raises:
        ApiError: Not JSON, a wrong or unknown field, or something unsupported: one sentence.
    """
    request = decode(_DECODER, body)
    if request.suffix:
        raise unsupported("suffix", "filling in before a suffix")
    if (request.best_of or 1) > (request.n or 1):
        raise unsupported("best_of", "choosing the best of more answers than 'n'")
    if request.echo and request.logprobs is not None:
        raise unsupported("logprobs", "telling log probabilities of an echoed prompt")
    return request


def meaning(request: Request) -> tuple[Asked, ...]:
    """Return what the engine is asked: the choices of the first prompt, then of the next.

    Raises:
        ApiError: The prompts are none, too many, or of different kinds.
    """
    prompts = inputs.meaning(request.prompt, "prompt", MAX_PROMPTS)
    count = request.n or 1
    if len(prompts) * count > MAX_PROMPTS:
        message = f"expected up to {MAX_PROMPTS} answers, found {len(prompts)} prompts with {count}"
        raise invalid(message, param="n")
    asked = [
        Asked(
            prompt,
            schema.sampling(request),
            max_tokens=_MAX_TOKENS if request.max_tokens is None else request.max_tokens,
            stop=schema.stops(request),
            logprobs=request.logprobs,
            is_echoed=bool(request.echo),
        )
        for prompt in prompts
    ]
    return tuple(choice for one in asked for choice in schema.choices(one, count))
