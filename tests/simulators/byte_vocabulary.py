"""A vocabulary of the 256 bytes, some control tokens, and words of more bytes."""

from __future__ import annotations

from collections.abc import Sequence

BYTES = 256
BOS, EOS = BYTES, BYTES + 1


class ByteVocabulary:
    """Bytes are their own numbers; then come `<s>`, `</s>`, other control tokens and words.

    A spaced one puts a space before each text, as those of llama 2 do; texts of a framed one begin
    with `<s>` and end with `</s>`.
    Words need not be whole characters: `"é".encode()[:1] + b"x"` is one too.
    """

    def __init__(
        self,
        *,
        controls: Sequence[str] = (),
        words: Sequence[bytes] = (),
        has_end: bool = True,
        is_spaced: bool = False,
        is_framed: bool = False,
    ) -> None:
        self._controls = [text.encode() for text in ("<s>", "</s>", *controls)]
        self._words = list(words)
        self._has_end = has_end
        self._is_spaced = is_spaced
        self._is_framed = is_framed

    @property
    def size(self) -> int:
        return BYTES + len(self._controls) + len(self._words)

    @property
    def bos(self) -> int:
        return BOS

    @property
    def eos(self) -> int:
        return EOS if self._has_end else -1

    def tokenize(self, text: str, *, has_special: bool) -> list[int]:
        """Cut at the longest token of each place."""
        data = text.encode()
        if self._is_spaced and not any(data.startswith(name) for name in self._controls):
            data = b" " + data
        first = BYTES + len(self._controls)
        known = {word: first + at for at, word in enumerate(self._words)}
        if has_special:
            known |= {name: BYTES + at for at, name in enumerate(self._controls)}
        longest = sorted(known, key=len, reverse=True)
        tokens: list[int] = []
        at = 0
        while at < len(data):
            word = next((word for word in longest if data.startswith(word, at)), data[at : at + 1])
            tokens.append(known.get(word, data[at]))
            at += len(word)
        return tokens

    def framed(self, tokens: Sequence[int]) -> list[int]:
        if not self._is_framed:
            return list(tokens)
        before = [] if list(tokens[:1]) == [BOS] else [BOS]
        after = [] if list(tokens[-1:]) == [EOS] else [EOS]
        return [*before, *tokens, *after]

    def piece(self, token: int) -> bytes:
        return b"" if self.is_control(token) else self.name(token)

    def name(self, token: int) -> bytes:
        if token < 0:
            return b""
        if token < BYTES:
            return bytes([token])
        return [*self._controls, *self._words][token - BYTES]

    def is_end(self, token: int) -> bool:
        return self._has_end and token == EOS

    def is_control(self, token: int) -> bool:
        return BYTES <= token < BYTES + len(self._controls)
