"""Whatever happens in whatever order, what a rollout promises holds.

The planner decides; `simulators.small_book` carries out; devices go by the agent's own phase table.
Devices fail, fall silent, come back, join and leave; reports are late, twice and out of order;
decisions on old facts are carried out late and twice; people pause, resume, promote, stop, retry
and roll back; gates say anything. Hypothesis prints a blob with each failure: given back by
`@reproduce_failure` it replays it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from simulators.small_book import SITE, Entry, Row, Run, SmallBook, SmallFleet, run
from simulators.small_device import SmallDevice
from simulators.turning import OPEN
from sprat_agent.sync.phases import Event
from sprat_controller.rollout import planner
from sprat_controller.rollout.budget import allowed
from sprat_controller.rollout.facts import Abort, Decision, Tally, Verdict
from sprat_controller.rollout.phases import RolloutEvent
from sprat_controller.rollout.strategy import (
    AbortAction,
    AbortCriterion,
    Deadlines,
    DisruptionBudget,
    Extent,
    FailureType,
    Gate,
    Group,
    Membership,
    Pace,
    Retries,
    Strategy,
)
from sprat_proto.states import ExecutionState, GroupState, ReasonCode, RolloutState

BEGIN = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
SITES = ("north", "south", "")
MOST_ROLLOUTS = 4
MOST_DEVICES = 8
OVER = {RolloutState.FINISHED, RolloutState.STOPPED, RolloutState.ROLLED_BACK}
ENDING = {*OVER, RolloutState.STOPPING, RolloutState.ROLLING_BACK}
LIMITS = Deadlines(
    execution_s=7_200, no_progress_s=600, install_s=300, probe_s=120, offline_grace_s=900
)
CODES = st.sampled_from(
    [
        *(ReasonCode.DOWNLOAD_FAILED, ReasonCode.WORKER_CRASHED, ReasonCode.PROBE_FAILED),
        *(ReasonCode.DIGEST_MISMATCH, ReasonCode.INSUFFICIENT_DISK, ReasonCode.NO_VARIANT_FITS),
    ]
)


@dataclass(frozen=True)
class Outcome:
    """What becomes of a device: steps that come out well, then one that may not."""

    steps: int
    event: Event
    code: ReasonCode
    is_back: bool  # if it was offline


OUTCOMES = st.builds(
    Outcome,
    steps=st.integers(0, 14),
    event=st.sampled_from([Event.DONE, Event.FAILED, Event.FAILED, Event.REJECTED]),
    code=CODES,
    is_back=st.booleans(),
)
GROUPS = st.builds(
    Group,
    devices=st.integers(0, 2),
    success_percent=st.sampled_from([0, 0, 50, 100]),
    soak_s=st.sampled_from([0, 0, 300]),
    gate=st.sampled_from([None, None, Gate()]),
    waits_for_promotion=st.sampled_from([False, False, True]),
)
CRITERIA = st.builds(
    AbortCriterion,
    failure=st.sampled_from(FailureType),
    percent=st.sampled_from([1, 40, 100]),
    min_count=st.integers(1, 2),
    min_ended=st.sampled_from([1, 1, 3]),
    extent=st.sampled_from(Extent),
    action=st.sampled_from(AbortAction),
    acts_on=st.sampled_from(Extent),
)
BUDGETS = st.sampled_from(
    [
        (),
        (DisruptionBudget(SITE, max_unavailable=1),),
        (DisruptionBudget(SITE, max_unavailable_percent=50),),
        (DisruptionBudget(SITE, max_unavailable=1), DisruptionBudget(SITE, 2)),
    ]
)
STRATEGIES = st.builds(
    Strategy,
    groups=st.lists(GROUPS, max_size=3).map(lambda groups: (*groups, Group())),
    membership=st.sampled_from([Membership.SNAPSHOT, Membership.SNAPSHOT, Membership.CONTINUOUS]),
    pace=st.builds(
        Pace, max_in_progress=st.integers(0, 2), starts_per_minute=st.sampled_from([0, 0, 2])
    ),
    budgets=BUDGETS,
    abort=st.lists(CRITERIA, max_size=2).map(tuple),
    deadlines=st.just(LIMITS),
    retries=st.builds(
        Retries,
        attempts=st.integers(0, 2),
        base_s=st.just(30),
        ceiling_s=st.just(300),
        penalty_s=st.sampled_from([0, 900]),
    ),
    ends_at=st.sampled_from([0, 0, 0, int(BEGIN.timestamp()) + 5_000]),
    priority=st.integers(-1, 1),
    override=st.sampled_from(["", "", "", "a leak"]),
)
BEHAVING = st.builds(
    Strategy,
    groups=st.lists(
        st.builds(
            Group,
            devices=st.integers(0, 2),
            success_percent=st.sampled_from([0, 50, 100]),
            soak_s=st.sampled_from([0, 300]),
        ),
        max_size=3,
    ).map(lambda groups: (*groups, Group())),
    pace=st.builds(Pace, max_in_progress=st.integers(0, 2), starts_per_minute=st.integers(0, 2)),
    budgets=BUDGETS,
    abort=st.lists(CRITERIA, max_size=2).map(tuple),
)


def starts_after_abort(journal: list[Entry]) -> list[Entry]:
    """Return what started in a rollout after an abort was decided, and before a person resumed."""
    aborted: set[str] = set()
    found: list[Entry] = []
    for entry in journal:
        if entry.what == "abort":
            aborted.add(entry.rollout)
        elif entry.what in (RolloutEvent.RESUME, RolloutEvent.RETRY):
            aborted.discard(entry.rollout)
        elif entry.what == "assign" and entry.rollout in aborted:
            found.append(entry)
    return found


class Rollouts(RuleBasedStateMachine):
    """The book, its devices, its people and its clock."""

    def __init__(self) -> None:
        super().__init__()
        self.fleet = SmallFleet(BEGIN)
        self.fleet.on_assign = self.may_start
        self.old: list[tuple[SmallBook, Decision]] = []
        self.proved: dict[str, str] = {}  # run to the way in which it stopped being SUCCEEDED
        self.fallen: set[str] = set()
        self.is_silent_at_the_end = False
        self.is_fresh = False  # what is carried out was decided just now

    @initialize(
        sites=st.lists(st.sampled_from(SITES), min_size=3, max_size=7),
        silent=st.booleans(),
        strategy=STRATEGIES,
    )
    def begin(self, sites: list[str], silent: bool, strategy: Strategy) -> None:  # noqa: FBT001 - drawn
        for number, site in enumerate(sites):
            self.fleet.add(f"d{number}", site)
        self.is_silent_at_the_end = silent
        self.create(strategy)

    # What happens

    @precondition(lambda self: len(self.fleet.books) < MOST_ROLLOUTS)
    @rule(strategy=STRATEGIES)
    def create(self, strategy: Strategy) -> None:
        number = len(self.fleet.books) + 1
        members = [name for name, row in self.fleet.rows.items() if not row.is_removed]
        book = SmallBook(self.fleet, f"r{number}", f"{number}.0.0", strategy, members)
        book.person(RolloutEvent.START)

    @rule()
    def look(self) -> None:
        self.is_fresh = True
        for book in self.fleet.books:
            run(book, self.fleet.now)
        self.is_fresh = False

    @rule(outcomes=st.lists(OUTCOMES, min_size=MOST_DEVICES, max_size=MOST_DEVICES))
    def go_round(self, outcomes: list[Outcome]) -> None:
        """Let everybody that is there hear, work for a while and tell."""
        self.look()
        for row, outcome in zip(self.fleet.rows.values(), outcomes, strict=False):
            if row.is_removed or not (row.is_online or outcome.is_back):
                continue
            self.fleet.hear(row.device.name)
            for _ in range(outcome.steps):
                row.device.act()
            row.device.act(outcome.event, outcome.code)
            for report in list(row.device.outbox):
                self.fleet.take_in(row.device.name, report)
        self.look()

    @rule(outcomes=st.lists(OUTCOMES, min_size=MOST_DEVICES, max_size=MOST_DEVICES))
    def go_round_again(self, outcomes: list[Outcome]) -> None:
        self.go_round(outcomes)

    @precondition(lambda self: self.fleet.books)
    @rule(data=st.data(), outcomes=st.lists(OUTCOMES, min_size=8, max_size=8))
    def decide_and_do_it_late(self, data: Any, outcomes: list[Outcome]) -> None:
        """Have something happen between a decision and its carrying out; perhaps do it again."""
        if len(self.fleet.books) < MOST_ROLLOUTS and data.draw(st.booleans()):
            self.create(data.draw(STRATEGIES))
        book, now = self.any_book(data), self.fleet.now
        for _ in range(data.draw(st.integers(0, 4))):
            for decision in planner.decide(book.read(now), now):
                book.carry_out(decision, now)
        decisions = planner.decide(book.read(now), now)
        self.old += [(book, decision) for decision in decisions]
        match data.draw(st.sampled_from(["ask", "abort", "others", "work", "time"])):
            case "ask":
                book.person(data.draw(st.sampled_from([RolloutEvent.PAUSE, RolloutEvent.STOP])))
            case "abort":
                criterion = data.draw(CRITERIA)
                book.carry_out(Abort(0, criterion, 1, 1), now)
            case "others":
                self.look()
            case "work":
                self.go_round(outcomes)
            case _:
                self.fleet.now += timedelta(seconds=data.draw(st.sampled_from([61, 7_201])))
        for decision in decisions:
            book.carry_out(decision, self.fleet.now)

    @precondition(lambda self: self.old)
    @rule(data=st.data())
    def carry_out_what_is_old(self, data: Any) -> None:
        """Carry out what was decided long ago, perhaps again."""
        book, decision = data.draw(st.sampled_from(self.old))
        book.carry_out(decision, self.fleet.now)

    @precondition(lambda self: self.fleet.books)
    @rule(
        data=st.data(),
        event=st.sampled_from(
            [
                *(RolloutEvent.PAUSE, *[RolloutEvent.RESUME] * 5),
                *(RolloutEvent.STOP, RolloutEvent.ROLL_BACK),
            ]
        ),
    )
    def ask(self, data: Any, event: RolloutEvent) -> None:
        self.any_book(data).person(event)

    @rule(data=st.data(), what=st.sampled_from(["promote", "retry_failed", "judge", "judge"]))
    def have_a_person_or_a_gate_say(self, data: Any, what: str) -> None:
        getattr(self, what)(data)

    @rule(
        data=st.data(),
        what=st.sampled_from(
            [
                *("work", "heartbeat", "send_some_reports", "sync", "go_offline"),
                *("fall_back", "remove", "join"),
            ]
        ),
    )
    def have_a_device(self, data: Any, what: str) -> None:
        getattr(self, what)(data)

    @precondition(lambda self: self.fleet.books)
    @rule(data=st.data(), outcomes=st.lists(OUTCOMES, min_size=8, max_size=8))
    def roll_back(self, data: Any, outcomes: list[Outcome]) -> None:
        """Take back what is proved, now and then."""
        book = self.any_book(data)
        is_proved = any(one.state is ExecutionState.SUCCEEDED for one in book.runs.values())
        if is_proved and data.draw(st.integers(0, 2)) == 0:
            book.person(RolloutEvent.ROLL_BACK)
            self.go_round(outcomes)

    def promote(self, data: Any) -> None:
        book = self.any_book(data)
        book.promote(data.draw(st.integers(0, len(book.groups) - 1)))

    def retry_failed(self, data: Any) -> None:
        self.any_book(data).retry_failed()

    def judge(self, data: Any) -> None:
        group = data.draw(st.sampled_from(self.any_book(data).groups))
        group.verdict = data.draw(st.sampled_from(Verdict))

    def work(self, data: Any) -> None:
        """Let a device work without a word."""
        device, outcome = self.any_device(data), data.draw(OUTCOMES)
        for _ in range(outcome.steps):
            device.act()
        device.act(outcome.event, outcome.code)

    def heartbeat(self, data: Any) -> None:
        device = self.any_device(data)
        if not self.fleet.rows[device.name].is_removed:
            self.fleet.hear(device.name)

    def send_some_reports(self, data: Any) -> None:
        """Send any of them in any order, some twice."""
        device = self.any_device(data)
        if self.fleet.rows[device.name].is_removed or not device.outbox:
            return
        for report in data.draw(st.lists(st.sampled_from(list(device.outbox)), max_size=5)):
            self.fleet.take_in(device.name, report)

    def sync(self, data: Any) -> None:
        """Hear, work and tell until nothing is left."""
        self.behave(self.any_device(data))

    def go_offline(self, data: Any) -> None:
        self.fleet.lose(self.any_device(data).name)

    def fall_back(self, data: Any) -> None:
        device = self.any_device(data)
        device.fall_back()
        self.fallen.add(device.name)

    def remove(self, data: Any) -> None:
        device = self.any_device(data)
        # Not too often: somebody must be left for the rest.
        if data.draw(st.integers(0, 7)) == 0:
            self.fleet.remove(device.name)

    def join(self, data: Any) -> None:
        if len(self.fleet.rows) < MOST_DEVICES:
            self.fleet.add(f"d{len(self.fleet.rows)}", data.draw(st.sampled_from(SITES)))

    @rule(seconds=st.sampled_from([1, 61, 301, 901, 7_201]))
    def time_passes(self, seconds: int) -> None:
        self.fleet.now += timedelta(seconds=seconds)

    # What must hold

    @invariant()
    def never_two_releases_active(self) -> None:
        for row in self.fleet.rows.values():
            assert len(row.device.candidates()) <= 1, row.device
        under_way = Counter(
            one.device
            for book in self.fleet.books
            for one in book.runs.values()
            if one.state is ExecutionState.IN_PROGRESS
        )
        assert all(count == 1 for count in under_way.values()), under_way

    @invariant()
    def what_is_proved_goes_back_only_by_a_decided_rollback(self) -> None:
        for book in self.fleet.books:
            for one in book.runs.values():
                was = one.id in self.proved
                if one.state is ExecutionState.SUCCEEDED:
                    self.proved[one.id] = book.id
                elif was and one.state is ExecutionState.ROLLED_BACK and not one.is_reverting:
                    assert one.device in self.fallen, f"{one.id} was taken back by nobody"
                elif was and one.is_reverting:
                    is_group = book.groups[one.group].goes_back
                    assert self.was_rolled_back(book) or is_group, one

    @invariant()
    def nothing_starts_after_an_abort(self) -> None:
        assert starts_after_abort(self.fleet.journal) == []

    @invariant()
    def only_a_running_rollout_starts_anything(self) -> None:
        starts = [entry for entry in self.fleet.journal if entry.what == "assign"]
        assert {entry.state for entry in starts} <= {RolloutState.RUNNING}

    @invariant()
    def of_what_was_rolled_back_nothing_is_left(self) -> None:
        for book in self.fleet.books:
            for one in book.runs.values():
                is_back = GroupState.ROLLED_BACK is book.groups[one.group].state
                if is_back or book.state is RolloutState.ROLLED_BACK:
                    is_there = not self.fleet.rows[one.device].is_removed
                    assert not (one.state is ExecutionState.SUCCEEDED and is_there), one

    @invariant()
    def groups_start_in_order(self) -> None:
        for book in self.fleet.books:
            for before, after in zip(book.groups, book.groups[1:], strict=False):
                assert after.state not in OPEN or before.state is not GroupState.SCHEDULED

    def may_start(self, book: SmallBook, one: Run, *, was_down: bool) -> None:
        """Check what starts, just after it did."""
        if self.is_fresh:
            assert not any(self.is_met(book, criterion) for criterion in book.strategy.abort)
            ends_at = book.strategy.ends_at
            assert not ends_at or self.fleet.now.timestamp() < ends_at
        if not was_down and not book.strategy.override:
            self.is_within_budget(book, one)

    def is_met(self, book: SmallBook, criterion: AbortCriterion) -> bool:
        """Tell whether a group, or all, failed too often since a person last resumed."""
        tallies = [
            (book.tally(number), group.since)
            for number, group in enumerate(book.groups)
            if group.state in OPEN
        ]
        if criterion.extent is Extent.ROLLOUT:
            everyone = range(len(book.groups))
            tallies = [(self.total([book.tally(n) for n in everyone]),
                        self.total([book.groups[n].since for n in everyone]))]  # fmt: skip
        for now, since in tallies:
            names = ["failed", "timed_out", "rejected", "rolled_back"]
            if criterion.failure is not FailureType.ALL:
                names = [criterion.failure.value.lower()]
            failures = sum(getattr(now, name) - getattr(since, name) for name in names)
            judged = now.judged - since.judged
            if judged < criterion.min_ended and now.counting > now.judged:
                continue
            if failures >= criterion.min_count and failures / judged * 100 >= criterion.percent:
                return True
        return False

    def total(self, tallies: list[Tally]) -> Tally:
        names = Tally.__dataclass_fields__
        return Tally(**{name: sum(getattr(one, name) for one in tallies) for name in names})

    def is_within_budget(self, book: SmallBook, one: Run) -> None:
        """Check its site and its rollout's pace, over all rollouts."""
        rows = [row for row in self.fleet.rows.values() if not row.is_removed]
        site = self.fleet.rows[one.device].device.site
        there = [row for row in rows if row.device.site == site]
        down = [row for row in there if self.is_down(row.device.name, is_online=row.is_online)]
        for budget in book.strategy.budgets:
            assert len(down) <= allowed(budget, len(there)), f"{site}: {down}"
        limit = book.strategy.pace.max_in_progress
        working = [x for x in book.runs.values() if x.state is ExecutionState.IN_PROGRESS]
        assert not limit or len(working) <= limit
        recent = [x for x in book.runs.values() if self.is_recent(x)]
        rate = book.strategy.pace.starts_per_minute
        assert not rate or len(recent) <= rate

    def is_recent(self, one: Run) -> bool:
        return one.started_at is not None and one.started_at > self.fleet.now - timedelta(minutes=1)

    def is_down(self, name: str, *, is_online: bool) -> bool:
        """Tell it from the executions alone: under way, or failed last and not heard of."""
        runs = sorted(
            (x for book in self.fleet.books for x in book.runs.values() if x.device == name),
            key=lambda x: x.finished_at,
        )
        if any(x.state is ExecutionState.IN_PROGRESS for x in runs):
            return True
        started = [x for x in runs if x.started_at is not None]
        rest = {ExecutionState.SUCCEEDED, ExecutionState.REJECTED, ExecutionState.REMOVED}
        ends = [x.state for x in started]
        while ends and ends[-1] in rest - {ExecutionState.SUCCEEDED}:
            ends.pop()
        return not is_online and bool(ends) and ends[-1] is not ExecutionState.SUCCEEDED

    def was_rolled_back(self, book: SmallBook) -> bool:
        return book.state in (RolloutState.ROLLING_BACK, RolloutState.ROLLED_BACK)

    # How it ends

    def teardown(self) -> None:
        self.is_fresh = False
        if self.fleet.rows:
            self.let_all_end()
            self.nothing_starts_after_an_abort()
            self.only_a_running_rollout_starts_anything()
            self.all_ended()

    def let_all_end(self) -> None:
        """From here people let everything go on; devices behave, or are never heard of again."""
        for _ in range(60):
            for book in self.fleet.books:
                self.let_go_on(book)
                run(book, self.fleet.now)
            for name, row in self.fleet.rows.items():
                if self.is_silent_at_the_end:
                    self.fleet.lose(name)
                elif not row.is_removed:
                    self.behave(row.device)
            self.fleet.now += timedelta(seconds=901)
            for book in self.fleet.books:
                run(book, self.fleet.now)
            if all(book.state in OVER for book in self.fleet.books):
                return

    def let_go_on(self, book: SmallBook) -> None:
        for number in range(len(book.groups)):
            book.promote(number)
        is_continuous = book.strategy.membership is Membership.CONTINUOUS
        book.person(RolloutEvent.STOP if is_continuous else RolloutEvent.RESUME)

    def all_ended(self) -> None:
        for book in self.fleet.books:
            left = [one for one in book.runs.values() if not one.state.is_final]
            assert book.state in OVER, f"{book.id} is {book.state}: {left}"
            assert not left
        if self.is_silent_at_the_end:
            return
        for row in self.fleet.rows.values():
            if not row.is_removed:
                self.behave(row.device)
                assert row.device.is_idle()
                assert self.is_as_wanted(row), row

    def is_as_wanted(self, row: Row) -> bool:
        """Tell whether a device runs what it was told, unless it failed at that or fell back."""
        wanted = row.bound[1] if row.bound else None
        ends = {task.wanted: task.phase for task in row.device.tasks}
        return (
            row.device.name in self.fallen
            or row.device.active == (wanted.release if wanted else None)
            or (wanted is not None and ends[wanted] is not ExecutionState.SUCCEEDED)
        )

    def behave(self, device: SmallDevice) -> None:
        """Let a device hear, work and tell until nothing is left."""
        if self.fleet.rows[device.name].is_removed:
            return
        for _ in range(100):
            self.fleet.hear(device.name)
            is_busy = device.act()
            for report in list(device.outbox):
                self.fleet.take_in(device.name, report)
            if not is_busy and not device.outbox:
                return
        raise AssertionError(f"{device} is never idle")

    def any_book(self, data: Any) -> SmallBook:
        return data.draw(st.sampled_from(self.fleet.books))

    def any_device(self, data: Any) -> SmallDevice:
        name = data.draw(st.sampled_from(sorted(self.fleet.rows)))
        return self.fleet.rows[name].device


