"""Log probabilities in the blocks that OpenAI has for them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from sprat_agent.api.dialect import Json
from sprat_agent.api.logprobs import bounded, entries, text
from sprat_agent.runtime.wire import Chosen


def of_chat(chosen: Sequence[Chosen]) -> Json | None:
    """Return the block of a choice; None where none were asked for."""
    return {"content": entries(chosen), "refusal": None} if chosen else None


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
        "token_logprobs": [bounded(token.logprob) for token in chosen],
        "top_logprobs": [
            {text(top.data): bounded(top.logprob) for top in token.top} for token in chosen
        ],
        "text_offset": list(ends)[:-1],
    }
