"""Log probabilities, as the dialects that tell them write a token. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sprat_agent.api.dialect import Json
from sprat_agent.runtime.wire import Alternative, Chosen

_LEAST: Final = -9999.0  # JSON has no infinity; OpenAI writes this for what is all but impossible


def entries(chosen: Sequence[Chosen]) -> list[Json]:
    """Return an entry for each token that came, with the likeliest ones in its place."""
    return [
        {**_entry(token), "top_logprobs": [_entry(top) for top in token.top]} for token in chosen
    ]


def text(data: bytes) -> str:
    """Return a token's text; bytes that are no text by themselves become U+FFFD."""
    return data.decode("utf-8", "replace")


def bounded(logprob: float) -> float:
    """Return it, or the least that is told."""
    return max(logprob, _LEAST)


def _entry(token: Chosen | Alternative) -> Json:
    return {
        "token": text(token.data),
        "logprob": bounded(token.logprob),
        "bytes": list(token.data),
    }
