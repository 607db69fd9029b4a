"""The reference of the `Book`: several rollouts over a few devices, plain objects, nothing cached.

It means what `rollout.sql_book` means. Everything is looked for anew at each read, and moved only
by the tables of `rollout.phases`. What was started, ended and decided stands in a journal.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Protocol

from sprat_controller.rollout import (
    attempts,
    budget,
    deadlines,
    grouping,
    planner,
    precedence,
    retries,
)
from sprat_controller.rollout import facts as decided
from sprat_controller.rollout.facts import CHUNK, Facts, GroupFacts, Tally, Verdict
from sprat_controller.rollout.phases import (
    EXECUTION,
    ROLLOUT,
    ExecutionEvent,
    RolloutEvent,
    apply,
)
from sprat_controller.rollout.precedence import Ends
from sprat_controller.rollout.strategy import Membership, Strategy
from sprat_proto.states import ExecutionState, GroupState, ReasonCode, RolloutState, Step

from simulators.small_device import Report, SmallDevice, Wanted
from simulators.turning import ENDING, OPEN, TURNS, Turning, TurningGroup

SITE = "site"
_LOOKS = 1_000  # without coming to rest: a bug
_STATES = {
    ExecutionState.QUEUED: ExecutionEvent.PROGRESS,
    ExecutionState.IN_PROGRESS: ExecutionEvent.PROGRESS,
    ExecutionState.SUCCEEDED: ExecutionEvent.SUCCEED,
    ExecutionState.FAILED: ExecutionEvent.FAIL,
    ExecutionState.ROLLED_BACK: ExecutionEvent.ROLL_BACK,
    ExecutionState.REJECTED: ExecutionEvent.REJECT,
    ExecutionState.CANCELED: ExecutionEvent.CANCEL,
}


@dataclass
class Run:
    """An execution's row."""

    id: str
    device: str
    group: int
    position: int
    state: ExecutionState = ExecutionState.QUEUED
    attempt: int = 1
    tries: int = 0
    step: Step | None = None
    step_since: datetime | None = None
    told_at: datetime | None = None
    started_at: datetime | None = None
    retry_at: datetime | None = None
    excused_at: datetime | None = None
    finished_at: int = 0  # a number in the order of all ends
    updated_at: datetime | None = None
    is_reverting: bool = False
    back_to: str | None = None  # the release, while it is on its way back
    code: ReasonCode | None = None

    @property
    def name(self) -> str:
        """By which the device knows it now."""
        return attempts.name_of(self.id, self.attempt)

    @property
    def standing(self) -> deadlines.Standing | None:
        """How far it is; None while it is QUEUED."""
        if self.state is not ExecutionState.IN_PROGRESS or self.started_at is None:
            return None
        return deadlines.Standing(
            self.started_at, self.step, self.step_since, self.told_at, self.is_reverting
        )


@dataclass
class Group(TurningGroup):
    """A group's row."""

    verdict: Verdict | None = None


@dataclass
class Row:
    """What the controller knows of a device."""

    device: SmallDevice
    heard_at: datetime
    is_online: bool = True
    is_removed: bool = False
    penalty_until: datetime | None = None
    report_seq: int = 0
    version: int = 0
    bound: tuple[str, Wanted] | None = None  # the execution that it is of, and what is wanted


@dataclass(frozen=True)
class Entry:
    """One thing that happened.

    Attributes:
        what: `assign`, `abort`, `resume`, `revert`, `turn` and so on.
        rollout: Which.
        state: Of the rollout, just before.
        group: Which; None: none in particular.
        run: The execution, if one.
    """

    what: str
    rollout: str
    state: RolloutState
    group: int | None = None
    run: str | None = None


class OnAssign(Protocol):
    """Is told of each start, just after it."""

    def __call__(self, book: SmallBook, run: Run, /, *, was_down: bool) -> None:
        """Look at it; `was_down`: its device had its slot of the budget before."""
        ...


