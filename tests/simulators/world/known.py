"""What the controller keeps of each device, whatever rollouts are at work on it.

Digests are numbers here. What a heartbeat's digest means is said by `link.fallbacks` alone: devices
that stand alike are asked about once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Final

import numpy as np
from sprat_controller.link import fallbacks
from sprat_controller.link.fallbacks import Account, Ended

from simulators.world.columns import NEVER
from simulators.world.draws import Bools, Ints

ALIAS: Final = "assistant"
NO_DIGEST: Final = 0
BEFORE: Final = 1  # what every device runs when it enrols
NO_ROLLOUT: Final = -1
_BASE: Final = 64  # more than there are digests


class Known:
    """One row for each device.

    Attributes:
        desired: The digest that it should run, or is on its way to.
        proved: What last succeeded on it and still stands.
        bound: Number of the rollout that its newest assignment is of.
        penalty_ms: Until when no rollout starts on it.
        lost_ms: When it was last heard of; NEVER: it is there.
        accounts: What explains what it runs.
    """

    def __init__(self, count: int) -> None:
        """Know devices that run what they ran when they enrolled."""
        self.desired = np.full(count, BEFORE, dtype=np.int64)
        self.proved = np.full(count, BEFORE, dtype=np.int64)
        self.bound = np.full(count, NO_ROLLOUT, dtype=np.int64)
        self.penalty_ms = np.full(count, NEVER, dtype=np.int64)
        self.lost_ms = np.full(count, NEVER, dtype=np.int64)
        self.accounts = Accounts(count)


class Accounts:
    """Of each device which digest is accounted for, and which silent fallback lasts."""

    def __init__(self, count: int) -> None:
        self._accounted = np.full(count, BEFORE, dtype=np.int64)
        self._expected = np.full(count, NO_DIGEST, dtype=np.int64)
        self._found = np.full(count, NO_DIGEST, dtype=np.int64)

    def expected(self, devices: Ints) -> Ints:
        """Return what those that fell back should run by their accounts; else NO_DIGEST."""
        return self._expected[devices]

    def settle(self, devices: Ints, running: Ints, desired: Ints, now: datetime) -> Ints:
        """Take in heartbeats; return the devices that show a fallback that is news.

        Every report of these devices was taken in before.
        """
        # As `link.accounting` has it: what is as it was is not looked at.
        differs = running != self._accounted[devices]
        differs |= self._found[devices] != NO_DIGEST
        if not differs.any():
            return devices[:0]
        which, first = np.unique(devices[differs], return_index=True)
        columns = (*self._columns(which), running[differs][first], desired[differs][first])
        news: list[Ints] = [devices[:0]]
        for place, (accounted, expected, found, runs, wanted) in _alike(columns):
            before = _account(accounted, expected, found)
            after = fallbacks.settle(before, _digests(runs), _digests(wanted), now)
            self._keep(which[place], after)
            if after.news:
                news.append(which[place])
        return np.concatenate(news)

    def explain(self, devices: Ints, digest: int, running: Ints, is_success: Bools) -> None:
        """Take in reports that executions of a digest ended, and what runs after that."""
        if not len(devices):
            return
        columns = (*self._columns(devices), running, is_success.astype(np.int64))
        for place, (accounted, expected, found, runs, success) in _alike(columns):
            name = _digests(runs).get(ALIAS, "")
            ended = Ended(ALIAS, _name(digest), name, bool(success))
            after = fallbacks.explain(_account(accounted, expected, found), ended)
            self._keep(devices[place], after)

    def _columns(self, devices: Ints) -> tuple[Ints, Ints, Ints]:
        return self._accounted[devices], self._expected[devices], self._found[devices]

    def _keep(self, devices: Ints, account: Account) -> None:
        self._accounted[devices] = _number(account.accounted.get(ALIAS))
        lasts = account.fallbacks.get(ALIAS, {})
        self._expected[devices] = _number(lasts.get("expected"))
        self._found[devices] = _number(lasts.get("found"))


def _alike(columns: tuple[Ints, ...]) -> Iterator[tuple[Ints, tuple[int, ...]]]:
    """Yield the places of each combination of numbers, and the combination."""
    packed = np.zeros(len(columns[0]), dtype=np.int64)
    for one in columns:
        packed = packed * _BASE + one
    if (packed == packed[0]).all():
        yield np.arange(len(packed)), tuple(int(one[0]) for one in columns)
        return
    for code in np.unique(packed).tolist():
        place = np.flatnonzero(packed == code)
        yield place, tuple(int(one[place[0]]) for one in columns)


def _name(digest: int) -> str:
    return f"digest-{digest}"


def _number(name: str | None) -> int:
    return int(name.removeprefix("digest-")) if name else NO_DIGEST


def _digests(number: int) -> Mapping[str, str]:
    return {} if number == NO_DIGEST else {ALIAS: _name(number)}


def _account(accounted: int, expected: int, found: int) -> Account:
    if found == NO_DIGEST:
        return Account(_digests(accounted), {})
    lasts = {"expected": _name(expected), "found": _name(found), "at": ""}
    return Account(_digests(accounted), {ALIAS: lasts})
