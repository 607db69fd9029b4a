"""One rollout in a world: its book, and what its work comes to on devices."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from sprat_controller.rollout import grouping, runner, timing
from sprat_controller.rollout.gates.measures import ClassFacts
from sprat_controller.rollout.phases import RolloutEvent
from sprat_controller.rollout.strategy import Membership, Strategy
from sprat_proto import windows
from sprat_proto.states import ExecutionState, ReasonCode, RolloutState, Step

from simulators.world.columns import (
    CODES,
    IN_PROGRESS,
    NEVER,
    NOTHING,
    STATES,
    SUCCEEDED,
    Columns,
    step_number,
)
from simulators.world.devices import TRIES_APART, Devices, Fate
from simulators.world.draws import Bools, Ints
from simulators.world.events import Calendar, Events
from simulators.world.inbound import Inbound
from simulators.world.known import Known
from simulators.world.measured import Measured
from simulators.world.memory_book import NEW, MemoryBook, Place
from simulators.world.openings import DeviceWindows, Openings, moment
from simulators.world.report import GateReport, GroupReport, Recorder
from simulators.world.truth import Truth
from simulators.world.watch import Bounds, OneAtATime, Watch

SITES: Final = tuple(f"site-{number:03}" for number in range(200))
CLASSES: Final = tuple(f"class-{number}" for number in range(4))
# While it downloads a device tells of its progress so often.
TELLS_EACH_MS: Final = 600_000
# What happens to devices by a rollout's work; numbers in a calendar are these and KINDS a rollout.
BEGINS, FETCHES, FETCHED, INSTALLS, TOLD, WENT_BACK = range(6)
KINDS: Final = 8
# A device tells what it runs: of no rollout's.
BEATS: Final = -1
_INSTALLING: Final = step_number(Step.INSTALLING)
_WAITING: Final = step_number(Step.WAITING_WINDOW)
_DOWNLOADING: Final = step_number(Step.DOWNLOADING)
# How a device fails before the model is loaded.
_CODES: Final[Mapping[Fate, ReasonCode]] = {
    Fate.DOES_NOT_VERIFY: ReasonCode.DIGEST_MISMATCH,
    Fate.CANNOT_FETCH: ReasonCode.DOWNLOAD_FAILED,
}
_HAS_NO_MODEL: Final = np.array([one in _CODES for one in Fate])
# What may pass by itself, of all that devices of a world fail by.
_MAY_PASS: Final = np.array(
    [one in (ReasonCode.DOWNLOAD_FAILED, ReasonCode.NO_PROGRESS) for one in CODES] + [False]
)
_ENDED_BADLY: Final = np.array(
    [one in (ExecutionState.FAILED, ExecutionState.TIMED_OUT) for one in STATES]
)


@dataclass
class Ground:
    """What all rollouts of a world share."""

    seed: int
    chunk: int
    tick_ms: int
    line: str
    devices: Devices
    calendar: Calendar
    known: Known
    truth: Truth
    one_at_a_time: OneAtATime
    books: list[MemoryBook] = field(default_factory=list[MemoryBook])

    def member(self, device: int) -> grouping.Member:
        """Return who a device is."""
        of_class = CLASSES[int(self.devices.hardware_class[device])]
        return grouping.Member(str(device), of_class, SITES[int(self.devices.site[device])])


class Campaign:
    """A rollout, from when it is planned.

    Attributes:
        book, columns: As the controller keeps it.
        watch: Sees what never may be.
        fetched_ms: By row, when the download of the newest try ends, if nothing ends it before.
        installed_ms: By row, when its device last began to bring in what it was given.
        ended_ms: By row, when it last became final.
        last_end_ms: When the last one became final.
        joined_late: How many came later.
        downloads: Of the model, by devices; `downloads_back` while it is taken back.
    """

    def __init__(self, ground: Ground, name: str, strategy: Strategy, now_ms: int) -> None:
        """Plan it to all devices that are enrolled, and have a person start it."""
        self.name, self.strategy = name, strategy
        self._ground, self._number = ground, len(ground.books)
        self.digest = NEW + self._number
        self._everyone, self._truth = ground.devices, ground.truth
        members = [
            ground.member(device)
            for device in np.flatnonzero(self._everyone.enrolled_ms <= now_ms).tolist()
        ]
        salt = f"talk@1.0.{self._number}"
        placed = grouping.split(members, strategy, salt)
        device = np.array([int(one.device_id) for one in placed], dtype=np.int64)
        group = np.array([one.group for one in placed], dtype=np.int64)
        is_continuous = strategy.membership is Membership.CONTINUOUS
        joiners = self._everyone.count - len(device) if is_continuous else 0
        self.columns = Columns(
            group, self._everyone.site[device], len(strategy.groups), len(SITES), joiners=joiners
        )
        self.book = MemoryBook(
            strategy,
            self.columns,
            SITES,
            self,
            place=Place(
                device,
                ground.known,
                ground.books,
                self._number,
                self.digest,
                salt,
                ground.member,
                self._class_facts,
            ),
            seed=ground.seed + self._number,
            chunk=ground.chunk,
        )
        self.device = self.book.device
        capacity = len(self.columns.state)
        self.watch = Watch(
            capacity, self.columns.site, self._bounds(), ground.line, sites=len(SITES)
        )
        names = [one.name or str(n) for n, one in enumerate(strategy.groups)]
        self._recorder = Recorder(names)
        told = timing.windows_of(strategy)
        self.windows = DeviceWindows(
            None if told.download is None else Openings(told.download),
            None if told.activate is None else Openings(told.activate),
        )
        self._window = None if told.activate is None else windows.parse(told.activate)
        self._inbound = Inbound(self.book)
        self._measured = Measured(
            self.columns,
            self.device,
            self._everyone.hardware_class,
            CLASSES,
            lambda devices: self._everyone.measure(
                devices, np.zeros_like(devices), np.ones(len(devices))
            ),
        )
        self._has_gates = any(one.gate for one in strategy.groups)
        self.fetched_ms = np.zeros(capacity, dtype=np.int64)
        self._installs_ms = np.zeros(capacity, dtype=np.int64)
        self._fate = np.zeros(capacity, dtype=np.int64)
        self._rate = np.ones(capacity, dtype=np.float64)
        self._ran = np.zeros(capacity, dtype=np.int64)  # before it was given this
        self._moves_model = np.zeros(capacity, dtype=np.bool_)
        self._has_model = np.zeros(capacity, dtype=np.bool_)
        self.is_ended = np.zeros(capacity, dtype=np.bool_)
        self.installed_ms = np.full(capacity, NOTHING, dtype=np.int64)
        self.ended_ms = np.full(capacity, NOTHING, dtype=np.int64)
        self._heard: Mapping[int, Callable[[Ints, Ints, Ints], None]] = {
            BEGINS: self._begins,
            FETCHES: self._begins,
            FETCHED: self._fetched,
            INSTALLS: self._installs,
            TOLD: self._told,
            WENT_BACK: self._went_back,
        }
        self.downloads = self.downloads_back = self.rounds = self.joined_late = 0
        self.now_ms = self.last_end_ms = now_ms

    def _bounds(self) -> Bounds:
        strategy = self.strategy
        per_site = [one.max_unavailable for one in strategy.budgets if one.max_unavailable]
        # What waits for windows, or for devices however long they stay away, may take longer.
        is_bound = strategy.membership is Membership.SNAPSHOT and not strategy.activate_window
        return Bounds(
            execution_ms=strategy.deadlines.execution_s * 1000 if is_bound else None,
            late_ms=self._ground.tick_ms,
            max_in_progress=strategy.pace.max_in_progress,
            max_down_per_site=min(per_site, default=0),
        )

    # The controller

    def start(self, now_ms: int) -> None:
        """Have a person start it."""
        self.now_ms = now_ms
        self.book.person(RolloutEvent.START, moment(now_ms))

    def forward(self, now_ms: int) -> None:
        """Have the controller's runner work on it, as it does when it is due."""
        self.now_ms = now_ms
        self.rounds += 1
        runner.advance(self.book, moment(now_ms))

    def hear(self, kind: int, rows: Ints, numbers: Ints, at: Ints, now_ms: int) -> None:
        """Let what devices tell within one tick come in, all of one kind."""
        self.now_ms = now_ms
        self._heard[kind](rows, numbers, at)

    def fell_back(self, devices: Ints, now_ms: int) -> None:
        """Heartbeats showed that devices fell back from what this brought."""
        rows = self.book.rows_of_devices(devices)
        if self._has_gates:
            self._measured.crashed(rows)
            self.book.judge_again(rows)
        self._inbound.fell_back(rows, now_ms)

    def measure(self, devices: Ints) -> None:
        """Have devices tell what they measured with what they run, if that is this release."""
        if not self._has_gates:
            return
        rows = self.book.rows_of_devices(devices)
        rows = np.unique(rows[rows != NOTHING])
        rows = rows[self._truth.running[self.device[rows]] == self.digest]
        tries = self.columns.number[rows] + self._number * TRIES_APART
        told = self._everyone.measure(self.device[rows], tries, self._rate[rows])
        self._measured.tell(rows, told)
        self.book.judge_again(rows)

    def _class_facts(self, group: int) -> dict[str, ClassFacts]:
        return self._measured.of_group(group)

    # What devices do

    def _begins(self, rows: Ints, numbers: Ints, at: Ints) -> None:
        self._inbound.progressed(rows, numbers, _DOWNLOADING, self.now_ms)
        self._tell_again(rows, numbers, at)

    def _tell_again(self, rows: Ints, numbers: Ints, at: Ints) -> None:
        """Let those whose download goes on long enough tell of their progress."""
        later = at + TELLS_EACH_MS
        then = self._everyone.progress_from(self.device[rows], later, self.windows)
        goes_on = (then < self.fetched_ms[rows]) & (numbers == self.columns.number[rows])
        self._add(then[goes_on], rows[goes_on], FETCHES, numbers[goes_on])

    def _fetched(self, rows: Ints, numbers: Ints, at: Ints) -> None:
        del at
        rows, numbers = self._wanted(rows, numbers)
        moved = rows[self._moves_model[rows] & (self._fate[rows] != Fate.CANNOT_FETCH)]
        self.downloads += len(moved)
        if self.book.state in (RolloutState.ROLLING_BACK, RolloutState.ROLLED_BACK):
            self.downloads_back += len(moved)
        is_good = ~_HAS_NO_MODEL[self._fate[rows]]
        rows, numbers = rows[is_good], numbers[is_good]
        self._has_model[np.intersect1d(moved, rows)] = True
        if self._window is None:
            self._inbound.progressed(rows, numbers, _INSTALLING, self.now_ms)
            return
        self._inbound.progressed(rows, numbers, _WAITING, self.now_ms)
        self._add(self._installs_ms[rows], rows, INSTALLS, numbers)

    def _installs(self, rows: Ints, numbers: Ints, at: Ints) -> None:
        """Devices begin to bring it in, online or not; those that are online tell."""
        is_wanted = self._is_wanted(rows, numbers)
        rows, numbers, at = rows[is_wanted], numbers[is_wanted], at[is_wanted]
        devices = self.device[rows]
        local = self._everyone.local_ms(devices, at)
        for device, clock in zip(devices.tolist(), local.tolist(), strict=True):
            self.watch.installs(device, moment(clock), self._window, self.now_ms)
        self.installed_ms[rows] = at
        is_online = self._everyone.there_from(devices, at) == at
        self._inbound.progressed(rows[is_online], numbers[is_online], _INSTALLING, self.now_ms)

    def _told(self, rows: Ints, numbers: Ints, at: Ints) -> None:
        """Devices tell how it ended; what runs on them then may be something else already."""
        del at
        rows, numbers = self._wanted(rows, numbers)
        fate = self._fate[rows]
        falls = fate == Fate.FALLS_BACK
        good = (fate == Fate.SUCCEEDS) | falls
        devices = self.device[rows]
        self._truth.proves(devices[good], self.digest)
        running = self._truth.running[devices]
        self._ground.known.accounts.explain(devices, self.digest, running, good)
        if falls.any():
            self._truth.falls_back(devices[falls], self._ran[rows[falls]], self.now_ms)
        self._inbound.succeeded(rows[good], numbers[good], self.now_ms)
        crashed = fate == Fate.CRASHES
        if self._has_gates:
            self._measured.crashed(rows[crashed])
        why = ReasonCode.WORKER_CRASHED
        self._inbound.rolled_back(rows[crashed], numbers[crashed], why, self.now_ms)
        for one, code in _CODES.items():
            bad = fate == one
            self._inbound.failed(rows[bad], numbers[bad], code, self.now_ms)
        refused = fate == Fate.REJECTS
        why = ReasonCode.INSUFFICIENT_MEMORY
        self._inbound.rejected(rows[refused], numbers[refused], why, self.now_ms)

    def _went_back(self, rows: Ints, numbers: Ints, at: Ints) -> None:
        del at
        rows, numbers = self._wanted(rows, numbers)
        devices = self.device[rows]
        for digest in np.unique(self._ran[rows]).tolist():
            of_digest = devices[self._ran[rows] == digest]
            self._truth.proves(of_digest, digest)
            running, good = self._truth.running[of_digest], np.ones(len(of_digest), np.bool_)
            self._ground.known.accounts.explain(of_digest, digest, running, good)
        self._inbound.succeeded(rows, numbers, self.now_ms)

    def _wanted(self, rows: Ints, numbers: Ints) -> tuple[Ints, Ints]:
        """Return those that are still to do it; a device ends what is not, and tells nothing."""
        is_wanted = self._is_wanted(rows, numbers)
        return rows[is_wanted], numbers[is_wanted]

    def _is_wanted(self, rows: Ints, numbers: Ints) -> Bools:
        columns = self.columns
        return (columns.state[rows] == IN_PROGRESS) & (columns.number[rows] == numbers)

    def _add(self, at: Ints, rows: Ints, kind: int, numbers: Ints) -> None:
        what = np.full(len(rows), self._number * KINDS + kind)
        self._ground.calendar.add(Events(at, rows, what, numbers))

    # What the controller's book tells: see `memory_book.Outside`

    def give(self, rows: Ints, at_ms: int, *, is_way_back: bool) -> None:
        """Take work for devices."""
        self.watch.started(rows, at_ms, is_way_back=is_way_back)
        numbers = self.columns.number[rows]
        devices, at = self.device[rows], np.full(len(rows), at_ms)
        one_at_a_time = self._ground.one_at_a_time
        one_at_a_time.started(devices, self._number, at_ms, is_way_back=is_way_back)
        self._truth.moves_on(devices)
        tries = numbers - 1 + self._number * TRIES_APART
        if is_way_back:
            back = self._everyone.go_back(devices, tries, at)
            self._add(back, rows, WENT_BACK, numbers)
            return
        self._ran[rows] = self._truth.running[devices]
        has_model = self._has_model[rows]
        runs = self._everyone.run(devices, tries, at, has_model, self.windows)
        self.fetched_ms[rows] = runs.fetched_ms
        self._installs_ms[rows] = runs.installs_ms
        self._fate[rows] = runs.fate
        self._rate[rows] = runs.rate
        self._moves_model[rows] = runs.fetched_model
        self._add(runs.begun_ms, rows, BEGINS, numbers)
        loads = runs.fate != Fate.REJECTS
        self._add(runs.fetched_ms[loads], rows[loads], FETCHED, numbers[loads])
        self._add(runs.told_ms, rows, TOLD, numbers)
        # Healthy or not, each tells what it runs with the next heartbeat.
        beats = np.full(len(rows), BEATS)
        self._ground.calendar.add(Events(runs.shown_ms, devices, beats, numbers))

    def withdraw(self, rows: Ints, at_ms: int) -> None:
        """Work of devices ended: what they still tell of it is too late."""
        self.watch.ended(rows, at_ms)
        self._ground.one_at_a_time.ended(self.device[rows])

    def ended(self, rows: Ints, at_ms: int) -> None:
        """Executions became final, or what had succeeded is no longer so."""
        again = self.is_ended[rows]
        first, later = rows[~again], rows[again]
        is_failed = self.columns.state[first] != SUCCEEDED
        self._recorder.ended(self.columns.group[first], is_failed, at_ms)
        self._recorder.turned_bad(self.columns.group[later], at_ms)
        self.is_ended[rows] = True
        self.ended_ms[rows] = at_ms
        self.last_end_ms = at_ms
        self._expect_penalties(rows, at_ms)

    def _expect_penalties(self, rows: Ints, at_ms: int) -> None:
        """Have the watch expect that devices are left alone on which tries are used up."""
        asked = self.strategy.retries
        if not asked.attempts or not asked.penalty_s:
            return
        bad = rows[_ENDED_BADLY[self.columns.state[rows]] & _MAY_PASS[self.columns.reason[rows]]]
        if not len(bad):
            return
        until_ms = at_ms + asked.penalty_s * 1000
        self._ground.one_at_a_time.penalised(self.device[bad], until_ms)

    def turned(self, state: RolloutState, at_ms: int) -> None:
        """The rollout came into a state."""
        self.watch.turned(state, at_ms)

    def joined(self, rows: Ints, at_ms: int) -> None:
        """Devices joined it, which may be away already."""
        self.joined_late += len(rows)
        lost = self._ground.known.lost_ms[self.device[rows]]
        for row, last in zip(rows.tolist(), lost.tolist(), strict=True):
            if last != NEVER:
                self.book.lost(np.array([row]), min(last, at_ms))

    # The end

    def check_the_end(self) -> None:
        """Hold that nothing was lost, doubled or left over."""
        states = self.columns.states()
        if self.book.state is not RolloutState.PAUSED:
            self.watch.at_rest(self.now_ms, states)
        self.columns.check()

    def groups(self) -> tuple[GroupReport, ...]:
        """Return what became of its groups."""
        return self._recorder.groups(self.columns.sizes())

    def gates(self) -> tuple[GateReport, ...]:
        """Return what the gates of groups that started say, by all that was told in the end."""
        return tuple(
            GateReport(
                self.strategy.groups[number].name or str(number),
                found.verdict.value,
                {one.hardware_class: one.health.value for one in found.classes},
                found.said(),
            )
            for number, found in self.book.judge_all().items()
        )