TestRollouts = Rollouts.TestCase
TestRollouts.settings = settings(
    max_examples=50,
    stateful_step_count=30,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


@settings(deadline=None, print_blob=True, max_examples=60)
@given(st.lists(st.sampled_from(SITES), min_size=1, max_size=9), BEHAVING)
def test_where_devices_behave_a_rollout_finishes_by_itself(
    sites: list[str], strategy: Strategy
) -> None:
    fleet = SmallFleet(BEGIN)
    for number, site in enumerate(sites):
        fleet.add(f"d{number}", site)
    book = SmallBook(fleet, "r1", "1.0.0", strategy, sorted(fleet.rows))
    book.person(RolloutEvent.START)
    until = BEGIN + timedelta(hours=2)
    while fleet.now < until and book.state not in OVER:
        run(book, fleet.now)
        for name, row in fleet.rows.items():
            fleet.hear(name)
            row.device.act()
            for report in list(row.device.outbox):
                fleet.take_in(name, report)
        run(book, fleet.now)
        due = book.due_at
        assert book.state in OVER or due is not None, "it would be looked at no more"
        fleet.now += timedelta(seconds=20)
    assert book.state is RolloutState.FINISHED
    assert {one.state for one in book.runs.values()} == {ExecutionState.SUCCEEDED}
    assert {row.device.active for row in fleet.rows.values()} == {"1.0.0"}
