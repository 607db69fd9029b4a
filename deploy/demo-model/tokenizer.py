"""Byte-level byte-pair encoding, as llama.cpp and tokenizers of Qwen's kind do it. Pure.

A text is cut into words by a regular expression; the bytes of a word are then joined pair by pair,
the pair first that was learnt first. Python's `re` tells letters from digits as Unicode does but
for numbers that are no digits (such as a half), so the tokens equal llama.cpp's for all text
without those; the tests compare them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Final, TypeAlias

Pair: TypeAlias = tuple[str, str]

START: Final = "<|start|>"  # begins each text
END: Final = "<|end|>"  # ends each message and each text
ROLES: Final = ("system", "user", "assistant")
SPECIALS: Final = (START, END, *(f"<|{role}|>" for role in ROLES))
TEMPLATE: Final = (
    START
    + "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}"
    + END
    + "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
PRE_TOKENIZER: Final = "qwen2"  # llama.cpp's name for the cut below
# The same in the notation of tokenizer.json.
CUT: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_WORD: Final = re.compile(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|(?:[^\w\r\n]|_)?[^\W\d_]+|\d| ?(?:[^\w\s]|_)+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def byte_alphabet() -> tuple[str, ...]:
    """Return GPT-2's printable stand-in for each byte."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    rest = iter(range(256, 512))
    return tuple(chr(byte) if byte in printable else chr(next(rest)) for byte in range(256))


_ALPHABET: Final = byte_alphabet()
_BYTES: Final = {character: byte for byte, character in enumerate(_ALPHABET)}


class Tokenizer:
    """The vocabulary (bytes, what pairs make, specials) and the pairs in the order learnt."""

    def __init__(self, merges: Sequence[Pair]) -> None:
        self.merges = tuple(merges)
        self.tokens = (*_ALPHABET, *("".join(pair) for pair in self.merges), *SPECIALS)
        self.ids = {token: number for number, token in enumerate(self.tokens)}
        self._ranks = {pair: rank for rank, pair in enumerate(self.merges)}
        self._word = lru_cache(maxsize=1 << 16)(self._encode_word)

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text, in which the names of specials are plain text."""
        return [token for word in _words(text) for token in self._word(word)]

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of tokens, specials left out."""
        spelt = "".join(self.tokens[one] for one in ids if self.tokens[one] not in SPECIALS)
        return bytes(_BYTES[character] for character in spelt).decode(errors="replace")

    def _encode_word(self, word: str) -> tuple[int, ...]:
        parts = list(word)
        while len(parts) > 1:
            best = min(pairwise(parts), key=lambda pair: self._ranks.get(pair, len(self._ranks)))
            if best not in self._ranks:
                break
            parts = _joined(parts, best)
        return tuple(self.ids[part] for part in parts)


def learn(texts: Iterable[str], vocabulary: int) -> Tokenizer:
    """Return the tokenizer of so many tokens that makes few tokens of these texts.

    Among pairs that are equally frequent the one that sorts first is taken: the same texts give
    the same tokenizer.
    """
    counts = Counter(word for text in texts for word in _words(text))
    split = {word: list(word) for word in counts}
    merges: list[Pair] = []
    made = {*_ALPHABET}
    while len(_ALPHABET) + len(merges) + len(SPECIALS) < vocabulary:
        pairs: Counter[Pair] = Counter()
        for word, parts in split.items():
            for pair in pairwise(parts):
                pairs[pair] += counts[word]
        new = [pair for pair in pairs if "".join(pair) not in made]
        if not new:
            raise ValueError(f"expected texts that need {vocabulary} tokens, found fewer pairs")
        best = min(new, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        made.add("".join(best))
        split = {word: _joined(parts, best) for word, parts in split.items()}
    return Tokenizer(merges)


def _words(text: str) -> Iterator[str]:
    for found in _WORD.finditer(text):
        yield "".join(_ALPHABET[byte] for byte in found.group().encode())


def _joined(parts: list[str], pair: Pair) -> list[str]:
    if pair[0] not in parts:
        return parts
    out: list[str] = []
    at = 0
    while at < len(parts):
        if tuple(parts[at : at + 2]) == pair:
            out.append(parts[at] + parts[at + 1])
            at += 2
        else:
            out.append(parts[at])
            at += 1
    return out
