"""The `Book` of a simulated world: one rollout's rows as columns, its counters kept as they change.

It means what `rollout.sql_book` means, for a million rows: a read costs what its chunks cost, a
decision what its rows cost. What devices report comes in through `simulators.world.inbound`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol, TypeAlias, assert_never

import numpy as np
from msgspec import structs
from sprat_controller.rollout import deadlines
from sprat_controller.rollout import facts as decided
from sprat_controller.rollout.budget import PACE_WINDOW, Candidate, Load, exhausted
from sprat_controller.rollout.facts import Facts, GroupFacts, Tally, Verdict
from sprat_controller.rollout.phases import (
    ExecutionEvent,
    RolloutEvent,
)
from sprat_controller.rollout.retries import goes_on, longest_delay_s, may_pass
from sprat_controller.rollout.strategy import Strategy
from sprat_proto.states import GroupState, ReasonCode, RolloutState, Step

from simulators.turning import ENDING, OPEN, TURNS, Turning, TurningGroup
from simulators.world.columns import (
    IN_PROGRESS,
    NEVER,
    NOTHING,
    QUEUED,
    STEPS,
    SUCCEEDED,
    Columns,
    code_number,
    step_number,
)
from simulators.world.draws import Bools, Ints, Purpose, uniform
from simulators.world.due import Due

BEGIN: Final = datetime(2026, 1, 5, tzinfo=UTC)  # of every world
CHUNK: Final = 10_000
SITE: Final = "site"
_LONG_S: Final = 366 * 86_400  # longer than any step may take
_BLOCK: Final = 65_536  # rows looked at together, for the head of the queue
_MS: Final = timedelta(milliseconds=1)
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


def ms(at: datetime) -> int:
    """Return a time as milliseconds since the world began."""
    return (at - BEGIN) // _MS


def moment(at_ms: int) -> datetime:
    """Return milliseconds since the world began as a time."""
    return BEGIN + at_ms * _MS


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


@dataclass
class Group(TurningGroup):
    """A group's row."""

    verdict: Verdict | None = None


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


