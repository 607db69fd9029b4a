"""The `Book` of a simulated world: one rollout's rows as columns, its counters kept as they change.

It means what `rollout.sql_book` means, for a million rows: a read costs what its chunks cost, a
decision what its rows cost. What devices report comes in through `simulators.world.inbound`. Books
of several rollouts to the same devices know of each other as the rows of a database would.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Protocol, TypeAlias, assert_never

import numpy as np
from msgspec import structs
from sprat_controller.rollout import deadlines, precedence, retries
from sprat_controller.rollout import facts as decided
from sprat_controller.rollout.budget import PACE_WINDOW, Candidate, Load, exhausted
from sprat_controller.rollout.facts import Facts, GroupFacts, Tally
from sprat_controller.rollout.gates import rules as gates
from sprat_controller.rollout.gates.judgement import Judgement
from sprat_controller.rollout.gates.measures import ClassFacts
from sprat_controller.rollout.grouping import Member, Placed
from sprat_controller.rollout.phases import (
    ExecutionEvent,
    RolloutEvent,
)
from sprat_controller.rollout.precedence import Ends
from sprat_controller.rollout.retries import goes_on, longest_delay_s, may_pass
from sprat_controller.rollout.strategy import Membership, Strategy
from sprat_proto.states import ExecutionState, GroupState, ReasonCode, RolloutState, Step

from simulators.turning import ENDING, OPEN, TURNS, Turning, TurningGroup
from simulators.world.columns import (
    IN_PROGRESS,
    NEVER,
    NOTHING,
    QUEUED,
    STATES,
    STEPS,
    SUCCEEDED,
    Columns,
    code_number,
    state_number,
    step_number,
)
from simulators.world.draws import Bools, Ints, Purpose, uniform
from simulators.world.due import Due
from simulators.world.known import Known
from simulators.world.openings import BEGIN, moment, ms

NEW: Final = 2  # the digest of what the first rollout brings
CHUNK: Final = 10_000
SITE: Final = "site"
_LONG_S: Final = 366 * 86_400  # longer than any step may take
_BLOCK: Final = 65_536  # rows looked at together, for the head of the queue
_UNFINISHED: Final = (ExecutionState.QUEUED, ExecutionState.IN_PROGRESS)
_ENDS_BADLY: Final = (ExecutionEvent.FAIL, ExecutionEvent.TIME_OUT, ExecutionEvent.ROLL_BACK)
_NOBODY: Final = np.zeros(0, dtype=np.int64)
_NO_PROGRESS: Final = code_number(ReasonCode.NO_PROGRESS)
_OFFLINE: Final = code_number(ReasonCode.OFFLINE)
_DEADLINE_PASSED: Final = code_number(ReasonCode.DEADLINE_PASSED)
_DOWNLOADING: Final = step_number(Step.DOWNLOADING)
_ROLLING_BACK: Final = step_number(Step.ROLLING_BACK)
_OfRows: TypeAlias = (
    decided.Assign
    | decided.TimeOut
    | decided.Remove
    | decided.Excuse
    | decided.Readmit
    | decided.Cancel
    | decided.Revert
)


class Outside(Protocol):
    """The devices, as far as a controller reaches them."""

    def give(self, rows: Ints, at_ms: int, *, is_way_back: bool) -> None:
        """Give devices the work of these rows, forward or back to what they ran before."""
        ...

    def withdraw(self, rows: Ints, at_ms: int) -> None:
        """The work of these rows ended, or is not wanted any more: their devices are told."""
        ...

    def ended(self, rows: Ints, at_ms: int) -> None:
        """Take down that these became final, or that what had succeeded is no longer so."""
        ...

    def turned(self, state: RolloutState, at_ms: int) -> None:
        """Take down that the rollout came into this state."""
        ...

    def joined(self, rows: Ints, at_ms: int) -> None:
        """Take down that these rows are there now: devices joined a CONTINUOUS rollout."""
        ...


@dataclass
class Group(TurningGroup):
    """A group's row."""

    judgement: Judgement | None = None  # of its gate, as it stood last


@dataclass
class _Pending:
    """Rows that something is to be done to; what no longer needs it is left out."""

    rows: Ints = field(default_factory=lambda: _NOBODY)

    def add(self, rows: Ints) -> None:
        if len(rows):
            self.rows = np.union1d(self.rows, rows)

    def first(self, still: Bools, chunk: int, now: Bools | None = None) -> tuple[str, ...]:
        """Keep those that still need it; return the first of them to whom it can be done now."""
        turn = self.rows[still] if now is None else self.rows[still & now]
        self.rows = self.rows[still]
        return ids(turn[:chunk])


def ids(rows: Ints) -> tuple[str, ...]:
    """Return the ids of executions."""
    return tuple(map(str, rows.tolist()))