def _nothing(_book: SmallBook, _run: Run, /, *, was_down: bool) -> None:
    del was_down


class SmallFleet:
    """Devices, and the books of all rollouts to them.

    Attributes:
        now: The clock.
        rows, books: Devices by name; rollouts, oldest first.
        journal: What was started, aborted, asked and taken back, in order.
        on_assign: Told of each start.
    """

    def __init__(self, now: datetime) -> None:
        """Begin with nobody."""
        self.now = now
        self.rows: dict[str, Row] = {}
        self.books: list[SmallBook] = []
        self.journal: list[Entry] = []
        self.on_assign: OnAssign = _nothing
        self._ends = 0

    def add(self, name: str, site: str) -> None:
        """Enrol a device."""
        self.rows[name] = Row(SmallDevice(name, site), self.now)

    def remove(self, name: str) -> None:
        """Take a device out of the fleet; it is told nothing any more."""
        self.rows[name].is_removed = True

    def hear(self, name: str) -> None:
        """Hear a heartbeat, give the device its newest assignment, notice what it fell back to."""
        row = self.rows[name]
        row.heard_at, row.is_online = self.now, True
        self._notice(row)
        row.device.hear(row.version, row.bound[1] if row.bound else None)

    def lose(self, name: str) -> None:
        """Hear of a device no more."""
        self.rows[name].is_online = False

    def take_in(self, name: str, report: Report) -> None:
        """Keep a report if it is its turn; the device forgets those that are kept."""
        row = self.rows[name]
        row.heard_at, row.is_online = self.now, True
        if report.seq == row.report_seq + 1:
            row.report_seq = report.seq
            book, run = self.find(attempts.execution_of(report.name))
            book.report(run, report)
        kept = row.report_seq
        row.device.outbox = [one for one in row.device.outbox if one.seq > kept]

    def find(self, execution_id: str) -> tuple[SmallBook, Run]:
        """Return an execution, and the book that it is in."""
        for book in self.books:
            if execution_id in book.runs:
                return book, book.runs[execution_id]
        raise LookupError(f"no execution {execution_id}")

    def of_device(self, name: str) -> list[tuple[SmallBook, Run]]:
        """Return all executions of a device, oldest rollout first."""
        return [
            (book, run) for book in self.books for run in book.runs.values() if run.device == name
        ]

    def is_down(self, name: str) -> bool:
        """Tell whether a device counts as down, as `rollout.unavailable` has it."""
        row, runs = self.rows[name], [run for _, run in self.of_device(name)]
        if row.is_removed:
            return False
        if any(run.state is ExecutionState.IN_PROGRESS for run in runs):
            return True
        proved = max(
            (run.finished_at for run in runs if run.state is ExecutionState.SUCCEEDED), default=0
        )
        return not row.is_online and any(_is_left_behind(run, proved) for run in runs)

    def down(self) -> Counter[str]:
        """Return how many devices are down at each site."""
        return Counter(row.device.site for name, row in self.rows.items() if self.is_down(name))

    def size(self) -> Counter[str]:
        """Return how many devices each site has."""
        return Counter(row.device.site for row in self.rows.values() if not row.is_removed)

    def bind(self, name: str, run_id: str, wanted: Wanted | None) -> None:
        """Have a device told something else."""
        row = self.rows[name]
        row.bound = None if wanted is None else (run_id, wanted)
        row.version += 1

    def withdraw(self, run: Run, runs: str | None = None) -> None:
        """Return a device to what was proved before; see `assign.withdraw`."""
        row = self.rows[run.device]
        if row.bound is None or row.bound[0] != run.id:
            return
        proved = self.proved(run.device)
        if proved is None:
            self.bind(run.device, "", None)
            return
        book, before = proved
        name = before.name if runs == book.release else attempts.way_back(run.name)
        self.bind(run.device, before.id, Wanted(name, book.release))

    def proved(self, name: str, but: str = "") -> tuple[SmallBook, Run] | None:
        """Return what last succeeded on a device, leaving one execution out."""
        found = [
            (book, run)
            for book, run in self.of_device(name)
            if run.state is ExecutionState.SUCCEEDED and run.id != but
        ]
        return max(found, key=lambda one: one[1].finished_at, default=None)

    def next_end(self) -> int:
        """Return the next number in the order of ends."""
        self._ends += 1
        return self._ends

    def _notice(self, row: Row) -> None:
        """See by the running release that a device fell back."""
        if row.bound is None or row.device.outbox:
            return
        book, run = self.find(row.bound[0])
        is_proved = run.state is ExecutionState.SUCCEEDED and row.bound[1].name == run.name
        if is_proved and row.device.active != book.release:
            book.move(run, ExecutionEvent.ROLL_BACK, ReasonCode.REVERTED)
            self.withdraw(run)


