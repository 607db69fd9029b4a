"""What the rooms of a worker ask of a model's tokens; `llama.py` has the real one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Vocabulary(Protocol):
    """A model's tokens, numbered from 0."""

    @property
    def size(self) -> int:
        """How many tokens there are, which is the length of a row of logits."""
        ...

    @property
    def bos(self) -> int:
        """The token that begins a text; -1: none."""
        ...

    @property
    def eos(self) -> int:
        """The token that ends a text; -1: none."""
        ...

    def tokenize(self, text: str, *, has_special: bool) -> list[int]:
        """Return the tokens of a text, without a beginning or an end.

        Args:
            text: What to cut.
            has_special: The texts of control tokens stand for these tokens.
        """
        ...

    def framed(self, tokens: Sequence[int]) -> list[int]:
        """Return a text's tokens between those by which this model's texts begin and end.

        Which these are is the model's own rule: often a beginning, rarely an end, or none. One that
        is there already is not doubled.
        """
        ...

    def piece(self, token: int) -> bytes:
        """Return a token's bytes; a control token has none."""
        ...

    def name(self, token: int) -> bytes:
        """Return a token's bytes, or a control token's text; none for a token below 0."""
        ...

    def is_end(self, token: int) -> bool:
        """Tell whether the token ends an answer."""
        ...

    def is_control(self, token: int) -> bool:
        """Tell whether it is a control token, which has no bytes of its own in a text."""
        ...
