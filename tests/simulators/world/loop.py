"""The world goes round: devices act, the controller's planner and runner decide, until all is done.

One line replays a run: all chance comes of the seed, and all time is virtual. What never may happen
is watched at each moment (`watch`), and a breach says that line.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from sprat_controller.rollout.phases import RolloutEvent
from sprat_controller.rollout.strategy import Membership, Strategy
from sprat_proto.states import RolloutState

from simulators.world.campaign import BEATS, CLASSES, KINDS, SITES, Campaign, Ground
from simulators.world.columns import NEVER, NOTHING
from simulators.world.devices import HEARTBEAT_S, NEVER_MS, Devices
from simulators.world.draws import Ints
from simulators.world.events import Calendar, Events
from simulators.world.failures import Failures, said
from simulators.world.known import Known
from simulators.world.memory_book import CHUNK
from simulators.world.openings import moment, ms
from simulators.world.report import Report
from simulators.world.strategies import SCENARIOS, STRATEGIES, Launch
from simulators.world.truth import Truth
from simulators.world.watch import BreachError, OneAtATime

# The controller looks so often if something was reported or is due: a decision is never later.
TICK_MS: Final = 5_000
_YEAR_MS: Final = 366 * 86_400_000
# What devices do by themselves; what they do for a rollout is numbered from 0 (`campaign`).
_LOST, _BACK, _ENROLS = -2, -3, -4
_LEAST: Final = _ENROLS


@dataclass(frozen=True)
class Plan:
    """A run, as its line says it."""

    seed: int = 1
    devices: int = 20_000
    failures: Failures = field(default_factory=Failures)
    strategy: str = "ladder"  # a name of STRATEGIES
    # A name of SCENARIOS, which then says what is rolled out, instead of a strategy.
    scenario: str = ""
    # Seconds after the start at which a person takes the whole rollout back; None: nobody does.
    roll_back_s: int | None = None
    tick_ms: int = TICK_MS
    chunk: int = CHUNK

    def launches(self) -> tuple[Launch, ...]:
        """Return what is rolled out, oldest first."""
        if self.scenario:
            return SCENARIOS[self.scenario].launches
        return (Launch(self.strategy),)

    def line(self) -> str:
        """Return the line that does it again, for the project's folder."""
        words = [f"--seed {self.seed} --devices {self.devices} --failures {said(self.failures)}"]
        if self.scenario:
            words.append(f"--scenario {self.scenario}")
        else:
            words.append(f"--strategy {self.strategy}")
        if self.roll_back_s is not None:
            words.append(f"--roll-back-s {self.roll_back_s}")
        if self.tick_ms != TICK_MS:
            words.append(f"--tick-ms {self.tick_ms}")
        if self.chunk != CHUNK:
            words.append(f"--chunk {self.chunk}")
        return "PYTHONPATH=tests .venv/bin/python -m simulators.world " + " ".join(words)


def scenario(name: str, *, seed: int, devices: int) -> Plan:
    """Return a scenario as it is if the line says nothing else.

    Raises:
        KeyError: There is none of this name.
    """
    failures = SCENARIOS[name].failures
    return Plan(seed=seed, devices=devices, failures=failures, scenario=name)


def run(plan: Plan) -> Report:
    """Run a world to its end.

    Raises:
        BreachError: Something happened that never may; the sentence has the line.
    """
    return World(plan).run()


