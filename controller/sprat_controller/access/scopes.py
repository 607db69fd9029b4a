"""Which devices a permission is over: a target filter on what people set of a device. Pure.

A scope may ask for a device's name, group, site and labels only. What a device says of itself
(hardware, state) is no ground to let anybody touch it: it could move itself out of reach.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from sprat_proto import canonical

from sprat_controller.errors import RequestError
from sprat_controller.fleet import target_filter
from sprat_controller.fleet.filters.fields import Facts, Field, Kind
from sprat_controller.fleet.filters.tokens import FilterError
from sprat_controller.fleet.filters.tree import (
    EVERY_DEVICE,
    And,
    Has,
    Not,
    Or,
    Tree,
    all_of,
    any_of,
    said,
)
from sprat_controller.fleet.target_filter import Predicate

_SET_BY_PEOPLE: Final = frozenset({"device", "group"})  # beside labels
_NAMES: Final = "device"
# More than a filter may have tests: what has one `or` of plain tests is always told apart.
_MOST_CASES: Final = 256
_MOST_SAID: Final = 100  # characters

Cases: TypeAlias = list[list[str]]


@dataclass(frozen=True)
class Scope:
    """Some of the devices, or all; there is none of no device: that is no permission at all."""

    tree: Tree
    _tell: Predicate = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Gone through here once, and not at each decision.
        object.__setattr__(self, "_tell", target_filter.predicate(self.tree))

    @property
    def is_everything(self) -> bool:
        """It is over the whole fleet, and over what is about no device."""
        return self.tree == EVERY_DEVICE

    @property
    def text(self) -> str:
        """As a filter, in its one form; empty: everything."""
        return said(self.tree)

    @property
    def asks_names(self) -> bool:
        """It tells devices apart by their names."""
        return any(asked is not None and asked.name == _NAMES for asked in _fields(self.tree))

    def covers(self, device: Facts) -> bool:
        """Tell whether a device is in it."""
        return self._tell(device)

    def contains(self, other: Scope) -> bool:
        """Tell whether all that is in the other is surely in this one, whatever devices there are.

        It looks at how they are written, so it may say no of two that are the same in other words.
        """
        return self.contains_cases(other.cases)

    @property
    def cases(self) -> Cases:
        """When a device is in it: in each of these cases all that is said of it is true.

        Kept beside what may only reach so far, a database tells too what contains it (`within`).
        """
        return [[*case] for case in _cases(self.tree)]

    def contains_cases(self, cases: Cases) -> bool:
        """Tell the same of what another scope's `cases` were."""
        return all(_follows(self.tree, frozenset(case)) for case in cases)

    def narrowed(self, by: Scope) -> Scope:
        """Return what is in both: this one contains it, and so does the other."""
        terms = dict.fromkeys((*_all_terms(self.tree), *_all_terms(by.tree)))
        return Scope(all_of(list(terms)))

    def widened(self, by: Scope) -> Scope:
        """Return what is in either."""
        if self.is_everything or by.is_everything:
            return EVERYTHING
        return Scope(any_of(list(dict.fromkeys((*_any_terms(self.tree), *_any_terms(by.tree))))))


EVERYTHING: Final = Scope(EVERY_DEVICE)


def read(text: str) -> Scope:
    """Return the scope of a target filter; empty: everything.

    Raises:
        RequestError: `bad_scope`: it is no filter, or asks what people do not set.
    """
    try:
        tree = target_filter.parse(text)
    except FilterError as error:
        raise RequestError("bad_scope", f"scope: {error.message}") from error
    for asked in _fields(tree):
        if asked is None or not _is_set_by_people(asked):
            found = "has(...)" if asked is None else asked.said
            raise RequestError(
                "bad_scope",
                "expected a scope over what people set of a device (site, label.KEY, group and"
                f" device), found {found}, which the device says itself",
            )
    return Scope(tree)


def in_cases(tree: Tree) -> str:
    """Return how `Scope.cases` name a part of a filter: as it is said, or by the digest of that."""
    text = said(tree)
    # A target may name 10,000 devices, and that would stand in each case.
    return text if len(text) <= _MOST_SAID else canonical.sha256_hex(text.encode())


def _is_set_by_people(field: Field) -> bool:
    return field.kind is Kind.LABEL or field.name in _SET_BY_PEOPLE


def _fields(tree: Tree) -> Iterator[Field | None]:
    """Yield what a filter asks; None stands for `has`, which asks several."""
    match tree:
        case And(terms) | Or(terms):
            for term in terms:
                yield from _fields(term)
        case Not(term):
            yield from _fields(term)
        case Has():
            yield None
        case _:
            yield tree.field


def _cases(tree: Tree) -> tuple[tuple[str, ...], ...]:
    """Return what `Scope.cases` are; an `or` that would make too many is left as it is said."""
    match tree:
        case Or(terms):
            return tuple(dict.fromkeys(one for term in terms for one in _cases(term)))
        case And(terms):
            found: tuple[tuple[str, ...], ...] = ((),)
            for term in terms:
                more = _cases(term)
                if len(found) * len(more) > _MOST_CASES:
                    more = ((in_cases(term),),)
                both = (tuple(dict.fromkeys((*one, *other))) for one in found for other in more)
                found = tuple(dict.fromkeys(both))
            return found
        case _:
            return ((in_cases(tree),),)


def _follows(tree: Tree, case: frozenset[str]) -> bool:
    """Tell whether a filter is surely true where all of a case is; `within` asks it in SQL."""
    if isinstance(tree, And):
        return all(_follows(term, case) for term in tree.terms)
    if in_cases(tree) in case:
        return True
    return isinstance(tree, Or) and any(_follows(term, case) for term in tree.terms)


def _all_terms(tree: Tree) -> tuple[Tree, ...]:
    return tree.terms if isinstance(tree, And) else (tree,)


def _any_terms(tree: Tree) -> tuple[Tree, ...]:
    return tree.terms if isinstance(tree, Or) else (tree,)
