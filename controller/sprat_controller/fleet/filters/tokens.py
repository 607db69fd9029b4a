"""The words and signs of a filter, each with its place; and the error that names a place. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from sprat_controller.errors import RequestError

MAX_LENGTH: Final = 4096  # characters, as `strategy.Group.filter` allows
KEYWORDS: Final = frozenset({"and", "or", "not", "in", "exists", "has"})
# What needs no quotes. A `*` in a word stands for any characters.
BARE: Final = re.compile(r"[A-Za-z0-9_.:/+*@-]+")
_SPACE: Final = re.compile(r"\s*")
# What no database keeps in a text, or nobody sees.
_UNSEEN: Final = re.compile("[\x00-\x08\x0b-\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_SIGN: Final = re.compile(r"!=|<=|>=|[()=<>,]")
_STRING: Final = re.compile(r'"(?:[^"\\]|\\.)*"' + "|" + r"'(?:[^'\\]|\\.)*'", re.DOTALL)
_ESCAPABLE: Final = "\\\"'*"
_SHOWN: Final = 40  # characters of what was found


class FilterError(RequestError):
    """Not a filter: where, what was expected and what was found."""

    def __init__(self, place: int, expected: str, found: str) -> None:
        shown = found if len(found) <= _SHOWN else f"{found[:_SHOWN]}..."
        super().__init__(
            "bad_filter",
            f"filter, character {place + 1}: expected {expected}, found {shown}",
            {"position": place + 1, "expected": expected, "found": shown},
        )


class Sort(StrEnum):
    """What a token is."""

    WORD = "word"
    STRING = "string"
    SIGN = "sign"
    END = "end"


@dataclass(frozen=True)
class Token:
    """A piece of a filter.

    Attributes:
        sort: What it is.
        text: As it stands there.
        place: Of its first character, from 0.
    """

    sort: Sort
    text: str
    place: int

    @property
    def keyword(self) -> str | None:
        """The keyword that it is, in small letters; None: it is none."""
        word = self.text.lower()
        return word if self.sort is Sort.WORD and word in KEYWORDS else None

    @property
    def shown(self) -> str:
        """As an error names it."""
        return "the end" if self.sort is Sort.END else self.text


def scan(text: str) -> list[Token]:
    """Return the tokens of a text, the end last.

    Raises:
        FilterError: It is too long, or has a character that no token begins with.
    """
    if len(text) > MAX_LENGTH:
        raise FilterError(MAX_LENGTH, f"at most {MAX_LENGTH} characters", f"{len(text)} of them")
    unseen = _UNSEEN.search(text)
    if unseen is not None:
        raise FilterError(unseen.start(), "no control character", repr(unseen[0]))
    found: list[Token] = []
    place = _after_space(text, 0)
    while place < len(text):
        token = _token(text, place)
        found.append(token)
        place = _after_space(text, place + len(token.text))
    return [*found, Token(Sort.END, "", len(text))]


def pieces(token: Token) -> tuple[str, ...]:
    """Return what stands between the `*`s of a word or string, its escapes undone.

    Raises:
        FilterError: A backslash stands before a character that needs none.
    """
    if token.sort is Sort.WORD:
        return tuple(token.text.split("*"))
    found = [""]
    body, at = token.text[1:-1], 0
    while at < len(body):
        one = body[at]
        if one == "\\":
            at += 1
            if body[at] not in _ESCAPABLE:
                expected = "one of \\\\ \\\" \\' \\* after a backslash"
                raise FilterError(token.place + 1 + at, expected, repr(body[at]))
            found[-1] += body[at]
        elif one == "*":
            found.append("")
        else:
            found[-1] += one
        at += 1
    return tuple(found)


def quoted(parts: tuple[str, ...]) -> str:
    """Return the string token whose `pieces` these are."""
    escaped = [part.replace("\\", "\\\\").replace('"', '\\"') for part in parts]
    return '"' + "*".join(part.replace("*", "\\*") for part in escaped) + '"'


def _after_space(text: str, place: int) -> int:
    space = _SPACE.match(text, place)
    return place if space is None else space.end()


def _token(text: str, place: int) -> Token:
    for sort, pattern in ((Sort.SIGN, _SIGN), (Sort.STRING, _STRING), (Sort.WORD, BARE)):
        found = pattern.match(text, place)
        if found is not None:
            return Token(sort, found[0], place)
    if text[place] in "\"'":
        raise FilterError(place, f"a closing {text[place]} after this one", "the end")
    raise FilterError(place, "a word, a value in quotes or a sign", repr(text[place]))
