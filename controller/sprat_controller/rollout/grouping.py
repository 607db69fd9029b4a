"""Which device is in which group of a rollout, and in which order they start. Pure.

- Groups are cut in order, each from what is left; the last takes all that is left. A percentage is
  of all devices of the rollout, rounded up: in a small fleet each step is one device, not none.
- A group for which nobody is left is kept, with no device: groups keep the numbers and names of the
  strategy. Whoever runs them goes past an empty one at once, without soak, gate or promotion.
- Who is in a group is drawn by SHA-256 of the salt (the release) and the device: the same for the
  same release, another for the next. It depends neither on the order of the input nor on the clock.
- It is drawn in proportion from each hardware class, and within a class from each site: everyone
  gets the share of the group that it has of what is left, rounded down or up. Whose remainder is
  rounded up is drawn too, with the remainder as its chance: were it always the largest, the largest
  class would send the first device of every release.
- In the first two groups classes that had no device yet go before that, one device each, as far as
  the group has room: a gate judges each class, and should do so early.
- A late joiner (CONTINUOUS) fills the first group that has not started and is smaller than the
  fleet of now asks; else it is in the last group. No group that runs or ran becomes larger, but for
  the last.
"""

from __future__ import annotations

import heapq
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from sprat_controller.errors import RequestError
from sprat_controller.fleet import target_filter
from sprat_controller.fleet.filters.fields import Facts
from sprat_controller.rollout.strategy import MAX_GROUPS, Group, Strategy

# Groups in which every hardware class is to have a device.
_EARLY: Final = 2
_ALL: Final = 100  # percent
_DECIMALS: Final = 9  # what binary fractions leave behind them is no device
_FACTOR_LEAST: Final = 1.1
_FACTOR_MOST: Final = 5.0
_DRAW_BITS: Final = 64
_OFFSET: Final = "\0\0"  # no class and no site is called so
_LEAST_PERCENT: Final = 0.01

_Stratum = tuple[str, str]  # hardware class, site


