"""What a vocabulary must not be, gathered token by token and never kept whole.

llama.cpp ends its process where two tokens are equal, and where a SentencePiece vocabulary has no
token for a byte (both seen with llama-cpp-python 0.3.36, November 2026).
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

BYTES: Final = 256
_BYTE_TYPE: Final = 6  # llama_token_type: a token that stands for one byte
_BYTE_TOKEN: Final = re.compile(r"<0x[0-9A-F]{2}>")
_BUCKETS: Final = 64  # so that only a 64th of a vocabulary is ever a Python set


@dataclass(frozen=True)
class Vocabulary:
    """What is known of the tokens; indices are token ids."""

    is_distinct: bool = True
    byte_tokens: frozenset[int] = frozenset()  # whose text is <0x00> to <0xFF>
    byte_typed: frozenset[int] = frozenset()  # whose type says byte; of too many, the first


class VocabularyReader:
    """Takes the tokens and their types in whichever order the file has them."""

    def __init__(self) -> None:
        self._count = 0
        self._hashes = [array("q") for _ in range(_BUCKETS)]
        self._byte_tokens: dict[str, int] = {}
        self._byte_typed: frozenset[int] = frozenset()

    def take_token(self, text: str) -> None:
        """Take the next token."""
        word = text.partition("\0")[0] if "\0" in text else text  # where C's strings end
        if word.startswith("<0x") and _BYTE_TOKEN.fullmatch(word):
            self._byte_tokens[word] = self._count
        number = hash(word or f"[EMPTY_{self._count}]")  # so llama.cpp calls it
        self._hashes[number % _BUCKETS].append(number)
        self._count += 1

    def take_types(self, types: Sequence[int]) -> None:
        """Take the types of all tokens."""
        found = (index for index, one in enumerate(types) if one == _BYTE_TYPE)
        self._byte_typed = frozenset(islice(found, BYTES + 1))

    def result(self) -> Vocabulary:
        """Return what was found.

        Tokens are compared by keyed 64-bit hashes: equal ones are never missed, and of half a
        million different ones two seem equal less than once in a hundred million readings.
        """
        return Vocabulary(
            is_distinct=all(len(set(one)) == len(one) for one in self._hashes),
            byte_tokens=frozenset(self._byte_tokens.values()),
            byte_typed=self._byte_typed,
        )
