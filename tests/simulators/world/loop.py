"""The world goes round: devices act, the controller's planner and runner decide, until all is done.

One line replays a run: all chance comes of the seed, and all time is virtual. What never may happen
is watched at each moment (`watch`), and a breach says that line.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from sprat_controller.rollout import grouping, runner
from sprat_controller.rollout.phases import RolloutEvent
from sprat_controller.rollout.strategy import Strategy
from sprat_proto.states import ReasonCode, RolloutState, Step

from simulators.world.columns import IN_PROGRESS, SUCCEEDED, Columns, step_number
from simulators.world.devices import NEVER_MS, Devices, Fate
from simulators.world.draws import Ints
from simulators.world.events import Calendar, Events
from simulators.world.failures import Failures, said
from simulators.world.inbound import Inbound
from simulators.world.memory_book import CHUNK, MemoryBook, moment, ms
from simulators.world.report import Recorder, Report
from simulators.world.strategies import STRATEGIES
from simulators.world.watch import Bounds, BreachError, Watch

SITES: Final = 200
CLASSES: Final = 4
RELEASE: Final = "talk@1.0.0"
# The controller looks so often if something was reported or is due: a decision is never later.
TICK_MS: Final = 5_000
# While it downloads a device tells of its progress so often.
TELLS_EACH_MS: Final = 600_000
_YEAR_MS: Final = 366 * 86_400_000
_BEGINS, _FETCHES, _FETCHED, _TOLD, _SHOWN, _LOST, _BACK, _WENT_BACK = range(8)
_INSTALLING: Final = step_number(Step.INSTALLING)
_DOWNLOADING: Final = step_number(Step.DOWNLOADING)


@dataclass(frozen=True)
class Plan:
    """A run, as its line says it."""

    seed: int = 1
    devices: int = 20_000
    failures: Failures = field(default_factory=Failures)
    strategy: str = "ladder"  # a name of STRATEGIES
    # Seconds after the start at which a person takes the whole rollout back; None: nobody does.
    roll_back_s: int | None = None
    tick_ms: int = TICK_MS
    chunk: int = CHUNK

    def line(self) -> str:
        """Return the line that does it again, for the project's folder."""
        words = [
            f"--seed {self.seed} --devices {self.devices} --failures {said(self.failures)}",
            f"--strategy {self.strategy}",
        ]
        if self.roll_back_s is not None:
            words.append(f"--roll-back-s {self.roll_back_s}")
        if self.tick_ms != TICK_MS:
            words.append(f"--tick-ms {self.tick_ms}")
        if self.chunk != CHUNK:
            words.append(f"--chunk {self.chunk}")
        return "PYTHONPATH=tests .venv/bin/python -m simulators.world " + " ".join(words)


def run(plan: Plan) -> Report:
    """Run a world to its end.

    Raises:
        BreachError: Something happened that never may; the sentence has the line.
    """
    return World(plan).run()