def rows_of(executions: Sequence[str]) -> Ints:
    """Return the rows of ids."""
    return np.array([int(one) for one in executions], dtype=np.int64)


@dataclass
class Place:
    """Where a rollout stands among others to the same devices.

    Attributes:
        device: Of each row which.
        known: What is kept of devices.
        rivals: The books of all rollouts, oldest first; this one's is added.
        number: This rollout's.
        digest: What it brings.
        salt: What is rolled out, for `grouping`.
        member: Who a device is, when it joins.
        facts: What the gate of a group judges by.
    """

    device: Ints
    known: Known
    rivals: list[MemoryBook] = field(default_factory=list["MemoryBook"])
    number: int = 0
    digest: int = NEW
    salt: str = ""
    member: Callable[[int], Member] = lambda device: Member(str(device))
    facts: Callable[[int], dict[str, ClassFacts]] = lambda _group: {}


class MemoryBook(Turning[Group]):
    """One rollout; ids of executions are their rows.

    Attributes:
        columns: The rows.
        device: Of each row which; of rows that nobody joined yet nothing is said.
        state, groups, abort: As they stand.
        due_at: When to look again, as the runner said last.
        is_at_rest: The runner has nothing to do until then, or until something is reported.
    """

    def __init__(
        self,
        strategy: Strategy,
        columns: Columns,
        sites: Sequence[str],
        outside: Outside,
        *,
        place: Place | None = None,
        seed: int = 0,
        chunk: int = CHUNK,
        tick_ms: int = 1_000,
    ) -> None:
        """Keep a rollout that is READY.

        Args:
            strategy: Its budgets may name the label `site` only.
            columns: Its executions, QUEUED.
            sites: Names, by number.
            outside: The devices.
            place: None: there is no other rollout, and row n is of device n.
            seed: Of the delays before retries.
            chunk: The most rows that one decision carries.
            tick_ms: How finely times are sorted; what is due is found at the same time anyway.

        Raises:
            ValueError: A budget names another label.
        """
        for budget in strategy.budgets:
            if budget.label != SITE:
                raise ValueError(
                    f"devices of a world have the label {SITE!r}, not {budget.label!r}"
                )
        self.strategy = strategy
        self.columns = columns
        super().__init__("the rollout", [Group() for _ in strategy.groups])
        self.due_at: datetime | None = None
        self.is_at_rest = False
        self._outside = outside
        self._seed = seed
        everyone = np.arange(columns.count, dtype=np.int64)
        place = place or Place(everyone, Known(columns.count))
        self._place = place
        self._known = place.known
        self._rivals = place.rivals
        place.rivals.append(self)
        self.number = place.number
        joiners = len(columns.state) - columns.count
        self.device = np.concatenate([place.device, np.zeros(joiners, dtype=np.int64)])
        self._row = np.full(len(place.known.desired), NOTHING, dtype=np.int64)
        self._row[place.device] = everyone
        # What each device had proved when it was given this rollout's release.
        self._proved_before = np.zeros(len(columns.state), dtype=np.int64)
        self._joiners: deque[int] = deque()
        self._gated = {n: one.gate for n, one in enumerate(strategy.groups) if one.gate}
        self._to_judge: set[int] = set()
        self._is_continuous = strategy.membership is Membership.CONTINUOUS
        self._is_plain = not (
            strategy.download_window or strategy.activate_window or self._is_continuous
        )
        self._step_limits = _step_limits(strategy)
        self._execution_ms = strategy.deadlines.execution_s * 1000
        tries = range(strategy.retries.attempts)
        self._longest_delays = np.array(
            [longest_delay_s(strategy.retries, one) for one in tries], dtype=np.int64
        )
        self._chunk = chunk
        self._sites = sites
        self._labels = [{SITE: name} for name in sites]
        self._fleet = {SITE: self._devices_by_site()}
        self._head = 0  # no row before it is ready
        self._overdue, self._silent = _Pending(), _Pending()
        self._returned, self._removed = _Pending(), _Pending()
        self._deadlines = Due(columns.deadline_ms, tick_ms)
        self._retries = Due(columns.retry_ms, tick_ms)
        self._silences = Due(columns.silent_ms, tick_ms)
        self._penalties = Due(columns.penalty_ms, tick_ms)
        self._timetables = self._deadlines, self._retries, self._silences, self._penalties
        # What holds rows back until its time comes.
        self._held = (self._retries, columns.retry_ms), (self._penalties, columns.penalty_ms)
        self._starts: deque[tuple[int, Ints]] = deque()  # when, which
        self._await_penalties(everyone)

    # Reading

    def read(self, now: datetime) -> Facts:
        """Return the facts."""
        at_ms = ms(now)
        self._catch_up(at_ms)
        if self._to_judge and self.state is RolloutState.RUNNING:
            self._judge_gates()
        load = self._load(at_ms)
        groups = tuple(self._group_facts(number) for number in range(len(self.groups)))
        columns = self.columns
        return Facts(
            state=self.state,
            strategy=self.strategy,
            groups=groups,
            salt=self._place.salt,
            queue=self._queue(load),
            load=load,
            overdue=self._overdue.first(self._is_overdue(self._overdue.rows, at_ms), self._chunk),
            removed=self._removed.first(~columns.is_final(self._removed.rows), self._chunk),
            silent=self._silent.first(
                self._may_be_excused(self._silent.rows, at_ms),
                self._chunk,
                self._is_started(self._silent.rows),
            ),
            returned=self._returned.first(self._is_back(self._returned.rows), self._chunk),
            unfinished=self._unfinished(now),
            proved=self._proved(),
            joiners=self._those_who_join(now),
            wakes_at=self.wakes_at(at_ms),
            chunk=self._chunk,
        )

    def _may_be_excused(self, rows: Ints, at_ms: int) -> Bools:
        columns = self.columns
        counts = ~columns.is_final(rows) & ~columns.is_excused[rows] & ~columns.is_removed[rows]
        return counts & ~columns.is_reverting[rows] & (columns.silent_ms[rows] <= at_ms)

    def _is_started(self, rows: Ints) -> Bools:
        is_started = np.array([one.state is not GroupState.SCHEDULED for one in self.groups])
        return is_started[self.columns.group[rows]]

    def _is_back(self, rows: Ints) -> Bools:
        columns = self.columns
        is_excused = columns.is_excused[rows] & ~columns.is_removed[rows]
        return is_excused & ~columns.is_final(rows) & (columns.lost_ms[rows] == NEVER)

    def _catch_up(self, at_ms: int) -> None:
        """Let what waited for time have its turn."""
        columns = self.columns
        self._overdue.add(self._deadlines.pop(at_ms))
        self._silent.add(self._silences.pop(at_ms))
        for due, column in self._held:
            rows = due.pop(at_ms)
            if len(rows):
                with columns.changing(rows):
                    column[rows] = NEVER
                self._rewind(rows)

    def _judge_gates(self) -> None:
        """Have the gates of groups that run or soak say what they see now, where that changed."""
        for number in sorted(self._to_judge):
            if self.groups[number].state in (GroupState.RUNNING, GroupState.SOAKING):
                found = gates.judge(self._gated[number], self._place.facts(number))
                self.groups[number].judgement = found
                self._to_judge.discard(number)

    def judge_all(self) -> dict[int, Judgement]:
        """Return what the gates of all groups that started say now, whatever was decided."""
        return {
            number: gates.judge(gate, self._place.facts(number))
            for number, gate in self._gated.items()
            if self.groups[number].state is not GroupState.SCHEDULED
        }

    def _those_who_join(self, now: datetime) -> tuple[Member, ...]:
        ends_at = self.strategy.ends_at
        is_over = 0 < ends_at <= now.timestamp()
        if not self._joiners or is_over or self.state is not RolloutState.RUNNING:
            return ()
        first = [self._joiners[n] for n in range(min(self._chunk, len(self._joiners)))]
        return tuple(self._place.member(device) for device in first)

    def _is_overdue(self, rows: Ints, at_ms: int) -> Bools:
        columns = self.columns
        return (columns.deadline_ms[rows] <= at_ms) & ~columns.is_removed[rows]

    def wakes_at(self, at_ms: int) -> datetime | None:
        """Return when the next thing is due by itself."""
        times = [due.next_ms() for due in self._timetables]
        known = [one for one in times if one is not None and one > at_ms]
        return moment(min(known)) if known else None

    def _group_facts(self, number: int) -> GroupFacts:
        group = self.groups[number]
        return GroupFacts(
            number=number,
            state=group.state,
            tally=self.columns.tally(number),
            soak_until=group.soak_until,
            verdict=group.judgement.verdict if group.judgement else None,
            is_promoted=group.is_promoted,
            since=group.since,
            goes_back=group.goes_back,
        )

    def _load(self, at_ms: int) -> Load:
        """Return what the strategy's limits ask for, as `rollout.unavailable` counts it."""
        strategy = self.strategy
        if strategy.override:
            return Load()
        since = at_ms - round(PACE_WINDOW.total_seconds() * 1000)
        while self._starts and self._starts[0][0] <= since:
            self._starts.popleft()
        # One that was given out again since counts then, not twice.
        started = [
            (at, count)
            for at, rows in self._starts
            if (count := int((self.columns.started_ms[rows] == at).sum()))
        ]
        in_percent = any(one.max_unavailable_percent for one in strategy.budgets)
        return Load(
            in_progress=self.columns.in_progress(),
            starts_last_minute=sum(count for _, count in started),
            oldest_start_at=moment(started[0][0]) if started else None,
            down={SITE: self._down()} if strategy.budgets else {},
            fleet=self._fleet if in_percent else {},
        )

    def _devices_by_site(self) -> dict[str, int]:
        columns = self.columns
        there = columns.site[: columns.count][~columns.is_removed[: columns.count]]
        found = np.bincount(there, minlength=len(self._sites)).tolist()
        return {name: count for name, count in zip(self._sites, found, strict=True) if count}

    def _down(self) -> dict[str, int]:
        found = self.columns.working() + self.columns.left_behind()
        return {self._sites[site]: int(found[site]) for site in np.flatnonzero(found).tolist()}

    def _queue(self, load: Load) -> tuple[Candidate, ...]:
        """Return the head of the queue, as long as something may come of it."""
        if self.state is not RolloutState.RUNNING:
            return ()
        open_groups = [
            number
            for number, group in enumerate(self.groups)
            if group.state in OPEN and self.columns.ready(number)
        ]
        if not open_groups:
            return ()
        rows = self._heads(open_groups, self._room(load), self._full(load))
        down = self.columns.is_down(rows)
        sites = self.columns.site[rows]
        return tuple(
            Candidate(str(row), self._labels[int(site)], is_down)
            for row, site, is_down in zip(rows.tolist(), sites.tolist(), down.tolist(), strict=True)
        )

    def _room(self, load: Load) -> int:
        """Return how many of the queue matter.

        Where only the pace holds, none behind the first that it holds: it holds them all.
        """
        pace, most = self.strategy.pace, self._chunk
        if self.strategy.override or self.strategy.budgets:
            return most
        if pace.max_in_progress:
            most = min(most, max(0, pace.max_in_progress - load.in_progress) + 1)
        if pace.starts_per_minute:
            most = min(most, max(0, pace.starts_per_minute - load.starts_last_minute) + 1)
        return most

    def _full(self, load: Load) -> Bools | None:
        """Return which sites have no free slot; None: all have."""
        values = exhausted(self.strategy, load).get(SITE)
        if not values:
            return None
        return np.array([name in values for name in self._sites])

    def _heads(self, open_groups: list[int], most: int, full: Bools | None) -> Ints:
        columns = self.columns
        is_open = np.zeros(len(self.groups), dtype=np.bool_)
        is_open[open_groups] = True
        found: list[Ints] = []
        missing = most
        at_head = True
        for start in range(self._head, columns.count, _BLOCK):
            block = slice(start, min(start + _BLOCK, columns.count))
            ready = columns.is_ready[block]
            if at_head and not ready.any():
                self._head = block.stop
                continue
            at_head = False
            rows = start + np.flatnonzero(ready & is_open[columns.group[block]])
            if full is not None:
                rows = rows[~full[columns.site[rows]] | columns.is_down(rows)]
            if len(self._rivals) > 1:
                rows = rows[~self._is_held(rows)]
            found.append(rows[:missing])
            missing -= len(found[-1])
            if not missing:
                break
        return np.concatenate(found) if found else _NOBODY

    def _is_held(self, rows: Ints) -> Bools:
        """Return whose devices a rollout of higher priority is at work on."""
        held = np.zeros(len(rows), dtype=np.bool_)
        mine = self.strategy.priority
        for other in self._others():
            theirs = other.strategy.priority
            holds = [
                number
                for number, state in enumerate(STATES)
                if precedence.is_held(mine, theirs, state)
            ]
            held |= np.isin(other.states_of(self.device[rows]), holds)
        return held

    def _others(self) -> list[MemoryBook]:
        return [one for one in self._rivals if one is not self]

    def rows_of_devices(self, devices: Ints) -> Ints:
        """Return the row of each device; NOTHING: it is not in."""
        return self._row[devices]

    def states_of(self, devices: Ints) -> Ints:
        """Return the state of each device's execution; NOTHING: it has none."""
        rows = self._row[devices]
        return np.where(rows == NOTHING, NOTHING, self.columns.state[rows])

    def _rewind(self, rows: Ints) -> None:
        """Rows became ready: look for the head of the queue no further than there."""
        if len(rows):
            self._head = min(self._head, int(rows.min()))

    def _unfinished(self, now: datetime) -> tuple[str, ...]:
        everywhere = range(len(self.groups))
        if self.state in ENDING:
            return self._rows_in((QUEUED, IN_PROGRESS), everywhere)
        if self.strategy.ends_at and now.timestamp() >= self.strategy.ends_at:
            return self._rows_in((QUEUED,), everywhere)
        return self._rows_in((QUEUED, IN_PROGRESS), self._in_error())

    def _proved(self) -> tuple[str, ...]:
        if self.state is RolloutState.ROLLING_BACK:
            return self._rows_in((SUCCEEDED,), range(len(self.groups)), still_stands=True)
        goes_back = [number for number in self._in_error() if self.groups[number].goes_back]
        return self._rows_in((SUCCEEDED,), goes_back, still_stands=True)

    def _in_error(self) -> list[int]:
        return [number for number, one in enumerate(self.groups) if one.state is GroupState.ERROR]

    def _rows_in(
        self, states: Iterable[int], groups: Iterable[int], *, still_stands: bool = False
    ) -> tuple[str, ...]:
        """Return the first rows in these states, but for those on their way back.

        What a newer rollout put in the place of this one's does not stand any more.
        """
        wanted = list(groups)
        if not wanted:
            return ()
        columns, used = self.columns, slice(self.columns.count)
        is_in = np.isin(columns.state[used], list(states)) & np.isin(columns.group[used], wanted)
        is_in &= ~columns.is_reverting[used] & ~columns.is_removed[used]
        rows = np.flatnonzero(is_in)
        if still_stands:
            rows = rows[self._stands(rows)]
        return ids(rows[: self._chunk])

    def _stands(self, rows: Ints) -> Bools:
        return self._known.bound[self.device[rows]] == self.number

    # Carrying out

    def carry_out(self, decision: decided.Decision, now: datetime) -> None:
        """Do it, as far as the rows still allow it; then tell the devices."""
        if isinstance(decision, TURNS):
            self.turn(decision, now)
        elif isinstance(decision, decided.Abort):
            if self.state is RolloutState.RUNNING:
                self.abort_by(decision, now)
        elif isinstance(decision, decided.Join):
            self._join(decision.placed, ms(now))
        else:
            self._carry_out_rows(decision, ms(now))

    def rest(self, due_at: datetime | None) -> None:
        """Keep when to look again."""
        self.due_at, self.is_at_rest = due_at, True

    def wake(self) -> None:
        """Something was reported: look again."""
        self.is_at_rest = False

    def judge_again(self, rows: Ints) -> None:
        """Devices of these rows told what their gates may ask for."""
        if self._gated and len(rows):
            told = np.unique(self.columns.group[rows]).tolist()
            self._to_judge.update(number for number in told if number in self._gated)

    # What is heard of devices

    def lost(self, rows: Ints, at_ms: int) -> None:
        """Devices were last heard of at this time. That wakes nobody: time will tell."""
        self.columns.lost_ms[rows] = at_ms
        self._await_silence(rows[~self.columns.is_final(rows)])

    def _await_silence(self, rows: Ints) -> None:
        columns, grace_s = self.columns, self.strategy.deadlines.offline_grace_s
        waits = rows[columns.lost_ms[rows] != NEVER] if grace_s else rows[:0]
        columns.silent_ms[waits] = columns.lost_ms[waits] + grace_s * 1000
        self._silences.add(waits)

    def heard(self, rows: Ints) -> None:
        """Devices that were lost are heard of again."""
        self.columns.lost_ms[rows] = NEVER
        self.columns.silent_ms[rows] = NEVER
        back = rows[self.columns.is_excused[rows] & ~self.columns.is_final(rows)]
        self._returned.add(back)
        if len(back):
            self.wake()

    def enrolled(self, devices: Ints) -> None:
        """Devices enrolled that match the target. That wakes nobody, as in the real one."""
        if self._is_continuous:
            self._joiners.extend(devices.tolist())

    def held_until(self, devices: Ints, until_ms: int) -> None:
        """Devices are in the penalty box until then, whoever put them there."""
        rows = self._row[devices]
        rows = rows[rows != NOTHING]
        rows = rows[~self.columns.is_final(rows)]
        with self.columns.changing(rows):
            self.columns.penalty_ms[rows] = until_ms
        self._penalties.add(rows)

    def supersede(self, rows: Ints, at_ms: int) -> None:
        """End what is not final of these: another rollout took their devices."""
        self.end(rows, ExecutionEvent.CANCEL, ReasonCode.SUPERSEDED, at_ms)
        if len(rows):
            self.wake()

    def removed(self, rows: Ints) -> None:
        """Devices were removed from the fleet."""
        with self.columns.changing(rows):
            self.columns.is_removed[rows] = True
            self._fleet[SITE] = self._devices_by_site()
        self._removed.add(rows)
        self.wake()

    def _carry_out_rows(self, decision: _OfRows, at_ms: int) -> None:
        rows, columns = rows_of(decision.executions), self.columns
        state = columns.state[rows]
        match decision:
            case decided.Assign():
                self._assign(rows[columns.is_ready[rows]], at_ms)
            case decided.TimeOut():
                self._time_out(rows[self._is_overdue(rows, at_ms)], at_ms)
            case decided.Remove():
                rows = rows[~columns.is_final(rows) & columns.is_removed[rows]]
                self.end(rows, ExecutionEvent.REMOVE, ReasonCode.DEVICE_REMOVED, at_ms)
            case decided.Cancel():
                rows = rows[~columns.is_final(rows) & ~columns.is_reverting[rows]]
                self.end(rows, ExecutionEvent.CANCEL, self._why_canceled(), at_ms)
            case decided.Excuse():
                self._excuse(rows[self._may_be_excused(rows, at_ms)], at_ms)
            case decided.Readmit():
                self._readmit(rows[self._is_back(rows)], at_ms)
            case decided.Revert():
                self._revert(rows[(state == SUCCEEDED) & self._stands(rows)], at_ms)
            case _:
                assert_never(decision)

    def _assign(self, rows: Ints, at_ms: int) -> None:
        is_open = np.array([one.state in OPEN for one in self.groups])
        rows = rows[is_open[self.columns.group[rows]]]
        if self.state is not RolloutState.RUNNING or not len(rows):
            return
        if len(self._rivals) > 1:
            rows = self._settled(rows[~self._is_held(rows)], at_ms)
        with self.columns.changing(rows):
            self.columns.move(rows, ExecutionEvent.ASSIGN)
            self._begin(rows, at_ms)
        devices = self.device[rows]
        self._proved_before[rows] = self._known.proved[devices]
        self._known.desired[devices] = self._place.digest
        self._known.bound[devices] = self.number
        if self.strategy.pace.starts_per_minute:
            self._starts.append((at_ms, rows))
        self._outside.give(rows, at_ms, is_way_back=False)

    def _settled(self, rows: Ints, at_ms: int) -> Ints:
        """Settle who has the alias of each device; return the rows that may take it."""
        is_outdone = np.zeros(len(rows), dtype=np.bool_)
        mine = self.strategy.priority
        for other in self._others():
            devices = self.device[rows]
            theirs, states = other.rows_of_devices(devices), other.states_of(devices)
            is_newer = other.number > self.number
            for state in (*_UNFINISHED, ExecutionState.SUCCEEDED):
                ends = precedence.settle(mine, other.strategy.priority, state, is_newer=is_newer)
                those = states == state_number(state)
                if ends is Ends.OTHER:
                    other.supersede(theirs[those], at_ms)
                elif ends is Ends.MINE:
                    is_outdone |= those
        self.supersede(rows[is_outdone], at_ms)
        return rows[~is_outdone]

    def _join(self, placed: Sequence[Placed], at_ms: int) -> None:
        if self.state is not RolloutState.RUNNING or not self._is_continuous:
            return
        # Those that are in already have a row: a decision that comes twice does no harm.
        placed = [one for one in placed if self._row[int(one.device_id)] == NOTHING]
        devices = np.array([int(one.device_id) for one in placed], dtype=np.int64)
        sites = {name: number for number, name in enumerate(self._sites)}
        site = [sites[self._place.member(int(one.device_id)).site] for one in placed]
        group = np.array([one.group for one in placed], dtype=np.int64)
        rows = self.columns.append(group, np.array(site, dtype=np.int64))
        self.device[rows] = devices
        self._row[devices] = rows
        gone = set(devices.tolist())
        self._joiners = deque(one for one in self._joiners if one not in gone)
        self._fleet[SITE] = self._devices_by_site()
        self._await_penalties(rows)
        self._rewind(rows)
        self._outside.joined(rows, at_ms)

    def _await_penalties(self, rows: Ints) -> None:
        """Let rows wait whose devices are in the penalty box already."""
        until = self._known.penalty_ms[self.device[rows]]
        waits = rows[until != NEVER]
        with self.columns.changing(waits):
            self.columns.penalty_ms[waits] = until[until != NEVER]
        self._penalties.add(waits)

    def _begin(self, rows: Ints, at_ms: int) -> None:
        columns = self.columns
        columns.number[rows] += 1
        columns.started_ms[rows] = at_ms
        self._set_deadlines(rows)

    def at_step(self, rows: Ints, step: int, at_ms: int) -> None:
        """Rows under way came to this step, or tell of it again. Within `changing`."""
        columns = self.columns
        is_new = columns.step[rows] != step
        columns.step[rows] = step
        columns.step_since_ms[rows[is_new]] = at_ms
        columns.told_ms[rows] = at_ms
        self._set_deadlines(rows)

    def _set_deadlines(self, rows: Ints) -> None:
        """Set what `rollout.deadlines` says of rows that are IN_PROGRESS."""
        if not self._is_plain:
            self._ask_deadlines(rows)
            return
        columns = self.columns
        whole = columns.started_ms[rows] + self._execution_ms
        step = columns.step[rows]
        limit = np.where(columns.is_reverting[rows], 0, self._step_limits[step])
        is_fetching = step == _DOWNLOADING
        since = np.where(is_fetching, columns.told_ms[rows], columns.step_since_ms[rows])
        # Without a step there is no limit, and nothing is added to NEVER.
        of_step = np.where(limit > 0, np.where(limit > 0, since, 0) + limit, NEVER)
        is_excused = columns.is_excused[rows]
        of_step = np.where(is_excused, NEVER, of_step)
        code = np.where(of_step <= whole, _NO_PROGRESS, _DEADLINE_PASSED)
        columns.deadline_ms[rows] = np.minimum(whole, of_step)
        columns.deadline_code[rows] = np.where(is_excused, _OFFLINE, code)
        self._deadlines.add(rows)

    def _ask_deadlines(self, rows: Ints) -> None:
        """Ask `rollout.deadlines` itself, once for all rows that stand alike."""
        columns = self.columns
        times = columns.started_ms, columns.step_since_ms, columns.told_ms, columns.excused_ms
        flags = columns.step, columns.is_reverting, columns.is_excused
        standing = np.stack([one[rows].astype(np.int64) for one in (*times, *flags)])
        alike, which = np.unique(standing, axis=1, return_inverse=True)
        at, codes = np.zeros(alike.shape[1], np.int64), np.zeros(alike.shape[1], np.int64)
        for place, one in enumerate(alike.T.tolist()):
            at[place], codes[place] = self._deadline(*one)
        columns.deadline_ms[rows] = at[which.reshape(-1)]
        columns.deadline_code[rows] = codes[which.reshape(-1)]
        self._deadlines.add(rows[columns.deadline_ms[rows] != NEVER])

    def _deadline(  # noqa: PLR0917 - a row of columns
        self, started: int, since: int, told: int, excused: int, step: int, back: int, away: int
    ) -> tuple[int, int]:
        known = None if step == NOTHING else STEPS[step]
        standing = deadlines.Standing(
            moment(started),
            known,
            None if known is None else moment(since),
            None if known is None else moment(told),
            is_reverting=bool(back),
        )
        if away:
            until = deadlines.excused_until(self.strategy, moment(excused), standing)
            return (NEVER if until is None else ms(until)), _OFFLINE
        due = deadlines.due(self.strategy, standing)
        return ms(due.at), code_number(due.code)

    def _time_out(self, rows: Ints, at_ms: int) -> None:
        """End what is overdue, each by its deadline's code; no progress may be tried again."""
        columns = self.columns
        codes = columns.deadline_code[rows]
        may_again = self.may_retry(rows, ExecutionEvent.TIME_OUT, ReasonCode.NO_PROGRESS)
        again = (codes == _NO_PROGRESS) & may_again
        self.retry(rows[again], ReasonCode.NO_PROGRESS, at_ms)
        for code in (ReasonCode.NO_PROGRESS, ReasonCode.DEADLINE_PASSED, ReasonCode.OFFLINE):
            which = (codes == code_number(code)) & ~again
            self.end(rows[which], ExecutionEvent.TIME_OUT, code, at_ms)

    def may_retry(self, rows: Ints, event: ExecutionEvent, code: ReasonCode) -> Bools:
        """Return which may be tried again that would end so, by `rollout.retries`."""
        columns = self.columns
        open_groups = np.array([goes_on(self.state, one.state) for one in self.groups])
        has_more = columns.tries[rows] < self.strategy.retries.attempts
        may = has_more & ~columns.is_reverting[rows] & open_groups[columns.group[rows]]
        return may & may_pass(event, code)

    def retry(self, rows: Ints, code: ReasonCode, at_ms: int) -> None:
        """Let rows be tried again, each after a delay of its own."""
        if not len(rows):
            return
        columns = self.columns
        with columns.changing(rows):
            columns.move(rows, ExecutionEvent.RETRY)
            columns.reason[rows] = code_number(code)
            most = self._longest_delays[columns.tries[rows]]
            draw = uniform(self._seed, Purpose.RETRY_AFTER, rows, columns.tries[rows])
            columns.retry_ms[rows] = at_ms + (draw * most * 1000).astype(np.int64)
            columns.tries[rows] += 1
            # What it told may come before it is known to be back.
            self._wait_for_return(rows[columns.is_excused[rows]])
        self._retries.add(rows)
        self._desire_what_was(rows)
        self._outside.withdraw(rows, at_ms)

    def end(self, rows: Ints, event: ExecutionEvent, code: ReasonCode | None, at_ms: int) -> None:
        """Let rows come to their end."""
        if not len(rows):
            return
        working = rows[self.columns.state[rows] == IN_PROGRESS]
        with self.columns.changing(rows):
            self.columns.move(rows, event)
            self.columns.reason[rows] = NOTHING if code is None else code_number(code)
        if event is ExecutionEvent.SUCCEED:
            self._known.proved[self.device[rows]] = self._place.digest
        else:
            stands = rows[self._stands(rows) & (self.columns.number[rows] > 0)]
            self._known.proved[self.device[stands]] = self._proved_before[stands]
            self._desire_what_was(working)
        if event in _ENDS_BADLY:
            self._penalise(working, event, code, at_ms)
        self.judge_again(rows)
        self._outside.withdraw(working, at_ms)
        self._outside.ended(rows, at_ms)

    def _desire_what_was(self, rows: Ints) -> None:
        """Return devices to what they had proved before, but for those that another has."""
        rows = rows[self._stands(rows)]
        self._known.desired[self.device[rows]] = self._proved_before[rows]

    def _penalise(
        self, rows: Ints, event: ExecutionEvent, code: ReasonCode | None, at_ms: int
    ) -> None:
        """Leave devices alone for a while whose attempts are used up."""
        until = retries.penalty_until(self.strategy.retries, event, code, moment(at_ms))
        rows = rows[~self.columns.is_reverting[rows]]
        if until is None or not len(rows):
            return
        devices = self.device[rows]
        self._known.penalty_ms[devices] = ms(until)
        for book in self._rivals:
            book.held_until(devices, ms(until))

    def _why_canceled(self) -> ReasonCode:
        if self.state is RolloutState.APPROVAL_DENIED:
            return ReasonCode.NOT_APPROVED
        return ReasonCode.STOPPED_BY_OPERATOR if self.abort is None else ReasonCode.ABORTED

    def _excuse(self, rows: Ints, at_ms: int) -> None:
        columns = self.columns
        with columns.changing(rows):
            columns.is_excused[rows] = True
            columns.excused_ms[rows] = at_ms
            is_queued = columns.state[rows] == QUEUED
            self._set_deadlines(rows[~is_queued])
            self._wait_for_return(rows[is_queued])
        self.judge_again(rows)

    def _wait_for_return(self, rows: Ints) -> None:
        """Set until when rows that are QUEUED and excused wait for their devices."""
        columns = self.columns
        columns.deadline_code[rows] = _OFFLINE
        if self._is_continuous:  # it waits for them, however long that takes
            columns.deadline_ms[rows] = NEVER
            return
        columns.deadline_ms[rows] = columns.excused_ms[rows] + self._execution_ms
        self._deadlines.add(rows)

    def _readmit(self, rows: Ints, at_ms: int) -> None:
        columns = self.columns
        with columns.changing(rows):
            columns.is_excused[rows] = False
            columns.deadline_ms[rows] = NEVER
            working = rows[columns.state[rows] == IN_PROGRESS]
            if self._is_continuous:
                columns.started_ms[working] = at_ms
            # What it could not tell of while it was away it may still tell.
            is_told = working[columns.step[working] != NOTHING]
            columns.step_since_ms[is_told] = at_ms
            columns.told_ms[is_told] = at_ms
            self._set_deadlines(working)
        self.judge_again(rows)
        self._rewind(rows)

    def _revert(self, rows: Ints, at_ms: int) -> None:
        if not len(rows):
            return
        columns = self.columns
        with columns.changing(rows):
            columns.move(rows, ExecutionEvent.REVERT)
            columns.is_reverting[rows] = True
            devices = self.device[rows]
            self._known.proved[devices] = self._proved_before[rows]
            self._known.desired[devices] = self._proved_before[rows]
            self._begin(rows, at_ms)
            self.at_step(rows, _ROLLING_BACK, at_ms)
            self._await_silence(rows)
        # What succeeded while it was excused was final when its device came back.
        self._returned.add(rows[columns.is_excused[rows]])
        self._outside.give(rows, at_ms, is_way_back=True)

    def tally(self, number: int) -> Tally:
        """Return how many rows of a group are where."""
        return self.columns.tally(number)

    def turned(self, now: datetime) -> None:
        """Have it taken down."""
        self._outside.turned(self.state, ms(now))

    # What people do

    def person(self, event: RolloutEvent, now: datetime) -> None:
        """Move the rollout as a person does.

        Raises:
            ConflictError: Its state does not allow that.
        """
        self.move_by_person(event, now)
        self.wake()

    def promote(self, number: int) -> None:
        """Let the next group start, whatever this one waits for."""
        self.groups[number].is_promoted = True
        self.wake()


def _step_limits(strategy: Strategy) -> Ints:
    """Return how long each step may take, by its number; the last is for no step. 0: no limit."""
    whole = structs.replace(strategy.deadlines, execution_s=_LONG_S)
    asked = structs.replace(strategy, deadlines=whole)
    found: list[int] = []
    for step in STEPS:
        deadline = deadlines.due(asked, deadlines.Standing(BEGIN, step, BEGIN, BEGIN))
        is_of_step = deadline.code is ReasonCode.NO_PROGRESS
        found.append(ms(deadline.at) if is_of_step else 0)
    return np.array([*found, 0], dtype=np.int64)
