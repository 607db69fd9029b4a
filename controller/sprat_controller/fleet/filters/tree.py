"""A filter that was read: values that a predicate, a query and its text are made from. Pure.

Every test is true or false of every device. What is not known meets no test but its negation:
`site != lyon` is true of a device without a site.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias

from sprat_controller.fleet.filters.fields import Field, Kind
from sprat_controller.fleet.filters.tokens import BARE, KEYWORDS, quoted

UNITS: Final = {
    "TiB": 1 << 40,
    "GiB": 1 << 30,
    "MiB": 1 << 20,
    "KiB": 1 << 10,
    "TB": 10**12,
    "GB": 10**9,
    "MB": 10**6,
    "KB": 10**3,
    "B": 1,
}
_BINARY: Final = ("TiB", "GiB", "MiB", "KiB")


class Op(StrEnum):
    """How a number is compared; `!=` is the negation of `=`."""

    EQUAL = "="
    LESS = "<"
    AT_MOST = "<="
    MORE = ">"
    AT_LEAST = ">="


@dataclass(frozen=True)
class Pattern:
    """A text, or what is like it.

    Attributes:
        pieces: One: exactly this. More: these in order, anything between each two; the first at
            the beginning, the last at the end.
    """

    pieces: tuple[str, ...]


@dataclass(frozen=True)
class Matches:
    """A text is like one of the patterns; of a set, one of its names is."""

    field: Field
    patterns: tuple[Pattern, ...]


@dataclass(frozen=True)
class Compared:
    """A number that is known stands so to this one."""

    field: Field
    op: Op
    number: int


@dataclass(frozen=True)
class Exists:
    """Something is known: a label is set, a text or set is not empty."""

    field: Field


@dataclass(frozen=True)
class Has:
    """A processor's feature, an accelerator or a runtime is like the pattern."""

    pattern: Pattern


@dataclass(frozen=True)
class Is:
    """The flag is up."""

    field: Field


@dataclass(frozen=True)
class Not:
    """The contrary."""

    term: Tree


@dataclass(frozen=True)
class And:
    """All of them; of none: always true, which is the empty filter."""

    terms: tuple[Tree, ...]


@dataclass(frozen=True)
class Or:
    """At least one of them."""

    terms: tuple[Tree, ...]


Test: TypeAlias = Matches | Compared | Exists | Has | Is
Tree: TypeAlias = Test | Not | And | Or

EVERY_DEVICE: Final = And(())


def negated(tree: Tree) -> Tree:
    """Return the contrary; twice is what it was."""
    return tree.term if isinstance(tree, Not) else Not(tree)


def all_of(terms: list[Tree]) -> Tree:
    """Return what all of one or more terms say, without a level of its own where none is needed."""
    flat: list[Tree] = []
    for term in terms:
        flat.extend(term.terms if isinstance(term, And) else (term,))
    return flat[0] if len(flat) == 1 else And(tuple(flat))


def any_of(terms: list[Tree]) -> Tree:
    """Return what any of one or more terms says, as `all_of` does."""
    flat: list[Tree] = []
    for term in terms:
        flat.extend(term.terms if isinstance(term, Or) else (term,))
    return flat[0] if len(flat) == 1 else Or(tuple(flat))


def said(tree: Tree) -> str:  # noqa: C901, PLR0911 - a row for each kind of node
    """Return the filter as text, in its one form: read again, it is the same tree."""
    match tree:
        case And(terms):
            parts = (f"({said(one)})" if isinstance(one, Or) else said(one) for one in terms)
            return " and ".join(parts)
        case Or(terms):
            return " or ".join(said(one) for one in terms)
        case Not(Matches(field, patterns)):
            return _matches(field, patterns, "!=", "not in")
        case Not(Compared(field, Op.EQUAL, number)):
            return f"{field.said} != {_number(field, number)}"
        case Not(And() | Or() as term):
            return f"not ({said(term)})"
        case Not(term):
            return f"not {said(term)}"
        case Matches(field, patterns):
            return _matches(field, patterns, "=", "in")
        case Compared(field, op, number):
            return f"{field.said} {op} {_number(field, number)}"
        case Exists(field):
            return f"{field.said} exists"
        case Has(pattern):
            return f"has({_pattern(pattern)})"
        case Is(field):
            return field.said


def _matches(field: Field, patterns: tuple[Pattern, ...], one: str, many: str) -> str:
    if len(patterns) == 1:
        return f"{field.said} {one} {_pattern(patterns[0])}"
    return f"{field.said} {many} ({', '.join(_pattern(pattern) for pattern in patterns)})"


def _pattern(pattern: Pattern) -> str:
    is_bare = all(
        not piece or ("*" not in piece and BARE.fullmatch(piece)) for piece in pattern.pieces
    )
    word = "*".join(pattern.pieces)
    return word if is_bare and word and word.lower() not in KEYWORDS else quoted(pattern.pieces)


def _number(field: Field, number: int) -> str:
    if field.kind is Kind.SIZE and number:
        for unit in _BINARY:
            if number % UNITS[unit] == 0:
                return f"{number // UNITS[unit]}{unit}"
    return str(number)