class World:
    """Devices, what will happen to them, and the book in which the controller keeps them.

    Attributes:
        book: The controller's.
        watch: Sees what never may be.
        fallbacks: Silent ones that heartbeats showed.
        downloads: Of the model, by devices; `downloads_back` while the rollout is taken back.
    """

    def __init__(self, plan: Plan) -> None:
        """Make the devices and plan the rollout."""
        self.plan = plan
        self.strategy: Strategy = STRATEGIES[plan.strategy]
        self._began = time.perf_counter()
        self._everyone = Devices(
            plan.seed, plan.devices, plan.failures, sites=SITES, classes=CLASSES
        )
        self._device, group = self._place()
        site = self._everyone.site[self._device]
        columns = Columns(group, site, len(self.strategy.groups), SITES)
        self.columns = columns
        sites = [f"site-{number:03}" for number in range(SITES)]
        self.book = MemoryBook(
            self.strategy, columns, sites, self, seed=plan.seed, chunk=plan.chunk
        )
        self._inbound = Inbound(self.book)
        self._calendar = Calendar(plan.tick_ms)
        self.watch = Watch(plan.devices, site, self._bounds(), plan.line())
        sizes = np.bincount(group, minlength=len(self.strategy.groups)).tolist()
        names = [one.name or str(n) for n, one in enumerate(self.strategy.groups)]
        self._recorder = Recorder(names, sizes)
        self._fetched_ms = np.zeros(plan.devices, dtype=np.int64)
        self._fate = np.zeros(plan.devices, dtype=np.int64)
        self._moves_model = np.zeros(plan.devices, dtype=np.bool_)
        self._has_model = np.zeros(plan.devices, dtype=np.bool_)
        self._is_ended = np.zeros(plan.devices, dtype=np.bool_)
        self._heard: Mapping[int, Callable[[Ints, Ints, Ints], None]] = {
            _BEGINS: self._begins,
            _FETCHES: self._begins,
            _FETCHED: self._fetched,
            _TOLD: self._told,
            _SHOWN: self._shown,
            _LOST: self._lost,
            _BACK: self._back,
            _WENT_BACK: self._went_back,
        }
        self.fallbacks = self.downloads = self.downloads_back = self.rounds = 0
        self.now_ms = 0
        self._person_ms = None if plan.roll_back_s is None else plan.roll_back_s * 1000
        self.planned_s = time.perf_counter() - self._began

    def _place(self) -> tuple[Ints, Ints]:
        """Return the device and the group of each row, as the controller splits a fleet."""
        sites = [f"site-{number:03}" for number in range(SITES)]
        classes = [f"class-{number}" for number in range(CLASSES)]
        members = [
            grouping.Member(str(number), classes[int(one)], sites[int(site)])
            for number, (one, site) in enumerate(
                zip(
                    self._everyone.hardware_class.tolist(),
                    self._everyone.site.tolist(),
                    strict=True,
                )
            )
        ]
        placed = grouping.split(members, self.strategy, RELEASE)
        device = np.array([int(one.device_id) for one in placed], dtype=np.int64)
        return device, np.array([one.group for one in placed], dtype=np.int64)

    def _bounds(self) -> Bounds:
        strategy = self.strategy
        per_site = [one.max_unavailable for one in strategy.budgets if one.max_unavailable]
        return Bounds(
            execution_ms=strategy.deadlines.execution_s * 1000,
            late_ms=self.plan.tick_ms,
            max_in_progress=strategy.pace.max_in_progress,
            max_down_per_site=min(per_site, default=0),
        )

    # The loop

    def run(self) -> Report:
        """Run to the end: until nothing will happen any more."""
        self._watch_absences(np.arange(self.plan.devices, dtype=np.int64), 0)
        self.book.person(RolloutEvent.START, moment(0))
        self._forward()
        while (at_ms := self._next_ms()) is not None:
            self.now_ms = at_ms
            if at_ms > _YEAR_MS:
                raise BreachError(f"it never ends; again with: {self.plan.line()}")
            while (until := self._calendar.next_ms()) is not None and until <= at_ms:
                self._deliver(self._calendar.pop())
            if self._person_ms is not None and self._person_ms <= at_ms:
                self.book.person(RolloutEvent.ROLL_BACK, moment(at_ms))
                self._person_ms = None
            due = self.book.due_at
            if not self.book.is_at_rest or (due is not None and ms(due) <= at_ms):
                self._forward()
        self._check_the_end()
        return self._report()

    def _next_ms(self) -> int | None:
        """Return the end of the next tick in which anything happens, or something is due.

        Nothing does any more in a rollout that waits for a person alone, however often the
        controller looks at it and its devices come and go: nobody is at work in it.
        """
        tick_ms, due = self.plan.tick_ms, self.book.due_at
        is_held = self.book.state is RolloutState.PAUSED and self.book.is_at_rest
        if is_held and not self.columns.in_progress() and self._person_ms is None:
            return None
        if self.book.state is RolloutState.PAUSED and self.book.wakes_at(self.now_ms) is None:
            due = None
        due_ms = None if due is None else -(-ms(due) // tick_ms) * tick_ms
        known = (self._calendar.next_ms(), due_ms, self._person_ms)
        times = [one for one in known if one is not None]
        return max(self.now_ms, min(times)) if times else None

    def _forward(self) -> None:
        """Have the controller's runner work on the rollout, as it does when one is due."""
        self.rounds += 1
        runner.advance(self.book, moment(self.now_ms))

    def _deliver(self, events: Events) -> None:
        """Let what devices tell within one tick come in, kind by kind."""
        for kind in np.flatnonzero(np.bincount(events.what)).tolist():
            of_kind = events.what == kind
            rows, numbers = events.device[of_kind], events.number[of_kind]
            self._heard[kind](rows, numbers, events.at_ms[of_kind])

    # What devices do

    def _begins(self, rows: Ints, numbers: Ints, at: Ints) -> None:
        self._inbound.progressed(rows, numbers, _DOWNLOADING, self.now_ms)
        self._tell_again(rows, numbers, at)

    def _tell_again(self, rows: Ints, numbers: Ints, at: Ints) -> None:
        """Let those whose download goes on long enough tell of their progress."""
        then = self._everyone.there_from(self._device[rows], at + TELLS_EACH_MS)
        goes_on = (then < self._fetched_ms[rows]) & (numbers == self.columns.number[rows])
        self._add(then[goes_on], rows[goes_on], _FETCHES, numbers[goes_on])

    def _fetched(self, rows: Ints, numbers: Ints, at: Ints) -> None:
        del at
        is_wanted = self.columns.state[rows] == IN_PROGRESS
        is_wanted &= self.columns.number[rows] == numbers
        rows, numbers = rows[is_wanted], numbers[is_wanted]
        moved = rows[self._moves_model[rows]]
        self.downloads += len(moved)
        if self.book.state in (RolloutState.ROLLING_BACK, RolloutState.ROLLED_BACK):
            self.downloads_back += len(moved)
        is_good = self._fate[rows] != Fate.DOES_NOT_VERIFY
        rows, numbers = rows[is_good], numbers[is_good]
        self._has_model[np.intersect1d(moved, rows)] = True
        self._inbound.progressed(rows, numbers, _INSTALLING, self.now_ms)

    def _told(self, rows: Ints, numbers: Ints, at: Ints) -> None:
        del at
        fate = self._fate[rows]
        good = (fate == Fate.SUCCEEDS) | (fate == Fate.FALLS_BACK)
        self._inbound.succeeded(rows[good], numbers[good], self.now_ms)
        corrupt, crashed = fate == Fate.DOES_NOT_VERIFY, fate == Fate.CRASHES
        code = ReasonCode.DIGEST_MISMATCH
        self._inbound.failed(rows[corrupt], numbers[corrupt], code, self.now_ms)
        code = ReasonCode.WORKER_CRASHED
        self._inbound.rolled_back(rows[crashed], numbers[crashed], code, self.now_ms)
        refused = fate == Fate.REJECTS
        why = ReasonCode.INSUFFICIENT_MEMORY
        self._inbound.rejected(rows[refused], numbers[refused], why, self.now_ms)

    def _shown(self, rows: Ints, numbers: Ints, at: Ints) -> None:
        """Heartbeats come in: of those that fell back, with another digest than they proved."""
        del at
        is_proved = self.columns.state[rows] == SUCCEEDED
        is_proved &= self.columns.number[rows] == numbers
        rows, numbers = rows[is_proved], numbers[is_proved]
        self.fallbacks += len(rows)
        self._inbound.runs_something_else(rows, numbers, self.now_ms)

    def _went_back(self, rows: Ints, numbers: Ints, at: Ints) -> None:
        del at
        self._inbound.succeeded(rows, numbers, self.now_ms)

    def _lost(self, rows: Ints, numbers: Ints, at: Ints) -> None:
        del numbers
        for last in np.unique(at).tolist():
            self.book.lost(rows[at == last], last)

    def _back(self, rows: Ints, numbers: Ints, at: Ints) -> None:
        del numbers
        self.book.heard(rows)
        self._watch_absences(rows, at)

    def _watch_absences(self, rows: Ints, at: Ints | int) -> None:
        """Let the next absence come that the controller may do something about."""
        left = rows[~self._is_ended[rows]]
        since = np.full(len(rows), at)[~self._is_ended[rows]]
        least_ms = self.strategy.deadlines.offline_grace_s * 1000
        if self.strategy.budgets:
            least_ms = 0
        gone, back = self._everyone.next_absence(self._device[left], since, least_ms)
        goes = gone != NEVER_MS
        zeros = np.zeros_like(left)
        self._add(gone[goes], left[goes], _LOST, zeros[goes])
        self._add(back[goes], left[goes], _BACK, zeros[goes])

    def _add(self, at: Ints, rows: Ints, kind: int, numbers: Ints) -> None:
        self._calendar.add(Events(at, rows, np.full(len(rows), kind), numbers))

    # What the controller's book tells

    def give(self, rows: Ints, at_ms: int, *, is_way_back: bool) -> None:
        """Take work for devices."""
        self.watch.started(rows, at_ms, is_way_back=is_way_back)
        numbers = self.columns.number[rows]
        devices, at = self._device[rows], np.full(len(rows), at_ms)
        if is_way_back:
            back = self._everyone.go_back(devices, numbers - 1, at)
            self._add(back, rows, _WENT_BACK, numbers)
            return
        runs = self._everyone.run(devices, numbers - 1, at, self._has_model[rows])
        self._fetched_ms[rows] = runs.fetched_ms
        self._fate[rows] = runs.fate
        self._moves_model[rows] = runs.fetched_model
        self._add(runs.begun_ms, rows, _BEGINS, numbers)
        loads = runs.fate != Fate.REJECTS
        self._add(runs.fetched_ms[loads], rows[loads], _FETCHED, numbers[loads])
        self._add(runs.told_ms, rows, _TOLD, numbers)
        falls = runs.fate == Fate.FALLS_BACK
        self._add(runs.shown_ms[falls], rows[falls], _SHOWN, numbers[falls])

    def withdraw(self, rows: Ints, at_ms: int) -> None:
        """Work of devices ended: what they still tell of it is too late."""
        self.watch.ended(rows, at_ms)

    def ended(self, rows: Ints, at_ms: int) -> None:
        """Executions became final, or what had succeeded is no longer so."""
        again = self._is_ended[rows]
        first, later = rows[~again], rows[again]
        is_failed = self.columns.state[first] != SUCCEEDED
        self._recorder.ended(self.columns.group[first], is_failed, at_ms)
        self._recorder.turned_bad(self.columns.group[later], at_ms)
        self._is_ended[rows] = True

    def turned(self, state: RolloutState, at_ms: int) -> None:
        """The rollout came into a state."""
        self.watch.turned(state, at_ms)

    # The end

    def _check_the_end(self) -> None:
        """Hold that nothing was lost, doubled or left over."""
        states = self.columns.states()
        if self.book.state is not RolloutState.PAUSED:
            self.watch.at_rest(self.now_ms, states)
        self.columns.check()

    def _report(self) -> Report:
        return Report(
            replay=self.plan.line(),
            devices=self.plan.devices,
            state=self.book.state,
            virtual_s=self.now_ms / 1000,
            wall_s=time.perf_counter() - self._began,
            rounds=self.rounds,
            starts=self.watch.starts,
            most_active=self.watch.most_active,
            model_downloads=self.downloads,
            downloads_back=self.downloads_back,
            states=self.columns.states(),
            reasons=self.columns.reasons(),
            groups=self._recorder.groups(),
            abort=self.book.abort.said() if self.book.abort else "",
        )
