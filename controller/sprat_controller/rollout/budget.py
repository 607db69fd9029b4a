"""Which of the devices whose turn has come may start now: pace and disruption budgets. Pure.

- The queue is gone through in its order. What the pace holds, it holds for all that follow; what a
  budget holds, it holds only for devices of its label's value: a full site never holds up another.
- A device that is down already has its slot: to start on it takes no other. One that failed and is
  offline keeps its slot until it is heard of, succeeds elsewhere or is removed.
- A percentage is of the devices with that value in the fleet, rounded down, and at least one: else
  a site of three would never change.
- The minute of the pace slides: never more than so many starts in any 60 s.
- An emergency override skips all of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from sprat_proto.states import ReasonCode

from sprat_controller.rollout.strategy import DisruptionBudget, Pace, Strategy

PACE_WINDOW: Final = timedelta(seconds=60)
_ALL: Final = 100  # percent

# How many devices, by label and by its value; devices without the label stand under ''.
Counts = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class Candidate:
    """A queued execution whose turn has come.

    Attributes:
        execution_id: Which.
        labels: Of its device: at least those that the budgets name; a missing one counts as ''.
        is_down: Its device counts in `Load.down` already.
    """

    execution_id: str
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    is_down: bool = False


@dataclass(frozen=True)
class Load:
    """What is under way now.

    Attributes:
        in_progress: Executions of this rollout that are IN_PROGRESS.
        starts_last_minute: Starts of this rollout within `PACE_WINDOW`.
        oldest_start_at: The first of those; None: there is none.
        down: Devices that are down, over all rollouts, for each label that a budget names.
        fleet: All devices, for each label that a budget in percent names.
    """

    in_progress: int = 0
    starts_last_minute: int = 0
    oldest_start_at: datetime | None = None
    down: Counts = field(default_factory=dict[str, Mapping[str, int]])
    fleet: Counts = field(default_factory=dict[str, Mapping[str, int]])


@dataclass(frozen=True)
class Held:
    """An execution that may not start now.

    Attributes:
        execution_id: Which.
        code: RATE_LIMIT or DISRUPTION_BUDGET.
        limit: Which limit, and how it stands, in words.
    """

    execution_id: str
    code: ReasonCode
    limit: str


@dataclass(frozen=True)
class Admission:
    """Which may start, and which may not, both in the queue's order.

    Attributes:
        starts: Execution ids.
        held: The others, each with the first limit that holds it.
        again_at: When the pace lets the next one start by itself; None: that waits for no time.
    """

    starts: tuple[str, ...]
    held: tuple[Held, ...]
    again_at: datetime | None = None


def admit(strategy: Strategy, load: Load, queue: Sequence[Candidate]) -> Admission:
    """Return which of the queue may start now.

    Args:
        strategy: Its pace, budgets and override count.
        load: What is under way now.
        queue: The head of the queue, in the order in which they are to start.
    """
    if strategy.override:
        return Admission(tuple(one.execution_id for one in queue), ())
    pace, slots = strategy.pace, _Slots(strategy.budgets, load)
    starts: list[str] = []
    held: list[Held] = []
    for one in queue:
        limit = _over_pace(pace, load, len(starts))
        code = ReasonCode.RATE_LIMIT
        if limit is None:
            limit, code = slots.take(one), ReasonCode.DISRUPTION_BUDGET
        if limit is None:
            starts.append(one.execution_id)
        else:
            held.append(Held(one.execution_id, code, limit))
    return Admission(tuple(starts), tuple(held), _again_at(pace, load, held))


def exhausted(strategy: Strategy, load: Load) -> dict[str, frozenset[str]]:
    """Return, by label, the values that have no free slot.

    Devices of these, but for those that are down already, may be left out of the queue's head: so
    a site that is full does not hide others behind its own long queue.
    """
    if strategy.override:
        return {}
    slots = _Slots(strategy.budgets, load)
    found: dict[str, set[str]] = {}
    for budget in strategy.budgets:
        values = load.down.get(budget.label, {})
        full = {value for value in values if not slots.has_room(budget, value)}
        found.setdefault(budget.label, set()).update(full)
    return {label: frozenset(values) for label, values in found.items() if values}


def allowed(budget: DisruptionBudget, devices: int) -> int:
    """Return how many devices may be down of those with one value of the budget's label.

    Args:
        budget: The budget.
        devices: How many have that value in the whole fleet.
    """
    if budget.max_unavailable:
        return budget.max_unavailable
    return max(1, devices * budget.max_unavailable_percent // _ALL)


class _Slots:
    """What is down by label value, and what was given out since."""

    def __init__(self, budgets: Sequence[DisruptionBudget], load: Load) -> None:
        self._budgets = budgets
        self._load = load
        # Two budgets may name the same label: what starts is counted once for each label.
        self._labels = frozenset(budget.label for budget in budgets)
        self._given: Counter[tuple[str, str]] = Counter()

    def take(self, one: Candidate) -> str | None:
        """Take a slot in each budget; if one is full take none, and say which."""
        if one.is_down or not self._budgets:
            return None
        for budget in self._budgets:
            value = one.labels.get(budget.label, "")
            if not self.has_room(budget, value):
                return self._words(budget, value)
        self._given.update(self._places(one))
        return None

    def has_room(self, budget: DisruptionBudget, value: str) -> bool:
        """Tell whether one more device of this value may be down."""
        return self._down(budget.label, value) < self._allowed(budget, value)

    def _places(self, one: Candidate) -> Iterable[tuple[str, str]]:
        return ((label, one.labels.get(label, "")) for label in self._labels)

    def _down(self, label: str, value: str) -> int:
        before = self._load.down.get(label, {}).get(value, 0)
        return before + self._given[label, value]

    def _allowed(self, budget: DisruptionBudget, value: str) -> int:
        return allowed(budget, self._load.fleet.get(budget.label, {}).get(value, 0))

    def _words(self, budget: DisruptionBudget, value: str) -> str:
        whose = f"{budget.label}={value}" if value else f"no {budget.label}"
        down, most = self._down(budget.label, value), self._allowed(budget, value)
        return f"{whose} ({down} down, of at most {most})"


def _over_pace(pace: Pace, load: Load, started: int) -> str | None:
    """Return which part of the pace allows no further start."""
    under_way = load.in_progress + started
    if pace.max_in_progress and under_way >= pace.max_in_progress:
        return f"max_in_progress ({under_way} are under way, of at most {pace.max_in_progress})"
    starts = load.starts_last_minute + started
    if pace.starts_per_minute and starts >= pace.starts_per_minute:
        most = pace.starts_per_minute
        return f"starts_per_minute ({starts} started within a minute, of at most {most})"
    return None


def _again_at(pace: Pace, load: Load, held: Sequence[Held]) -> datetime | None:
    """Return when a start of the last minute counts no more, if that is what is waited for."""
    is_waited_for = any(one.code is ReasonCode.RATE_LIMIT for one in held)
    is_full = bool(pace.starts_per_minute) and load.starts_last_minute >= pace.starts_per_minute
    if not is_waited_for or not is_full or load.oldest_start_at is None:
        return None
    return load.oldest_start_at + PACE_WINDOW
