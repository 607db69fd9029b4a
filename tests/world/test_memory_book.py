"""The book in columns means what the slow one in plain objects means: `simulators.small_book`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from simulators.small_book import SITE, Run, SmallBook, SmallFleet
from simulators.small_device import Report
from simulators.world.columns import Columns, step_number
from simulators.world.draws import Ints
from simulators.world.inbound import Inbound
from simulators.world.memory_book import MemoryBook
from simulators.world.openings import BEGIN, ms
from sprat_controller.errors import ConflictError
from sprat_controller.rollout import planner
from sprat_controller.rollout.facts import (
    Assign,
    Cancel,
    Decision,
    Excuse,
    Facts,
    Readmit,
    Remove,
    Revert,
    TimeOut,
)
from sprat_controller.rollout.phases import ExecutionEvent, RolloutEvent
from sprat_controller.rollout.strategy import (
    AbortAction,
    AbortCriterion,
    Deadlines,
    DisruptionBudget,
    Extent,
    FailureType,
    Group,
    Pace,
    Retries,
    Strategy,
)
from sprat_proto.states import ExecutionState, ReasonCode, RolloutState, Step

SITES = ("", "north", "south")
LIMITS = Deadlines(
    execution_s=7_200, no_progress_s=600, install_s=300, probe_s=120, offline_grace_s=900
)
STRATEGIES = st.builds(
    Strategy,
    groups=st.lists(
        st.builds(
            Group,
            devices=st.integers(0, 3),
            success_percent=st.sampled_from([0, 50, 100]),
            soak_s=st.sampled_from([0, 300]),
            waits_for_promotion=st.booleans(),
        ),
        max_size=2,
    ).map(lambda groups: (*groups, Group())),
    pace=st.builds(
        Pace, max_in_progress=st.integers(0, 3), starts_per_minute=st.sampled_from([0, 2])
    ),
    budgets=st.sampled_from(
        [
            (),
            (DisruptionBudget(SITE, max_unavailable=1),),
            (DisruptionBudget(SITE, max_unavailable_percent=50),),
        ]
    ),
    abort=st.lists(
        st.builds(
            AbortCriterion,
            failure=st.sampled_from(FailureType),
            percent=st.sampled_from([1, 60]),
            min_count=st.integers(1, 3),
            min_ended=st.sampled_from([1, 1, 4]),
            extent=st.sampled_from(Extent),
            action=st.sampled_from(AbortAction),
            acts_on=st.sampled_from(Extent),
        ),
        max_size=2,
    ).map(tuple),
    deadlines=st.just(LIMITS),
    # A delay of less than a second, drawn differently by the two: the clock goes in minutes.
    retries=st.builds(Retries, attempts=st.integers(0, 2), base_s=st.just(1), ceiling_s=st.just(1)),
    ends_at=st.sampled_from([0, 0, 0, int(BEGIN.timestamp()) + 5_000]),
    override=st.sampled_from(["", "", "", "a leak"]),
)
STEPS = (Step.DOWNLOADING, Step.INSTALLING, Step.PROBING, Step.SOAKING, Step.COMMITTING)
# How one that is under way ends badly: before the model is loaded, or after that.
BADLY = {
    "corrupt": (ExecutionState.FAILED, ReasonCode.DIGEST_MISMATCH),
    "cut off": (ExecutionState.FAILED, ReasonCode.DOWNLOAD_FAILED),
    "crash": (ExecutionState.ROLLED_BACK, ReasonCode.WORKER_CRASHED),
    "no room": (ExecutionState.ROLLED_BACK, ReasonCode.INSUFFICIENT_MEMORY),
}
DONE = ("succeed", "succeed", "succeed", *BADLY, "reject", "fall back")
OF_ROWS = (Assign, TimeOut, Remove, Excuse, Readmit, Cancel, Revert)
PEOPLE = ("PAUSE", "RESUME", "RESUME", "STOP", "ROLL_BACK")
THINGS = st.one_of(
    st.tuples(st.just("time"), st.sampled_from(["60", "120", "600", "1800", "7200"])),
    st.tuples(st.just("step"), st.sampled_from(STEPS).map(str)),
    st.tuples(st.just("done"), st.sampled_from(DONE)),
    st.tuples(st.just("all"), st.sampled_from(DONE)),
    st.tuples(st.sampled_from(["lose", "hear", "remove"]), st.just("")),
    # For longer than the grace: it is excused, and counts again when it is back.
    st.tuples(st.sampled_from(["away", "away", "back"]), st.just("")),
    st.tuples(st.just("person"), st.sampled_from(PEOPLE)),
    st.tuples(st.just("promote"), st.just("")),
)


class Nowhere:
    """Devices that nobody asks."""

    def give(self, rows: Ints, at_ms: int, *, is_way_back: bool) -> None: ...
    def withdraw(self, rows: Ints, at_ms: int) -> None: ...
    def ended(self, rows: Ints, at_ms: int) -> None: ...
    def turned(self, state: RolloutState, at_ms: int) -> None: ...
    def joined(self, rows: Ints, at_ms: int) -> None: ...


@dataclass
class Both:
    """The same rollout to the same devices in both books."""

    fleet: SmallFleet
    slow: SmallBook
    fast: MemoryBook
    runs: list[Run]  # of the slow one, by row of the fast one

    def __post_init__(self) -> None:
        self.inbound = Inbound(self.fast)
        self.rows = {run.id: str(row) for row, run in enumerate(self.runs)}

    def look(self) -> None:
        """Bring both as far as they go, decision by decision."""
        for _ in range(200):
            now = self.fleet.now
            slow, fast = self.slow.read(now), self.fast.read(now)
            self.compare(slow, fast)
            decisions = planner.decide(slow, now)
            mine = planner.decide(fast, now)
            assert mine == [self.said(one) for one in decisions]
            if not decisions:
                return
            for one, other in zip(decisions, mine, strict=True):
                self.slow.carry_out(one, now)
                self.fast.carry_out(other, now)
        pytest.fail("they do not come to rest")

    def compare(self, slow: Facts, fast: Facts) -> None:
        for name in ("overdue", "removed", "silent", "returned", "unfinished", "proved"):
            expected = tuple(self.rows[one] for one in getattr(slow, name))
            assert getattr(fast, name) == expected, name
        assert (fast.state, fast.groups) == (slow.state, slow.groups)
        queue = tuple(replace(one, execution_id=self.rows[one.execution_id]) for one in slow.queue)
        assert fast.queue == queue[: len(fast.queue)]
        assert bool(fast.queue) == bool(queue)
        assert (fast.wakes_at is None) == (slow.wakes_at is None)
        if fast.wakes_at is not None and slow.wakes_at is not None:
            assert abs(fast.wakes_at - slow.wakes_at) < timedelta(seconds=1)
        if not slow.strategy.override:
            assert fast.load.in_progress == slow.load.in_progress
        if slow.strategy.budgets and not slow.strategy.override:
            assert fast.load.down == slow.load.down
        self.fast.columns.check()

    def said(self, decision: Decision) -> Decision:
        """Return a decision of the slow book with the ids of the fast one."""
        if not isinstance(decision, OF_ROWS):
            return decision
        return replace(decision, executions=tuple(self.rows[one] for one in decision.executions))

    def working(self) -> list[int]:
        return [n for n, run in enumerate(self.runs) if run.state is ExecutionState.IN_PROGRESS]

    def tell(
        self, row: int, state: ExecutionState, code: ReasonCode | None, step: Step | None
    ) -> None:
        run = self.runs[row]
        running = run.back_to if run.is_reverting else self.slow.release
        self.slow.report(run, Report(1, run.name, state, step, code, running))

    def done(self, row: int, how: str) -> None:
        """Let one that is under way end, in one of the ways of DONE."""
        now, rows = ms(self.fleet.now), np.array([row])
        numbers = self.fast.columns.number[rows]
        run = self.runs[row]
        if how in BADLY or (run.is_reverting and how != "succeed"):
            state, code = BADLY.get(how, BADLY["corrupt"])
            state = ExecutionState.FAILED if run.is_reverting else state
            self.tell(row, state, code, None)
            is_failed = state is ExecutionState.FAILED
            ended = self.inbound.failed if is_failed else self.inbound.rolled_back
            ended(rows, numbers, code, now)
        elif how == "reject":
            self.tell(row, ExecutionState.REJECTED, ReasonCode.NO_VARIANT_FITS, None)
            self.inbound.rejected(rows, numbers, ReasonCode.NO_VARIANT_FITS, now)
        else:
            self.tell(row, ExecutionState.SUCCEEDED, None, None)
            self.inbound.succeeded(rows, numbers, now)
        if how == "fall back" and run.state is ExecutionState.SUCCEEDED:
            self.slow.move(run, ExecutionEvent.ROLL_BACK, ReasonCode.REVERTED)
            self.inbound.fell_back(rows, now)

    def do(self, what: str, detail: str, which: int) -> None:
        """Let one thing happen in both."""
        row = which % len(self.runs)
        working = self.working()
        match what:
            case "time":
                self.fleet.now += timedelta(seconds=int(detail))
            case "step" if working:
                at = working[which % len(working)]
                step = Step.ROLLING_BACK if self.runs[at].is_reverting else Step(detail)
                self.tell(at, ExecutionState.IN_PROGRESS, None, step)
                rows = np.array([at])
                numbers = self.fast.columns.number[rows]
                self.inbound.progressed(rows, numbers, step_number(step), ms(self.fleet.now))
            case "done" if working:
                self.done(working[which % len(working)], detail)
            case "all":
                for at in working:
                    self.done(at, detail)
            case "person":
                self.ask(RolloutEvent[detail])
            case "promote":
                number = which % len(self.fast.groups)
                self.slow.promote(number)
                self.fast.promote(number)
            case "away":
                self.be_there("lose", row)
                self.fleet.now += timedelta(seconds=1_200)
                self.look()
            case "back":
                there = self.fleet.rows
                gone = [n for n, run in enumerate(self.runs) if not there[run.device].is_online]
                self.be_there("hear", gone[which % len(gone)] if gone else row)
            case _:
                self.be_there(what, row)

    def ask(self, event: RolloutEvent) -> None:
        if self.slow.person(event):
            self.fast.person(event, self.fleet.now)
        else:
            with pytest.raises(ConflictError):
                self.fast.person(event, self.fleet.now)

    def be_there(self, what: str, row: int) -> None:
        name, rows = self.runs[row].device, np.array([row])
        known = self.fleet.rows[name]
        if what == "lose" and known.is_online:
            self.fleet.lose(name)
            self.fast.lost(rows, ms(known.heard_at))
        elif what == "hear":
            known.heard_at, known.is_online = self.fleet.now, True
            self.fast.heard(rows)
        elif what == "remove":
            self.fleet.remove(name)
            self.fast.removed(rows)


def both(strategy: Strategy, sites: list[str]) -> Both:
    """Plan a rollout in both, to devices that had something before, and start it."""
    fleet = SmallFleet(BEGIN)
    for number, site in enumerate(sites):
        fleet.add(f"d{number}", site)
    before = SmallBook(fleet, "r0", "0.9.0", Strategy(), list(fleet.rows))
    for run in before.runs.values():
        run.state, run.finished_at = ExecutionState.SUCCEEDED, fleet.next_end()
    slow = SmallBook(fleet, "r1", "1.0.0", strategy, list(fleet.rows))
    runs = sorted(slow.runs.values(), key=lambda run: run.position)
    columns = Columns(
        np.array([run.group for run in runs]),
        np.array([SITES.index(fleet.rows[run.device].device.site) for run in runs]),
        len(strategy.groups),
        len(SITES),
    )
    fast = MemoryBook(strategy, columns, SITES, Nowhere(), chunk=100, tick_ms=7_000)
    made = Both(fleet, slow, fast, runs)
    made.ask(RolloutEvent.START)
    return made


def test_what_succeeded_while_its_device_was_away_is_back_when_it_is_taken_back() -> None:
    books = both(Strategy(groups=(Group(),), deadlines=LIMITS), [""])
    books.look()
    books.do("away", "", 0)
    books.ask(RolloutEvent.ROLL_BACK)
    books.do("done", "succeed", 0)
    books.do("hear", "", 0)
    books.look()


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    STRATEGIES,
    st.lists(st.sampled_from(SITES), min_size=1, max_size=7),
    st.lists(st.tuples(THINGS, st.integers(0, 30), st.booleans()), max_size=40),
)
def test_both_books_say_and_do_the_same(
    strategy: Strategy,
    sites: list[str],
    things: list[tuple[tuple[str, str], int, bool]],
) -> None:
    books = both(strategy, sites)
    for (what, detail), which, is_looked_at in things:
        books.do(what, detail, which)
        if is_looked_at:
            books.look()
    books.look()


def test_only_sites_have_budgets_here() -> None:
    strategy = Strategy(budgets=(DisruptionBudget("rack", max_unavailable=1),))
    with pytest.raises(ValueError, match="have the label 'site', not 'rack'"):
        both(strategy, ["north"])
