"""Log probabilities, as OpenAI writes them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Final

from sprat_agent.api.dialect import Json
from sprat_agent.runtime.wire import Alternative, Chosen

_LEAST: Final = -9999.0  # JSON has no infinity; OpenAI writes this for what is all but impossible


def of_chat(chosen: Sequence[Chosen]) -> Json | None:
    """Return the block of a choice; None where none were asked for."""
    if not chosen:
        return None
    content = [
        {**_one(token), "top_logprobs": [_one(top) for top in token.top]} for token in chosen
    ]
    return {"content": content, "refusal": None}


def of_completion(chosen: Sequence[Chosen], offset: int = 0) -> Json | None:
    """Return the older block, of /v1/completions.

    Args:
        chosen: The tokens.
        offset: Characters of the answer before the first of them.
    """
    if not chosen:
        return None
    texts = [text(token.data) for token in chosen]
    ends = accumulate(map(len, texts), initial=offset)
    return {
        "tokens": texts,
        "token_logprobs": [_bounded(token.logprob) for token in chosen],
        "top_logprobs": [
            {text(top.data): _bounded(top.logprob) for top in token.top} for token in chosen
        ],
        "text_offset": list(ends)[:-1],
    }


def text(data: bytes) -> str:
    """Return a token's text; bytes that are no text by themselves become U+FFFD."""
    return data.decode("utf-8", "replace")


def _one(token: Chosen | Alternative) -> Json:
    return {
        "token": text(token.data),
        "logprob": _bounded(token.logprob),
        "bytes": list(token.data),
    }


def _bounded(logprob: float) -> float:
    return max(logprob, _LEAST)