class MemoryBook(Turning[Group]):
    """One rollout; ids of executions are their rows.

    Attributes:
        columns: The rows.
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
        self._starts: deque[tuple[int, Ints]] = deque()  # when, which

    # Reading

    def read(self, now: datetime) -> Facts:
        """Return the facts."""
        at_ms = ms(now)
        self._catch_up(at_ms)
        load = self._load(at_ms)
        groups = tuple(self._group_facts(number) for number in range(len(self.groups)))
        columns = self.columns
        return Facts(
            state=self.state,
            strategy=self.strategy,
            groups=groups,
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
        rows = self._retries.pop(at_ms)
        with columns.changing(rows):
            columns.retry_ms[rows] = NEVER
        self._rewind(rows)

    def _is_overdue(self, rows: Ints, at_ms: int) -> Bools:
        columns = self.columns
        return (columns.deadline_ms[rows] <= at_ms) & ~columns.is_removed[rows]

    def wakes_at(self, at_ms: int) -> datetime | None:
        """Return when the next thing is due by itself."""
        times = [due.next_ms() for due in (self._deadlines, self._retries, self._silences)]
        known = [one for one in times if one is not None and one > at_ms]
        return moment(min(known)) if known else None

    def _group_facts(self, number: int) -> GroupFacts:
        group = self.groups[number]
        return GroupFacts(
            number=number,
            state=group.state,
            tally=self.columns.tally(number),
            soak_until=group.soak_until,
            verdict=group.verdict,
            is_promoted=group.is_promoted,
            since=group.since,
            goes_back=group.goes_back,
        )

    def _load(self, at_ms: int) -> Load:
        """Return what the strategy's limits ask for, as `rollout.unavailable` counts it."""
        strategy = self.strategy
        if strategy.override:
            return Load()
        since = at_ms - PACE_WINDOW // _MS
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
        there = self.columns.site[~self.columns.is_removed]
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
            found.append(rows[:missing])
            missing -= len(found[-1])
            if not missing:
                break
        return np.concatenate(found) if found else _NOBODY

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
            return self._rows_in((SUCCEEDED,), range(len(self.groups)))
        goes_back = [number for number in self._in_error() if self.groups[number].goes_back]
        return self._rows_in((SUCCEEDED,), goes_back)

    def _in_error(self) -> list[int]:
        return [number for number, one in enumerate(self.groups) if one.state is GroupState.ERROR]

    def _rows_in(self, states: Iterable[int], groups: Iterable[int]) -> tuple[str, ...]:
        """Return the first rows in these states, but for those on their way back."""
        wanted = list(groups)
        if not wanted:
            return ()
        columns = self.columns
        is_in = np.isin(columns.state, list(states)) & np.isin(columns.group, wanted)
        rows = np.flatnonzero(is_in & ~columns.is_reverting & ~columns.is_removed)
        return ids(rows[: self._chunk])

    # Carrying out

    def carry_out(self, decision: decided.Decision, now: datetime) -> None:
        """Do it, as far as the rows still allow it; then tell the devices."""
        if isinstance(decision, TURNS):
            self.turn(decision, now)
        elif isinstance(decision, decided.Abort):
            if self.state is RolloutState.RUNNING:
                self.abort_by(decision, now)
        elif isinstance(decision, decided.Join):
            raise NotImplementedError("a world's target is a SNAPSHOT")
        else:
            self._carry_out_rows(decision, ms(now))

    def rest(self, due_at: datetime | None) -> None:
        """Keep when to look again."""
        self.due_at, self.is_at_rest = due_at, True

    def wake(self) -> None:
        """Something was reported: look again."""
        self.is_at_rest = False

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
                self._revert(rows[state == SUCCEEDED], at_ms)
            case _:
                assert_never(decision)

    def _assign(self, rows: Ints, at_ms: int) -> None:
        is_open = np.array([one.state in OPEN for one in self.groups])
        rows = rows[is_open[self.columns.group[rows]]]
        if self.state is not RolloutState.RUNNING or not len(rows):
            return
        with self.columns.changing(rows):
            self.columns.move(rows, ExecutionEvent.ASSIGN)
            self._begin(rows, at_ms)
        if self.strategy.pace.starts_per_minute:
            self._starts.append((at_ms, rows))
        self._outside.give(rows, at_ms, is_way_back=False)

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
        """Set what `rollout.deadlines` says of rows that are IN_PROGRESS; there are no windows."""
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
        self._outside.withdraw(rows, at_ms)

    def end(self, rows: Ints, event: ExecutionEvent, code: ReasonCode | None, at_ms: int) -> None:
        """Let rows come to their end."""
        if not len(rows):
            return
        working = rows[self.columns.state[rows] == IN_PROGRESS]
        with self.columns.changing(rows):
            self.columns.move(rows, event)
            self.columns.reason[rows] = NOTHING if code is None else code_number(code)
        self._outside.withdraw(working, at_ms)
        self._outside.ended(rows, at_ms)

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

    def _wait_for_return(self, rows: Ints) -> None:
        """Set until when rows that are QUEUED and excused wait for their devices."""
        columns = self.columns
        columns.deadline_ms[rows] = columns.excused_ms[rows] + self._execution_ms
        columns.deadline_code[rows] = _OFFLINE
        self._deadlines.add(rows)

    def _readmit(self, rows: Ints, at_ms: int) -> None:
        columns = self.columns
        with columns.changing(rows):
            columns.is_excused[rows] = False
            columns.deadline_ms[rows] = NEVER
            working = rows[columns.state[rows] == IN_PROGRESS]
            # What it could not tell of while it was away it may still tell.
            is_told = working[columns.step[working] != NOTHING]
            columns.step_since_ms[is_told] = at_ms
            columns.told_ms[is_told] = at_ms
            self._set_deadlines(working)
        self._rewind(rows)

    def _revert(self, rows: Ints, at_ms: int) -> None:
        if not len(rows):
            return
        columns = self.columns
        with columns.changing(rows):
            columns.move(rows, ExecutionEvent.REVERT)
            columns.is_reverting[rows] = True
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
