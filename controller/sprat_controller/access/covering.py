"""Which of many scopes covers a device: told in as many look-ups as fields are asked. Pure.

Most scopes say in plain words of what a label or a name must be one, `site = lyon`, and so does
each part of an `or`: these are found by what the device has there. Whatever else a scope may ask
is asked one by one. It is put together of scopes once and keeps nothing of devices.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sprat_controller.access.scopes import Scope
from sprat_controller.fleet import target_filter
from sprat_controller.fleet.filters.fields import Facts, Field, Kind
from sprat_controller.fleet.filters.tree import Matches, Or, Tree
from sprat_controller.fleet.target_filter import Predicate

_Found = dict[str, int]  # the first scope that a text is in, by the text


class Covering:
    """Some scopes in an order."""

    def __init__(self, scopes: Sequence[Scope]) -> None:
        """Put them together."""
        by_field: dict[Field, _Found] = {}
        others: list[tuple[int, Predicate]] = []
        for position, scope in enumerate(scopes):
            for term in _any_terms(scope.tree):
                texts = _whole_texts(term)
                if texts is None:
                    others.append((position, target_filter.predicate(term)))
                    continue
                field, wanted = texts
                found = by_field.setdefault(field, {})
                for text in wanted:
                    found.setdefault(text, position)
        self._labels = [
            (field.name, found) for field, found in by_field.items() if field.kind is Kind.LABEL
        ]
        self._texts = [
            (field.name, found) for field, found in by_field.items() if field.kind is Kind.TEXT
        ]
        self._others = others
        self._none = len(scopes)

    def first(self, device: Facts) -> int | None:
        """Return the position of the first that covers the device; None: none does."""
        first = self._none
        for name, found in self._labels:
            text = device.labels.get(name)
            if text is not None:
                first = min(first, found.get(text, first))
        for name, found in self._texts:
            first = min(first, found.get(getattr(device, name), first))
        for position, tell in self._others:
            if position >= first:
                break
            if tell(device):
                first = position
                break
        return None if first == self._none else first


def _any_terms(tree: Tree) -> Iterator[Tree]:
    if isinstance(tree, Or):
        yield from tree.terms
    else:
        yield tree


def _whole_texts(term: Tree) -> tuple[Field, Sequence[str]] | None:
    """Return the field and the texts of which it must be one; None: it is asked otherwise."""
    if not isinstance(term, Matches) or term.field.kind not in (Kind.LABEL, Kind.TEXT):
        return None
    if any(len(pattern.pieces) != 1 for pattern in term.patterns):
        return None
    # What is not known meets no test, and an empty text is not known.
    return term.field, [pattern.pieces[0] for pattern in term.patterns if pattern.pieces[0]]
