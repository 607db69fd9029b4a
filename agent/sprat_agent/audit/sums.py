"""Sums by the hour: how often something happened, and how much of it there was. Pure.

What is alike within an hour (by the clock of the wall, UTC) is one group, and becomes one record:
what was counted is in exactly one record, whatever the clock did meanwhile. An hour whose clock was
set back may have two records; together they are right.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec
from msgspec import Struct
from sprat_proto import canonical

HOUR: Final = timedelta(hours=1)
MOST_GROUPS: Final = 256  # of one tag in an hour; who comes later is one of the others
OTHERS: Final = "others"
_CALLER: Final = "caller"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Addend:
    """What happened once.

    Attributes:
        tag: Of the record that tells the sum.
        subject: To which thing.
        names: What it is told apart by; `caller` is who.
        amounts: What is added up; `count` is added by itself.
        heights: What the greatest is told of.
    """

    tag: str
    subject: str
    names: Mapping[str, str]
    amounts: Mapping[str, int] = field(default_factory=dict[str, int])
    heights: Mapping[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True)
class Group:
    """What is alike within an hour."""

    hour: int  # since 1970
    tag: str
    subject: str
    names: tuple[tuple[str, str], ...]  # in order


class Sum(Struct, frozen=True, forbid_unknown_fields=True):
    """One group and what it comes to."""

    hour: int
    tag: str
    subject: str
    names: dict[str, str]
    amounts: dict[str, int]
    heights: dict[str, int]

    @property
    def began(self) -> datetime:
        """When its hour began."""
        return began(self.hour)

    def detail(self) -> dict[str, object]:
        """Return what its record says."""
        hour = self.began.isoformat(timespec="minutes")
        return {"hour": hour, **self.names, **self.amounts, **self.heights}


_DECODER: Final = msgspec.json.Decoder(tuple[Sum, ...])


@dataclass
class _Figures:
    amounts: Counter[str] = field(default_factory=Counter[str])
    heights: dict[str, int] = field(default_factory=dict[str, int])

    def add(self, amounts: Mapping[str, int], heights: Mapping[str, int]) -> None:
        self.amounts.update(amounts)
        for name, height in heights.items():
            self.heights[name] = max(height, self.heights.get(name, 0))


class Sums:
    """The sums that no record tells yet."""

    def __init__(self) -> None:
        self._groups: dict[Group, _Figures] = {}
        self._sizes: Counter[tuple[int, str]] = Counter()  # groups by hour and tag

    def __len__(self) -> int:
        return len(self._groups)

    def add(self, at: datetime, one: Addend) -> None:
        """Count one more, at a moment with a time zone."""
        group = _group(hour_of(at), one.tag, one.subject, one.names)
        self._into(group, {"count": 1, **one.amounts}, one.heights)

    def put_back(self, sums: Iterable[Sum]) -> None:
        """Take back what was taken and is not in a record."""
        for one in sums:
            group = _group(one.hour, one.tag, one.subject, one.names)
            self._into(group, one.amounts, one.heights)

    def take_ended(self, now: datetime) -> tuple[Sum, ...]:
        """Return the sums of every hour but the present one; they are here no more."""
        present = hour_of(now)
        return self._take([group for group in self._groups if group.hour != present])

    def take_all(self) -> tuple[Sum, ...]:
        """Return all sums; they are here no more."""
        return self._take(list(self._groups))

    def all(self) -> tuple[Sum, ...]:
        """Return all sums, in order of hour and group."""
        return self._of(self._groups)

    def _into(self, group: Group, amounts: Mapping[str, int], heights: Mapping[str, int]) -> None:
        if group not in self._groups:
            group = self._within_bound(group)
        if group not in self._groups:
            self._sizes[group.hour, group.tag] += 1
        self._groups.setdefault(group, _Figures()).add(amounts, heights)

    def _within_bound(self, group: Group) -> Group:
        """Return the group, or that of the others: callers may come without end."""
        if self._sizes[group.hour, group.tag] < MOST_GROUPS:
            return group
        names = {**dict(group.names), _CALLER: OTHERS}
        return _group(group.hour, group.tag, group.subject, names)

    def _take(self, groups: list[Group]) -> tuple[Sum, ...]:
        taken = self._of(groups)
        for group in groups:
            del self._groups[group]
            self._sizes[group.hour, group.tag] -= 1
        self._sizes = +self._sizes
        return taken

    def _of(self, groups: Iterable[Group]) -> tuple[Sum, ...]:
        return tuple(
            Sum(
                group.hour,
                group.tag,
                group.subject,
                dict(group.names),
                dict(self._groups[group].amounts),
                dict(self._groups[group].heights),
            )
            for group in sorted(groups, key=_order)
        )


def hour_of(at: datetime) -> int:
    """Return how many whole hours passed from 1970 to a moment."""
    return (at - _EPOCH) // HOUR


def began(hour: int) -> datetime:
    """Return when an hour began."""
    return _EPOCH + hour * HOUR


def encode(sums: Iterable[Sum]) -> bytes:
    """Return sums as they are kept on the disk."""
    return canonical.encode(tuple(sums))


def decode(data: bytes) -> tuple[Sum, ...]:
    """Read what `encode` returned.

    Raises:
        msgspec.DecodeError: It is something else.
    """
    return _DECODER.decode(data)


def _group(hour: int, tag: str, subject: str, names: Mapping[str, str]) -> Group:
    return Group(hour, tag, subject, tuple(sorted(names.items())))


def _order(group: Group) -> tuple[int, str, str, tuple[tuple[str, str], ...]]:
    return group.hour, group.tag, group.subject, group.names