@dataclass(frozen=True, slots=True)
class Member:
    """A device of a rollout.

    Attributes:
        device_id: Which.
        hardware_class: Its class; empty: not known.
        site: Its label `site`; empty: it has none.
        facts: What filters of groups ask; None where no group has one.
    """

    device_id: str
    hardware_class: str = ""
    site: str = ""
    facts: Facts | None = None


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a device is.

    Attributes:
        device_id: Which.
        group: Number of its group, from 0.
        position: Its place in the order of starting, over all groups, from 0.
    """

    device_id: str
    group: int
    position: int


@dataclass(frozen=True, slots=True)
class Begun:
    """What of a rollout has started, and stays as it is.

    Attributes:
        groups: How many; they are the first of the strategy.
        devices: How many are in them.
        next_position: The first position after theirs.
        classes: Hardware classes that had a device in them.
    """

    groups: int = 0
    devices: int = 0
    next_position: int = 0
    classes: frozenset[str] = frozenset()


NOTHING: Final = Begun()


def split(
    devices: Sequence[Member], strategy: Strategy, salt: str, begun: Begun = NOTHING
) -> list[Placed]:
    """Return the place of each device, in order of position.

    Args:
        devices: Each once, in any order; none of those that are in groups that have started.
        strategy: Its groups count; as `strategy_said.check` lets it through.
        salt: What is rolled out, such as `model@release`: another one makes another draw.
        begun: Beside these; a percentage is of all of them together.

    Raises:
        ValueError: A group has a filter, and a device has no facts.
    """
    draw = _Draw(salt)
    ordered = draw.ordered(devices)
    left = _by_stratum(ordered)
    seen = {*begun.classes}
    placed: list[Placed] = []
    last, total = len(strategy.groups) - 1, begun.devices + len(devices)
    for number, group in enumerate(strategy.groups[begun.groups :], begun.groups):
        pool = left if number == last else _filtered(left, group, ordered)
        held = sum(map(len, pool.values()))
        size = held if number == last else min(held, _asked(group, total, held))
        # The whole pool needs no draw: there is nothing to choose.
        seats = (
            {stratum: len(members) for stratum, members in pool.items()}
            if size == held
            else _seats(pool, size, draw.of(number), seen if number < _EARLY else None)
        )
        chosen: list[int] = []
        for stratum, count in seats.items():
            if count:
                chosen += pool[stratum][-count:]
                del pool[stratum][-count:]
                seen.add(stratum[0])
        if pool is not left:
            left = _without(left, chosen)
        left = {stratum: members for stratum, members in left.items() if members}
        chosen.sort()
        first = begun.next_position + len(placed)
        placed += [
            Placed(ordered[place].device_id, number, position)
            for position, place in enumerate(chosen, first)
        ]
    return placed


def sizes(strategy: Strategy, devices: int) -> tuple[int, ...]:
    """Return how many devices each group has, of a rollout without filters, to as many devices."""
    left = devices
    found: list[int] = []
    for group in strategy.groups[:-1]:
        size = min(left, _asked(group, devices, left))
        found.append(size)
        left -= size
    return (*found, left)


def join(
    late: Sequence[Member],
    strategy: Strategy,
    salt: str,
    *,
    held: Sequence[int],
    first_open: int,
    next_position: int,
) -> list[Placed]:
    """Return the place of each device that comes to a CONTINUOUS rollout later.

    Args:
        late: Those that are not in it yet.
        strategy: The rollout's.
        salt: As `split` had it.
        held: How many devices each group has so far.
        first_open: The first group that has not started; the number of groups if all have.
        next_position: The first position that is free.

    Raises:
        ValueError: A group has a filter, and a device has no facts.
    """
    draw = _Draw(salt)
    last = len(strategy.groups) - 1
    count = [*held]
    total = sum(held) + len(late)
    suits = [_suits(group) for group in strategy.groups]
    placed: list[Placed] = []
    for position, member in enumerate(draw.ordered(late), next_position):
        number = next(
            (
                one
                for one in range(first_open, last)
                if count[one] < _asked(strategy.groups[one], total, total) and suits[one](member)
            ),
            last,
        )
        count[number] += 1
        placed.append(Placed(member.device_id, number, position))
    return placed


def ramp(
    first_percent: float, factor: float = 2.0, *, canary: int = 0, like: Group | None = None
) -> tuple[Group, ...]:
    """Return groups that grow: each `factor` times as large as the one before, then the rest.

    Args:
        first_percent: Of all devices, 0.01 to 100.
        factor: 1.1 to 5.
        canary: Devices of one more group before them; 0: none.
        like: What they have beside sizes and names: threshold, soak, gate, promotion.

    Raises:
        RequestError: A number is out of its range, or there would be more groups than may be.
    """
    if not _FACTOR_LEAST <= factor <= _FACTOR_MOST:
        raise _wrong(f"a factor of {_FACTOR_LEAST:g} to {_FACTOR_MOST:g}", factor)
    return _growing(first_percent, factor, canary, like or Group())


def even(percent: float, *, canary: int = 0, like: Group | None = None) -> tuple[Group, ...]:
    """Return groups of one size, the last of what is left.

    Args:
        percent: Of all devices, 0.01 to 100.
        canary: As for `ramp`.
        like: As for `ramp`.

    Raises:
        RequestError: A number is out of its range, or there would be more groups than may be.
    """
    return _growing(percent, 1.0, canary, like or Group())


# Places in the drawn order of all devices, the first ones last, where they are taken from. Numbers,
# and no object for each device: what the garbage collector goes through again and again costs more
# than all else.
_Pool = dict[_Stratum, list[int]]


class _Draw:
    """Chance that is the same whenever it is asked for the same."""

    def __init__(self, salt: str) -> None:
        self._begun = sha256(f"{salt}\0".encode())

    def rank(self, word: str) -> bytes:
        """Return what a device is ordered by."""
        begun = self._begun.copy()
        begun.update(word.encode())
        return begun.digest()

    def ordered(self, devices: Iterable[Member]) -> list[Member]:
        """Return the devices in the order that was drawn."""
        return sorted(devices, key=lambda member: self.rank(member.device_id))

    def of(self, number: int) -> Callable[[str], bytes]:
        """Return the draw of one group: names in, ranks out."""
        return lambda word: self.rank(f"{number}\0{word}")


def _by_stratum(ordered: Sequence[Member]) -> _Pool:
    found: defaultdict[_Stratum, list[int]] = defaultdict(list)
    for place, member in enumerate(ordered):
        found[member.hardware_class, member.site].append(place)
    for places in found.values():
        places.reverse()
    return found


def _asked(group: Group, devices: int, left: int) -> int:
    """Return how many devices a group asks for, of `devices` in all of which `left` are left."""
    if group.devices:
        return group.devices
    if group.percent:
        return math.ceil(round(group.percent * devices / _ALL, _DECIMALS))
    return left


def _suits(group: Group) -> Callable[[Member], bool]:
    if not group.filter:
        return lambda _: True
    tell = target_filter.predicate(target_filter.parse(group.filter))

    def suits(member: Member) -> bool:
        if member.facts is None:
            raise ValueError(f"group {group.name!r} has a filter, and {member.device_id} no facts")
        return tell(member.facts)

    return suits


def _filtered(left: _Pool, group: Group, ordered: Sequence[Member]) -> _Pool:
    """Return those that the group's filter lets in; `left` itself if it has none."""
    if not group.filter:
        return left
    suits = _suits(group)
    found = {
        stratum: [place for place in members if suits(ordered[place])]
        for stratum, members in left.items()
    }
    return {stratum: members for stratum, members in found.items() if members}