class SmallBook(Turning[Group]):
    """One rollout."""

    def __init__(
        self, fleet: SmallFleet, name: str, release: str, strategy: Strategy, devices: Sequence[str]
    ) -> None:
        """Plan a rollout to devices; it is READY."""
        self.fleet, self.id, self.release, self.strategy = fleet, name, release, strategy
        super().__init__(name, [Group() for _ in strategy.groups])
        self.runs: dict[str, Run] = {}
        self.due_at: datetime | None = None
        self.draws = 0
        members = [grouping.Member(one, site=fleet.rows[one].device.site) for one in devices]
        self._add(grouping.split(members, strategy, release))
        fleet.books.append(self)

    # Reading

    def read(self, now: datetime) -> Facts:
        """Return the facts."""
        load = self._load(now)
        return Facts(
            state=self.state,
            strategy=self.strategy,
            groups=tuple(
                GroupFacts(
                    number,
                    group.state,
                    self.tally(number),
                    group.soak_until,
                    group.verdict if self.strategy.groups[number].gate else None,
                    group.is_promoted,
                    group.since,
                    group.goes_back,
                )
                for number, group in enumerate(self.groups)
            ),
            salt=self.release,
            queue=self._queue(load, now),
            load=load,
            overdue=self._ids(lambda run: self._is_overdue(run, now)),
            removed=self._ids(lambda run: not run.state.is_final and self._row(run).is_removed),
            silent=self._ids(lambda run: self._is_silent(run, now)),
            returned=self._ids(
                lambda run: (
                    run.excused_at is not None
                    and not run.state.is_final
                    and self._row(run).is_online
                )
            ),
            unfinished=self._ids(lambda run: self._is_to_end(run, now)),
            proved=self._ids(self._is_to_go_back),
            joiners=self._joiners(),
            wakes_at=self._wakes_at(now),
        )

    def tally(self, number: int) -> Tally:
        """Return how many executions of a group are where."""
        counts = Counter(_kind(run) for run in self.runs.values() if run.group == number)
        return Tally(**counts)

    def _queue(self, load: budget.Load, now: datetime) -> tuple[budget.Candidate, ...]:
        if self.state is not RolloutState.RUNNING:
            return ()
        full = budget.exhausted(self.strategy, load).get(SITE, frozenset())
        found: list[budget.Candidate] = []
        for run in self._in_order():
            row = self._row(run)
            is_down = self.fleet.is_down(run.device)
            if self._is_startable(run, now) and (is_down or row.device.site not in full):
                found.append(budget.Candidate(run.id, {SITE: row.device.site}, is_down))
        return tuple(found[:CHUNK])

    def _is_startable(self, run: Run, now: datetime) -> bool:
        row = self._row(run)
        return (
            run.state is ExecutionState.QUEUED
            and run.excused_at is None
            and self.groups[run.group].state in OPEN
            and (run.retry_at is None or run.retry_at <= now)
            and not row.is_removed
            and (row.penalty_until is None or row.penalty_until <= now)
            and not self._is_held(run)
        )

    def _is_held(self, run: Run) -> bool:
        """Tell whether a rollout of higher priority is under way on the device."""
        mine = self.strategy.priority
        return any(
            precedence.is_held(mine, book.strategy.priority, other.state)
            for book, other in self.fleet.of_device(run.device)
        )

    def _load(self, now: datetime) -> budget.Load:
        starts = sorted(
            run.started_at
            for run in self.runs.values()
            if run.started_at is not None and run.started_at > now - budget.PACE_WINDOW
        )
        return budget.Load(
            in_progress=sum(run.state is ExecutionState.IN_PROGRESS for run in self.runs.values()),
            starts_last_minute=len(starts),
            oldest_start_at=starts[0] if starts else None,
            down={SITE: self.fleet.down()},
            fleet={SITE: self.fleet.size()},
        )

    def _is_overdue(self, run: Run, now: datetime) -> bool:
        until = self._until(run)
        return until is not None and until <= now and not self._row(run).is_removed

    def _until(self, run: Run) -> datetime | None:
        if run.state.is_final:
            return None
        if run.excused_at is not None:
            return deadlines.excused_until(self.strategy, run.excused_at, run.standing)
        return None if run.standing is None else deadlines.due(self.strategy, run.standing).at

    def _is_silent(self, run: Run, now: datetime) -> bool:
        grace, row = self.strategy.deadlines.offline_grace_s, self._row(run)
        return (
            bool(grace)
            and not run.state.is_final
            and run.excused_at is None
            and not run.is_reverting
            and self.groups[run.group].state in OPEN
            and not row.is_removed
            and not row.is_online
            and row.heard_at + timedelta(seconds=grace) <= now
        )

    def _is_to_end(self, run: Run, now: datetime) -> bool:
        if run.state.is_final or run.is_reverting or self._row(run).is_removed:
            return False
        is_all = self.state in ENDING
        is_over = bool(self.strategy.ends_at) and self.strategy.ends_at <= now.timestamp()
        is_late = is_over and run.state is ExecutionState.QUEUED
        return is_all or is_late or self.groups[run.group].state is GroupState.ERROR

    def _is_to_go_back(self, run: Run) -> bool:
        if run.state is not ExecutionState.SUCCEEDED or self._row(run).is_removed:
            return False
        group = self.groups[run.group]
        is_of_group = group.state is GroupState.ERROR and group.goes_back
        return self.state is RolloutState.ROLLING_BACK or is_of_group

    def _joiners(self) -> tuple[grouping.Member, ...]:
        if self.strategy.membership is not Membership.CONTINUOUS:
            return ()
        known = {run.device for run in self.runs.values()}
        return tuple(
            grouping.Member(name, site=row.device.site)
            for name, row in self.fleet.rows.items()
            if name not in known and not row.is_removed
        )

    def _wakes_at(self, now: datetime) -> datetime | None:
        grace = timedelta(seconds=self.strategy.deadlines.offline_grace_s)
        times: list[datetime | None] = []
        for run in self.runs.values():
            if not run.state.is_final:
                row = self._row(run)
                times += [self._until(run), run.retry_at, row.penalty_until]
                times += [] if row.is_online or not grace else [row.heard_at + grace]
        return min((one for one in times if one is not None and one > now), default=None)

    # Carrying out

    def carry_out(self, decision: decided.Decision, now: datetime) -> None:
        """Do it, as far as the rows still allow it."""
        if isinstance(decision, TURNS):
            if self.turn(decision, now) and isinstance(decision, decided.FailGate):
                self._note("abort", decision.group)
        elif isinstance(decision, decided.Abort):
            if self.state is RolloutState.RUNNING:
                self._note("abort", decision.group)
                self.abort_by(decision, now)
        elif isinstance(decision, decided.Join):
            known = {run.device for run in self.runs.values()}
            if self.state is RolloutState.RUNNING:
                self._add([one for one in decision.placed if one.device_id not in known])
        else:
            for run in self._of(decision.executions):
                self._carry_out_one(decision, run, now)

    def rest(self, due_at: datetime | None) -> None:
        """Keep when to look again."""
        self.due_at = due_at

    def _carry_out_one(self, decision: decided.Decision, run: Run, now: datetime) -> None:
        match decision:
            case decided.Assign():
                self._assign(run, now)
            case decided.TimeOut() if self._is_overdue(run, now):
                self._time_out(run)
            case decided.Remove() if not run.state.is_final and self._row(run).is_removed:
                self._end(run, ExecutionEvent.REMOVE, ReasonCode.DEVICE_REMOVED)
            case decided.Cancel() if self._is_to_end(run, now):
                self._end(run, ExecutionEvent.CANCEL, ReasonCode.STOPPED_BY_OPERATOR)
            case decided.Excuse() if self._is_silent(run, now):
                run.excused_at = now
            case decided.Readmit() if run.excused_at is not None and not run.state.is_final:
                run.excused_at = None
                if run.standing is not None:
                    back = deadlines.returned(self.strategy, run.standing, now)
                    run.started_at, run.step_since = back.started_at, back.step_since
                    run.told_at = back.told_at
            case decided.Revert() if self._is_to_go_back(run):
                self._revert(run, now)
            case _:
                pass

    def _assign(self, run: Run, now: datetime) -> None:
        if self.state is not RolloutState.RUNNING or not self._is_startable(run, now):
            return
        # The facts may be old: what pace and budgets let start is asked again.
        one = budget.Candidate(
            run.id, {SITE: self._row(run).device.site}, self.fleet.is_down(run.device)
        )
        if not budget.admit(self.strategy, self._load(now), [one]).starts:
            return
        disputed = self._disputed(run)
        if any(ends is Ends.MINE for ends, _, _ in disputed):
            self._end(run, ExecutionEvent.CANCEL, ReasonCode.SUPERSEDED)
            return
        was_down = one.is_down
        self.move(run, ExecutionEvent.ASSIGN)
        self._begin(run, now)
        for ends, book, other in disputed:
            if ends is Ends.OTHER:
                book.move(other, ExecutionEvent.CANCEL, ReasonCode.SUPERSEDED)
        self.fleet.bind(run.device, run.id, Wanted(run.name, self.release))
        self._note("assign", run.group, run.id)
        self.fleet.on_assign(self, run, was_down=was_down)

    def _disputed(self, run: Run) -> list[tuple[Ends, SmallBook, Run]]:
        """Return what of other rollouts is, or was, at work on the device, and what then ends."""
        bound = self._row(run).bound
        found: list[tuple[Ends, SmallBook, Run]] = []
        for book, other in self.fleet.of_device(run.device):
            is_proved = other.state is ExecutionState.SUCCEEDED
            is_there = is_proved and bound is not None and bound[0] == other.id
            if book is self or not (is_there or not other.state.is_final):
                continue
            ends = precedence.settle(
                self.strategy.priority,
                book.strategy.priority,
                other.state,
                is_newer=self.fleet.books.index(book) > self.fleet.books.index(self),
            )
            found.append((ends, book, other))
        return found

    def _begin(self, run: Run, now: datetime) -> None:
        run.started_at, run.retry_at = now, None
        run.step = run.step_since = run.told_at = None

    def _time_out(self, run: Run) -> None:
        if run.excused_at is not None:
            self._end(run, ExecutionEvent.TIME_OUT, ReasonCode.OFFLINE)
        elif run.standing is not None:
            code = deadlines.due(self.strategy, run.standing).code
            if not self._retry(run, ExecutionEvent.TIME_OUT, code):
                self._end(run, ExecutionEvent.TIME_OUT, code)

    def _retry(self, run: Run, event: ExecutionEvent, code: ReasonCode | None) -> bool:
        """Have an execution wait to be tried again; tell whether that is to be."""
        self.draws += 1
        draw = int.from_bytes(sha256(f"{self.id} {self.draws}".encode()).digest()[:4]) / 2**32
        asked, now = self.strategy.retries, self.fleet.now
        if run.is_reverting:
            return False
        again = None
        if retries.goes_on(self.state, self.groups[run.group].state):
            again = retries.retry_at(asked, event, code, run.tries, now, draw=draw)
        if again is None:
            row = self._row(run)
            row.penalty_until = retries.penalty_until(asked, event, code, now) or row.penalty_until
            return False
        self.move(run, ExecutionEvent.RETRY, code)
        self.fleet.withdraw(run)
        run.attempt += 1
        run.tries += 1
        run.retry_at = again
        return True

    def _end(self, run: Run, event: ExecutionEvent, code: ReasonCode) -> None:
        self.move(run, event, code)
        self.fleet.withdraw(run)

    def _revert(self, run: Run, now: datetime) -> None:
        proved = self.fleet.proved(run.device, but=run.id)
        self._note("revert", run.group, run.id)
        self.move(run, ExecutionEvent.REVERT)
        run.is_reverting = True
        run.attempt += 1
        self._begin(run, now)
        is_theirs = not self._is_kept(run)
        self._end_ways_back(run)
        if proved is None or is_theirs:
            # Where a newer rollout is at work the device is not told: it only must not return to
            # this. And where nothing was before there is nothing to prove: the alias is given up.
            if not is_theirs:
                self.fleet.bind(run.device, "", None)
            self.move(run, ExecutionEvent.ROLL_BACK, ReasonCode.ROLLED_BACK_BY_ROLLOUT)
            return
        run.step, run.step_since, run.told_at = Step.ROLLING_BACK, now, now
        run.back_to = proved[0].release
        self.fleet.bind(run.device, run.id, Wanted(run.name, proved[0].release))

    def _is_kept(self, run: Run) -> bool:
        """Tell whether its device is bound to what it brought, or is on its way back to that."""
        bound = self._row(run).bound
        if bound is None or bound[0] == run.id:
            return bound is not None
        _, other = self.fleet.find(bound[0])
        return other.is_reverting and other.back_to == self.release

    def _end_ways_back(self, run: Run) -> None:
        """End the ways back of other rollouts to what this one takes back: it has its own."""
        for book, other in self.fleet.of_device(run.device):
            is_way_back = other.state is ExecutionState.IN_PROGRESS and other.is_reverting
            if book is not self and is_way_back and other.back_to == self.release:
                book.move(other, ExecutionEvent.CANCEL, ReasonCode.SUPERSEDED)

    # What devices say

    def report(self, run: Run, report: Report) -> None:
        """Change the execution that a report in its turn is of."""
        if report.name != run.name or run.state is not ExecutionState.IN_PROGRESS:
            return  # it ended already, or is of an attempt that is over
        event, code = _STATES[report.state], report.code
        wanted = run.back_to if run.is_reverting else self.release
        if event is ExecutionEvent.SUCCEED and report.running != wanted:
            event, code = ExecutionEvent.FAIL, ReasonCode.DIGEST_MISMATCH
        if event is ExecutionEvent.PROGRESS:
            if report.step is not run.step:
                run.step, run.step_since = report.step, self.fleet.now
            run.told_at = self.fleet.now
            return
        if run.is_reverting:
            event, code = _of_the_way_back(event, code)
            self.move(run, event, code)
            return
        if self._retry(run, event, code):
            return
        self.move(run, event, code)
        if event is not ExecutionEvent.SUCCEED:
            self.fleet.withdraw(run, report.running)

    # What people do

    def person(self, event: RolloutEvent) -> bool:
        """Do what a person asks; tell whether the state allows it."""
        if event not in ROLLOUT.get(self.state, {}):
            return False
        self._note(str(event), None)
        self.move_by_person(event, self.fleet.now)
        return True

    def turned(self, now: datetime) -> None:
        """Nobody is told of it."""

    def promote(self, number: int) -> None:
        """Let the next group start whatever this one waits for."""
        self.groups[number].is_promoted = True

    def retry_failed(self) -> None:
        """Try again what failed."""
        allowed = (RolloutState.RUNNING, RolloutState.PAUSED, RolloutState.FINISHED)
        failed = (ExecutionState.FAILED, ExecutionState.TIMED_OUT, ExecutionState.ROLLED_BACK)
        if self.state not in allowed:
            return
        if self.state is RolloutState.FINISHED:
            self.person(RolloutEvent.RETRY)
        for run in self.runs.values():
            is_open = self.groups[run.group].state in OPEN
            if run.state in failed and not run.is_reverting and is_open:
                self.move(run, ExecutionEvent.RETRY)
                run.attempt += 1
                run.tries = 0
                run.excused_at = run.retry_at = None

    # Rows

    def move(self, run: Run, event: ExecutionEvent, code: ReasonCode | None = None) -> None:
        """Move an execution by the table."""
        run.state = apply(EXECUTION, run.state, event, run.id, "execution_state")
        run.code, run.updated_at = code, self.fleet.now
        run.finished_at = self.fleet.next_end()

    def _add(self, placed: Iterable[grouping.Placed]) -> None:
        for place in placed:
            run_id = f"{self.id}-{place.device_id}"
            self.runs[run_id] = Run(run_id, place.device_id, place.group, place.position)

    def _note(self, what: str, group: int | None, run: str | None = None) -> None:
        self.fleet.journal.append(Entry(what, self.id, self.state, group, run))

    def _row(self, run: Run) -> Row:
        return self.fleet.rows[run.device]

    def _in_order(self) -> list[Run]:
        return sorted(self.runs.values(), key=lambda run: run.position)

    def _ids(self, wanted: Callable[[Run], bool]) -> tuple[str, ...]:
        return tuple(run.id for run in self._in_order() if wanted(run))[:CHUNK]

    def _of(self, executions: Sequence[str]) -> list[Run]:
        return [self.runs[one] for one in executions]