class World:
    """Devices, what will happen to them, and the rollouts that a controller has at work on them.

    Attributes:
        campaigns: The rollouts that were started, oldest first.
        ground: What they share.
    """

    def __init__(self, plan: Plan) -> None:
        """Make the devices, and plan what is started when the world begins.

        Raises:
            ValueError: Of several rollouts one has budgets, which a world counts for one only.
        """
        self.plan = plan
        self._began = time.perf_counter()
        launches = plan.launches()
        if len(launches) > 1 and any(STRATEGIES[one.strategy].budgets for one in launches):
            raise ValueError("expected no budgets where there are several rollouts")
        devices = Devices(
            plan.seed, plan.devices, plan.failures, sites=len(SITES), classes=len(CLASSES)
        )
        self.ground = Ground(
            seed=plan.seed,
            chunk=plan.chunk,
            tick_ms=plan.tick_ms,
            line=plan.line(),
            devices=devices,
            calendar=Calendar(plan.tick_ms),
            known=Known(plan.devices),
            truth=Truth(plan.devices),
            one_at_a_time=OneAtATime(plan.devices, plan.line()),
        )
        self._everyone, self._calendar = devices, self.ground.calendar
        self._heard: Mapping[int, Callable[[Ints, Ints], None]] = {
            BEATS: self._beats,
            _LOST: self._lost,
            _BACK: self._back,
            _ENROLS: self._enrols,
        }
        self.now_ms = 0
        self._person_ms = None if plan.roll_back_s is None else plan.roll_back_s * 1000
        self.campaigns: list[Campaign] = []
        self._pending = list(launches)
        self._plan_due()
        self.planned_s = time.perf_counter() - self._began

    def _plan_due(self) -> list[Campaign]:
        """Plan the rollouts whose time has come."""
        if not self._pending:
            return []
        due = [one for one in self._pending if one.at_s * 1000 <= self.now_ms]
        self._pending = self._pending[len(due) :]
        begun = [
            Campaign(self.ground, one.strategy, STRATEGIES[one.strategy], self.now_ms)
            for one in due
        ]
        self.campaigns += begun
        return begun

    # The loop

    def run(self) -> Report:
        """Run to the end: until nothing will happen any more."""
        self._people_enrol()
        for one in self.campaigns:
            one.start(0)
            one.forward(0)
        while (at_ms := self._next_ms()) is not None:
            self.now_ms = at_ms
            if at_ms > _YEAR_MS:
                raise BreachError(f"it never ends; again with: {self.plan.line()}")
            while (until := self._calendar.next_ms()) is not None and until <= at_ms:
                self._deliver(self._calendar.pop())
            self._people_act()
            for one in self.campaigns:
                due = one.book.due_at
                if not one.book.is_at_rest or (due is not None and ms(due) <= at_ms):
                    one.forward(at_ms)
        for one in self.campaigns:
            one.now_ms = self.now_ms
            one.check_the_end()
        return self._report()

    def _next_ms(self) -> int | None:
        """Return the end of the next tick in which anything happens, or something is due.

        Nothing does any more in rollouts that wait for a person alone, however often the
        controller looks at them and their devices come and go: nobody is at work in them.
        """
        is_held = all(_is_held(one, self.now_ms) for one in self.campaigns)
        if is_held and not self._pending and self._person_ms is None:
            return None
        known = [self._calendar.next_ms(), self._person_ms]
        known += [self._due_ms(one) for one in self.campaigns]
        known += [one.at_s * 1000 for one in self._pending]
        times = [one for one in known if one is not None]
        return max(self.now_ms, min(times)) if times else None

    def _due_ms(self, campaign: Campaign) -> int | None:
        book, tick_ms = campaign.book, self.plan.tick_ms
        due = book.due_at
        if book.state is RolloutState.PAUSED and book.wakes_at(self.now_ms) is None:
            due = None
        if not book.is_at_rest:
            return self.now_ms + tick_ms
        return None if due is None else -(-ms(due) // tick_ms) * tick_ms

    def _deliver(self, events: Events) -> None:
        """Let what devices tell within one tick come in, kind by kind, in the order of kinds."""
        found: list[int] = np.flatnonzero(np.bincount(events.what - _LEAST)).tolist()
        kinds = [one + _LEAST for one in found]
        # What devices report comes before the heartbeats that say what runs after it.
        for kind in sorted(kinds, key=lambda kind: (kind < 0, abs(kind))):
            of_kind = events.what == kind
            who, at = events.device[of_kind], events.at_ms[of_kind]
            if kind < 0:
                self._heard[kind](who, at)
                continue
            campaign: Campaign = self.campaigns[kind // KINDS]
            campaign.hear(kind % KINDS, who, events.number[of_kind], at, self.now_ms)

    # What people do

    def _people_enrol(self) -> None:
        enrolled = self._everyone.enrolled_ms
        self._watch_absences(np.flatnonzero(enrolled == 0), 0)
        late = np.flatnonzero(enrolled > 0)
        self._add(enrolled[late], late, _ENROLS)

    def _people_act(self) -> None:
        for one in self._plan_due():
            one.start(self.now_ms)
            self._tell_of_lost(one)
        if self._person_ms is not None and self._person_ms <= self.now_ms:
            self.campaigns[-1].book.person(RolloutEvent.ROLL_BACK, moment(self.now_ms))
            self._person_ms = None

    def _tell_of_lost(self, campaign: Campaign) -> None:
        """Have a new rollout know of devices that are away already."""
        lost = self.ground.known.lost_ms
        gone = np.flatnonzero(lost != NEVER)
        rows = campaign.book.rows_of_devices(gone)
        for last in np.unique(lost[gone]).tolist():
            those = rows[(lost[gone] == last) & (rows != NOTHING)]
            campaign.book.lost(those, last)

    # What devices do by themselves

    def _beats(self, devices: Ints, at: Ints) -> None:
        """Heartbeats come in, with the digest that really answers."""
        del at
        known, truth = self.ground.known, self.ground.truth
        for one in self.campaigns:
            one.measure(devices)
        running, desired = truth.running[devices], known.desired[devices]
        fell = known.accounts.settle(devices, running, desired, moment(self.now_ms))
        if not len(fell):
            return
        truth.concluded(fell, self.now_ms)
        for number, one in enumerate(self.campaigns):
            should_run = known.accounts.expected(fell) == one.digest
            one.fell_back(fell[should_run & (known.bound[fell] == number)], self.now_ms)

    def _lost(self, devices: Ints, at: Ints) -> None:
        self.ground.known.lost_ms[devices] = at
        for one in self.campaigns:
            rows = one.book.rows_of_devices(devices)
            is_in = rows != NOTHING
            for last in np.unique(at[is_in]).tolist():
                one.book.lost(rows[is_in & (at == last)], last)

    def _back(self, devices: Ints, at: Ints) -> None:
        self.ground.known.lost_ms[devices] = NEVER
        for one in self.campaigns:
            rows = one.book.rows_of_devices(devices)
            one.book.heard(rows[rows != NOTHING])
        self._watch_absences(devices, at)

    def _enrols(self, devices: Ints, at: Ints) -> None:
        for one in self.campaigns:
            one.book.enrolled(devices)
        self._watch_absences(devices, at)

    def _watch_absences(self, devices: Ints, at: Ints | int) -> None:
        """Let the next absence come that the controller may do something about."""
        is_left = ~self._is_over(devices)
        left, since = devices[is_left], np.full(len(devices), at)[is_left]
        gone, back = self._everyone.next_absence(left, since, self._least_absence_ms())
        goes = gone != NEVER_MS
        self._add(gone[goes], left[goes], _LOST)
        self._add(back[goes], left[goes], _BACK)

    def _least_absence_ms(self) -> int:
        strategies = [STRATEGIES[one.strategy] for one in self.plan.launches()]
        return min(map(_noticed_after_ms, strategies))

    def _is_over(self, devices: Ints) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Return for which nothing is rolled out any more, as far as is known."""
        over = np.full(len(devices), not self._pending, dtype=np.bool_)
        for one in self.campaigns:
            rows = one.book.rows_of_devices(devices)
            is_snapshot = one.strategy.membership is Membership.SNAPSHOT
            over &= np.where(rows == NOTHING, is_snapshot, one.is_ended[rows])
        return over

    def _add(self, at: Ints, devices: Ints, kind: int) -> None:
        what, nothing = np.full(len(devices), kind), np.zeros_like(devices)
        self._calendar.add(Events(at, devices, what, nothing))

    # The end

    def _report(self) -> Report:
        all_of = self.campaigns
        first = all_of[0]
        is_one = len(all_of) == 1
        groups = [
            group if is_one else replace(group, name=f"{one.name}: {group.name}")
            for one in all_of
            for group in one.groups()
        ]
        aborts = [one.book.abort.said() for one in all_of if one.book.abort]
        return Report(
            replay=self.plan.line(),
            devices=sum(one.columns.count for one in all_of),
            state=", ".join(one.book.state for one in all_of),
            virtual_s=self.now_ms / 1000,
            wall_s=time.perf_counter() - self._began,
            rounds=sum(one.rounds for one in all_of),
            starts=sum(one.watch.starts for one in all_of),
            most_active=self.ground.one_at_a_time.most_active,
            model_downloads=sum(one.downloads for one in all_of),
            downloads_back=sum(one.downloads_back for one in all_of),
            states=_summed([one.columns.states() for one in all_of]),
            reasons=_summed([one.columns.reasons() for one in all_of]),
            groups=tuple(groups),
            abort="; ".join(aborts),
            fallbacks=self.ground.truth.fallbacks(),
            joined=sum(one.joined_late for one in all_of),
            penalised=self.ground.one_at_a_time.penalties(),
            gates=tuple(gate for one in all_of for gate in one.gates()),
            windows=self._openings(first),
        )

    def _openings(self, campaign: Campaign) -> tuple[tuple[float, float], ...]:
        if campaign.windows.activate is None:
            return ()
        stretches = campaign.windows.activate.stretches(self.now_ms)
        return tuple((max(0, opens) / 1000, closes / 1000) for opens, closes in stretches)


def _is_held(campaign: Campaign, now_ms: int) -> bool:
    """Tell whether a rollout waits for a person, and no device has told all by then."""
    book = campaign.book
    is_paused = book.state is RolloutState.PAUSED and book.is_at_rest
    # The last heartbeats still come in, which gates are judged by in the end.
    all_told_ms = campaign.last_end_ms + 2 * HEARTBEAT_S * 1000
    is_quiet = now_ms >= all_told_ms
    return is_paused and is_quiet and not campaign.columns.in_progress()


def _noticed_after_ms(strategy: Strategy) -> int:
    return 0 if strategy.budgets else strategy.deadlines.offline_grace_s * 1000


def _summed(counts: list[dict[str, int]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for one in counts:
        for name, count in one.items():
            found[name] = found.get(name, 0) + count
    return found