def _without(left: _Pool, chosen: Iterable[int]) -> _Pool:
    gone = frozenset(chosen)
    return {
        stratum: [place for place in members if place not in gone]
        for stratum, members in left.items()
    }


def _seats(
    pool: _Pool, size: int, draw: Callable[[str], bytes], seen: set[str] | None
) -> dict[_Stratum, int]:
    """Return how many of each stratum are in, in all `size`.

    Args:
        pool: Who can be.
        size: At most as many as there are.
        draw: The group's.
        seen: Classes that had a device before, if the others go first; None: none goes first.
    """
    sites: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for (hardware_class, site), members in pool.items():
        sites[hardware_class][site] = len(members)
    held = {name: sum(by_site.values()) for name, by_site in sites.items()}
    by_class = _shares(held, size, draw)
    if seen is not None:
        _bring_in(by_class, held, seen, draw)
    found: dict[_Stratum, int] = {}
    for name, seats in by_class.items():
        of_class = _shares(sites[name], seats, lambda site, name=name: draw(f"{name}\0{site}"))
        found.update({(name, site): count for site, count in of_class.items()})
    return found


def _shares(held: Mapping[str, int], size: int, draw: Callable[[str], bytes]) -> dict[str, int]:
    """Return `size` in proportion to what each holds: its exact share rounded down or up.

    The shares lie side by side in an order that is drawn, over a line of marks one apart whose
    first is drawn: each gets as many as there are marks in it. So the chance of one more is the
    remainder of the share (systematic sampling: Madow 1949).
    """
    total = sum(held.values())
    if size == total:
        return dict(held)
    # All is in whole numbers: a seat is `total` units, a share `held` times `size` of them.
    ends = (int.from_bytes(draw(_OFFSET)[: _DRAW_BITS // 8]) * total) >> _DRAW_BITS
    marks, found = 0, dict[str, int]()
    for name in sorted(held, key=draw):
        ends += held[name] * size
        upto = ends // total
        found[name], marks = upto - marks, upto
    return found


def _bring_in(
    by_class: dict[str, int], held: Mapping[str, int], seen: set[str], draw: Callable[[str], bytes]
) -> None:
    """Give each class that had no device yet one, from those that have most to give."""
    absent = sorted((name for name in held if not by_class[name] and name not in seen), key=draw)
    # A class that was there before can give all that it has; one that is new keeps its one.
    spare = [
        (-(seats - (name not in seen)), draw(name), name)
        for name, seats in by_class.items()
        if seats > (name not in seen)
    ]
    heapq.heapify(spare)
    for name in absent:
        if not spare:
            return
        most, rank, giver = spare[0]
        by_class[giver] -= 1
        by_class[name] = 1
        if most + 1:
            heapq.heapreplace(spare, (most + 1, rank, giver))
        else:
            heapq.heappop(spare)


def _growing(first: float, factor: float, canary: int, like: Group) -> tuple[Group, ...]:
    if not _LEAST_PERCENT <= first <= _ALL:
        raise _wrong(f"a first group of {_LEAST_PERCENT:g} to 100 percent", first)
    if canary < 0:
        raise _wrong("0 or more devices before the first group", canary)
    groups: list[Group] = []
    size, done = float(first), 0.0
    while done + size < _ALL and len(groups) < MAX_GROUPS:
        done += size
        # Named by what has had its turn after them, as the ladder's are.
        groups.append(_resized(like, f"{round(done, 2):g} %", percent=round(size, 4)))
        size *= factor
    if canary:
        groups.insert(0, _resized(like, "canary", devices=canary))
    if len(groups) + 1 > MAX_GROUPS:
        more = f"a larger first group or factor: at most {MAX_GROUPS} groups"
        raise _wrong(more, f"{first:g} percent times {factor:g}")
    return (*groups, _resized(like, "rest"))


def _resized(like: Group, name: str, *, devices: int = 0, percent: float = 0) -> Group:
    return Group(
        name=name,
        devices=devices,
        percent=percent,
        success_percent=like.success_percent,
        soak_s=like.soak_s,
        gate=like.gate,
        waits_for_promotion=like.waits_for_promotion,
    )


def _wrong(expected: str, found: object) -> RequestError:
    return RequestError("invalid_rollout", f"ramp: expected {expected}, found {found}")