def run(book: SmallBook, now: datetime) -> None:
    """Bring a rollout as far as it goes at this moment.

    Raises:
        RuntimeError: It does not come to rest.
    """
    for _ in range(_LOOKS):
        facts = book.read(now)
        decisions = planner.decide(facts, now)
        if not decisions:
            book.rest(planner.next_due(facts, now))
            return
        for decision in decisions:
            book.carry_out(decision, now)
    raise RuntimeError(f"rollout {book.id} does not come to rest")


def _kind(run: Run) -> str:
    """Return as what a tally counts an execution."""
    if run.code is ReasonCode.OFFLINE and run.state is ExecutionState.TIMED_OUT:
        return "canceled"
    if run.state is ExecutionState.REJECTED and run.started_at is None:
        return "canceled"
    if run.state is ExecutionState.ROLLED_BACK and run.is_reverting:
        return "taken_back"
    if run.is_reverting and not run.state.is_final:
        return "reverting"
    if run.excused_at is not None and not run.state.is_final:
        return "excused"
    return run.state.value.lower()


def _is_left_behind(run: Run, proved: int) -> bool:
    ended = (ExecutionState.FAILED, ExecutionState.TIMED_OUT, ExecutionState.ROLLED_BACK)
    left = (ExecutionState.QUEUED, ExecutionState.CANCELED)
    is_ended = run.state in ended or (run.state in left and run.started_at is not None)
    return is_ended and run.finished_at > proved


def _of_the_way_back(
    event: ExecutionEvent, code: ReasonCode | None
) -> tuple[ExecutionEvent, ReasonCode | None]:
    """Return what a report means of an execution that is on its way back."""
    if event is ExecutionEvent.SUCCEED:
        return ExecutionEvent.ROLL_BACK, ReasonCode.ROLLED_BACK_BY_ROLLOUT
    if event is ExecutionEvent.CANCEL:
        return event, code
    return ExecutionEvent.FAIL, code
