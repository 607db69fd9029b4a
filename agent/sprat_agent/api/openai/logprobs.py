"""Log probabilities in the blocks that OpenAI has for them."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from sprat_agent.api.dialect import Json
from sprat_agent.api.logprobs import bounded, entries
from sprat_agent.runtime.wire import Chosen


def of_chat(chosen: Sequence[Chosen]) -> Json | None:
    """Return the block of a choice; None where none were asked for."""
    return {"content": entries(chosen), "refusal": None} if chosen else None


class CompletionBlocks:
    """The older blocks, of /v1/completions, of one answer."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._offset = 0  # characters of the answer so far, those that are whole

    def next(self, chosen: Sequence[Chosen]) -> Json | None:
        """Return the block of the tokens that come next; None where there are none."""
        if not chosen:
            return None
        return {
            "tokens": [_name(token.data) for token in chosen],
            "token_logprobs": [bounded(token.logprob) for token in chosen],
            "top_logprobs": [
                {_name(top.data): bounded(top.logprob) for top in token.top} for token in chosen
            ],
            "text_offset": [self._pass(token.data) for token in chosen],
        }

    def _pass(self, data: bytes) -> int:
        """Return where a token begins, and go on behind it."""
        begins = self._offset
        self._offset += len(self._decoder.decode(data))
        return begins


def _name(data: bytes) -> str:
    """Return a token's text, or its bytes as OpenAI writes them if they are no text by themselves.

    Each is told apart from the others: it is a key.
    """
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)
