# pyright: reportPrivateUsage=false
# The book is opened between deciding and doing.
from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from simulators.controlled import ALIAS, BIG, OPERATOR, KilledError, SimDevice, World
from sprat_controller.errors import ConflictError, NotFoundError
from sprat_controller.rollout import planner, sql_facts
from sprat_controller.rollout.book import Book
from sprat_controller.rollout.facts import Abort, Assign, Decision, Excuse, Facts, Tally
from sprat_controller.rollout.requests import ExecutionView, RolloutView, Target
from sprat_controller.rollout.strategy import (
    AbortAction,
    AbortCriterion,
    Deadlines,
    DisruptionBudget,
    Extent,
    Gate,
    Group,
    Membership,
    Retries,
    Strategy,
)
from sprat_controller.store.tables import DesiredModel, Device, Rollout
from sprat_proto.states import ExecutionState, GroupState, RolloutState, Step
from sprat_proto.v1 import link_pb2
from sqlmodel import select

QUEUED, IN_PROGRESS = ExecutionState.QUEUED, ExecutionState.IN_PROGRESS
SUCCEEDED, FAILED = ExecutionState.SUCCEEDED, ExecutionState.FAILED
ONE_THEN_ALL = Strategy(groups=(Group(name="canary", devices=1), Group(name="rest")))
PATIENT = Deadlines(offline_grace_s=0)


def a_fleet(world: World, count: int) -> dict[str, SimDevice]:
    return {name: world.join(name) for name in (f"d{number}" for number in range(count))}


def book_of(world: World) -> Book:
    """Open the one rollout, though it is not due."""
    lease = world.runner._leases.claim(world.now + timedelta(days=366))
    assert lease is not None
    return world.runner._open_book(lease)


def facts_of(book: Book, now: datetime) -> Facts:
    facts = book.read(now)
    assert facts is not None
    return facts


def under_way(world: World, view: RolloutView) -> list[str]:
    states = world.states(view.id)
    return [device for device, state in states.items() if state is IN_PROGRESS]


def only(world: World, view: RolloutView) -> ExecutionView:
    (execution,) = world.service.executions(view.id)
    return execution


def group_states(world: World, view: RolloutView) -> list[GroupState]:
    return [group.state for group in world.service.get(view.id).groups]


def reason_of(execution: ExecutionView) -> str:
    assert execution.reason is not None
    return str(execution.reason["code"])


def rows(world: World) -> list[Any]:
    """Return all that decisions change, but for when it was looked at last."""
    with world.database.reading() as session:
        found: list[Any] = []
        for name in ("rollout", "rollout_group", "execution", "desired_model", "assignment"):
            table = Rollout.metadata.tables[name]
            mutable = {"due_at", "lease_owner", "lease_number", "lease_until"}
            columns = [column for column in table.c if column.name not in mutable]
            key = list(table.primary_key.columns)
            found += session.connection().execute(
                table.select().with_only_columns(*columns).order_by(*key)
            )
        return found


def step(device: SimDevice, name: Step) -> None:
    """Have the device tell at which step it is."""
    (one,) = device.under_way()
    said = link_pb2.ExecutionReport(execution_id=one.execution_id, state="IN_PROGRESS", step=name)
    device.last_seq += 1
    device.reports.append(link_pb2.Report(seq=device.last_seq, at_ms=0, execution=said))
    device.send_reports()


def upgraded(world: World, strategy: Strategy, **options: Any) -> RolloutView:
    """Roll 2.0.0 out, and have all devices that hear of it run it."""
    world.publish("2.0.0", counter=2)
    world.wait(seconds=1)
    view = world.create("2.0.0", strategy=strategy, **options)
    world.run_due()
    return view


def test_a_group_starts_when_the_one_before_it_is_through(world: World) -> None:
    devices = a_fleet(world, 4)
    view = world.create(strategy=ONE_THEN_ALL)
    world.run_due()
    (canary,) = under_way(world, view)
    assert group_states(world, view) == [GroupState.RUNNING, GroupState.SCHEDULED]
    devices[canary].sync()
    world.run_due()
    assert len(under_way(world, view)) == 3
    for device in devices.values():
        device.sync()
    world.run_due()
    assert world.state(view.id) == RolloutState.FINISHED
    assert group_states(world, view) == [GroupState.FINISHED] * 2


def test_a_group_is_watched_for_as_long_as_it_soaks(world: World) -> None:
    devices = a_fleet(world, 2)
    soaking = Strategy(groups=(Group(devices=1, soak_s=600), Group()), deadlines=PATIENT)
    view = world.create(strategy=soaking)
    world.run_due()
    devices[under_way(world, view)[0]].sync()
    world.run_due()
    assert group_states(world, view) == [GroupState.SOAKING, GroupState.SCHEDULED]
    assert world.service.get(view.id).groups[0].soak_until == world.now + timedelta(seconds=600)
    world.wait(seconds=599)
    world.run_due()
    assert under_way(world, view) == []
    world.wait(seconds=1)
    world.run_due()
    assert len(under_way(world, view)) == 1


def test_nothing_starts_after_an_abort_not_even_by_what_was_decided_before(world: World) -> None:
    devices = a_fleet(world, 10)
    pausing = Strategy(
        groups=(Group(devices=5, success_percent=50), Group()),
        abort=(AbortCriterion(percent=20, min_count=2, extent=Extent.ROLLOUT),),
    )
    view = world.create(strategy=pausing, max_in_progress=4)
    world.run_due()
    book = book_of(world)
    old = Assign(tuple(one.id for one in world.service.executions(view.id)))
    for name in under_way(world, view)[:2]:
        devices[name].sync(FAILED)
    (abort,) = planner.decide(facts_of(book, world.now), world.now)
    assert isinstance(abort, Abort)
    assert (abort.failures, abort.judged) == (2, 2)
    book.carry_out(abort, world.now)
    given = under_way(world, view)
    book.carry_out(old, world.now)
    book.carry_out(abort, world.now)
    assert under_way(world, view) == given
    found = world.service.get(view.id)
    assert found.state is RolloutState.PAUSED
    assert found.abort is not None
    assert (found.abort["failures"], found.abort["judged"]) == (2, 2)
    # Once a person resumes, only what fails from then on counts.
    world.service.resume(view.id, OPERATOR)
    world.wait(seconds=1)
    world.run_due()
    assert world.state(view.id) == RolloutState.RUNNING
    assert len(under_way(world, view)) == 3
    after = world.service.get(view.id).abort
    assert after is not None
    assert "criterion" not in after
    assert after["since"] == {"0": {"queued": 1, "in_progress": 2, "failed": 2}, "1": {"queued": 5}}


def test_any_decision_carried_out_twice_changes_nothing_the_second_time(world: World) -> None:
    devices = a_fleet(world, 4)
    world.create(target=Target(devices=("d0", "d1", "d2")))
    world.run_due()
    for device in devices.values():
        device.sync()
    world.run_due()
    back = AbortCriterion(percent=50, min_count=2, action=AbortAction.ROLLBACK)
    strategy = Strategy(groups=(Group(devices=2), Group(success_percent=50)), abort=(back,))
    world.publish("2.0.0", counter=2)
    view = world.create("2.0.0", strategy=strategy)
    seen: set[type[Decision]] = set()
    book = book_of(world)
    for turn in range(60):
        decisions = planner.decide(facts_of(book, world.now), world.now)
        for decision in decisions:
            book.carry_out(decision, world.now)
            once = rows(world)
            pushed = len(world.pushed)
            book.carry_out(decision, world.now)
            assert rows(world) == once, decision
            assert len(world.pushed) == pushed
            seen.add(type(decision))
        if world.state(view.id) == RolloutState.ROLLED_BACK:
            break
        if not decisions:
            is_canary = world.service.get(view.id).groups[0].state == GroupState.RUNNING
            is_back = world.state(view.id) == RolloutState.ROLLING_BACK
            for name in under_way(world, view):
                devices[name].sync(SUCCEEDED if is_canary or is_back else FAILED)
        assert turn < 59
    names = {one.__name__ for one in seen}
    assert names == {
        *("StartRollout", "RunRollout", "StartGroup", "Assign", "FinishGroup"),
        *("Abort", "Revert", "EndRollback"),
    } - {"StartRollout"}
    assert world.state(view.id) == RolloutState.ROLLED_BACK


def test_a_rollback_returns_devices_to_what_they_ran_and_moves_no_model(world: World) -> None:
    devices = a_fleet(world, 3)
    world.create(target=Target(devices=("d0", "d1")))
    world.run_due()
    for device in devices.values():
        device.sync()
    view = upgraded(world, Strategy())
    for device in devices.values():
        device.sync()
    world.run_due()
    assert world.state(view.id) == RolloutState.FINISHED
    held = {name: list(device.fetched) for name, device in devices.items()}
    world.service.roll_back(view.id, OPERATOR)
    world.run_due()
    assert {one.state for one in world.service.executions(view.id)} == {IN_PROGRESS}
    assert {one.step for one in world.service.executions(view.id)} == {Step.ROLLING_BACK}
    for device in devices.values():
        device.sync()
    world.run_due()
    assert world.state(view.id) == RolloutState.ROLLED_BACK
    ended = world.service.executions(view.id)
    assert {one.state for one in ended} == {ExecutionState.ROLLED_BACK}
    assert {reason_of(one) for one in ended} == {"ROLLED_BACK_BY_ROLLOUT"}
    # d2 had nothing before: it has nothing again.
    assert [devices[name].committed[ALIAS].release for name in ("d0", "d1")] == ["1.0.0"] * 2
    assert devices["d2"].committed == {}
    assert {name: list(device.fetched) for name, device in devices.items()} == held
    assert all(set(device.runs.values()) == {1} for device in devices.values())


def test_what_a_newer_rollout_replaced_is_taken_back_without_a_word_to_the_device(
    world: World,
) -> None:
    device = world.join("a")
    first = world.create()
    world.run_due()
    device.sync()
    second = upgraded(world, Strategy())
    device.sync()
    world.run_due()
    before, told = world.device("a"), len(world.pushed)
    world.service.roll_back(first.id, OPERATOR)
    world.run_due()
    assert world.state(first.id) == RolloutState.ROLLED_BACK
    assert only(world, first).state is ExecutionState.ROLLED_BACK
    reason = only(world, first).reason
    assert reason is not None
    assert "a newer one had taken its place on the device" in reason["message"]
    assert (world.device("a"), len(world.pushed)) == (before, told)
    device.sync()
    assert device.committed[ALIAS].release == "2.0.0"
    # What came after a failed attempt of a third is still the second's, and goes back by it: past
    # the first.
    world.publish("3.0.0", counter=3)
    world.wait(seconds=1)
    third = world.create("3.0.0")
    world.run_due()
    device.heartbeat()
    world.service.stop(third.id, OPERATOR)
    world.run_due()
    device.sync()
    world.service.roll_back(second.id, OPERATOR)
    world.run_due()
    device.sync()
    world.run_due()
    assert world.state(second.id) == RolloutState.ROLLED_BACK
    assert device.committed == {}


@pytest.mark.parametrize("statement", range(0, 120, 3))
def test_a_rollback_that_is_killed_anywhere_goes_on(statement: int) -> None:
    world = World()
    world.publish("1.0.0")
    device, fresh = world.join("a"), world.join("b")
    world.create(target=Target(devices=("a",)))
    world.run_due()
    device.sync()
    view = upgraded(world, ONE_THEN_ALL)
    for _ in range(2):
        device.sync()
        fresh.sync()
        world.run_due()
    assert world.state(view.id) == RolloutState.FINISHED
    world.service.roll_back(view.id, OPERATOR)
    try:
        with world.killed_after(statement):
            world.run_due()
    except KilledError:
        world.pushed.clear()
    for _ in range(2):
        world.run_due()
        device.sync()
        fresh.sync()
    world.run_due()
    assert world.state(view.id) == RolloutState.ROLLED_BACK
    assert device.committed[ALIAS].release == "1.0.0"
    assert fresh.committed == {}
    assert set(device.runs.values()) == {1}
    world.close()


TRIES = Strategy(
    retries=Retries(attempts=2, base_s=60, ceiling_s=600, penalty_s=3600), deadlines=PATIENT
)


def test_what_may_pass_is_tried_again_under_another_name_and_then_penalised(world: World) -> None:
    device = world.join("a")
    device.complaint = "DOWNLOAD_FAILED"
    view = world.create(strategy=TRIES)
    world.run_due()
    names: list[str] = []
    for tries in (1, 2):
        device.sync(FAILED)
        names.append(only(world, view).id)
        waiting = only(world, view)
        assert (waiting.state, waiting.tries, waiting.attempt) == (QUEUED, tries, tries + 1)
        assert waiting.retry_at is not None
        assert world.now <= waiting.retry_at <= world.now + timedelta(seconds=60 * tries)
        world.wait(seconds=(waiting.retry_at - world.now).total_seconds() - 0.001)
        world.run_due()
        assert only(world, view).state is QUEUED
        world.wait(seconds=0.001)
        world.run_due()
        assert only(world, view).state is IN_PROGRESS
    device.sync(FAILED)
    world.run_due()
    assert (only(world, view).state, world.state(view.id)) == (FAILED, RolloutState.FINISHED)
    execution = only(world, view).id
    assert list(device.runs) == [execution, f"{execution}.2", f"{execution}.3"]
    assert set(device.runs.values()) == {1}
    # No other rollout starts there until the penalty is over.
    other = world.create(alias="coder")
    world.run_due()
    assert only(world, other).state is QUEUED
    world.wait(seconds=3599)
    device.heartbeat()
    world.run_due()
    assert only(world, other).state is QUEUED
    world.wait(seconds=1)
    world.run_due()
    assert only(world, other).state is IN_PROGRESS


def test_what_a_probe_says_is_never_tried_again(world: World) -> None:
    device = world.join("a")
    view = world.create(strategy=TRIES)
    world.run_due()
    device.sync(FAILED)
    assert (only(world, view).state, only(world, view).tries) == (FAILED, 0)


def test_a_download_without_progress_is_tried_again_and_the_old_try_withdrawn(world: World) -> None:
    device = world.join("a")
    view = world.create(strategy=TRIES)
    world.run_due()
    device.heartbeat()
    step(device, Step.DOWNLOADING)
    for _ in range(3):
        world.wait(seconds=1700)
        step(device, Step.DOWNLOADING)  # a word of progress puts it off
    world.run_due()
    assert only(world, view).state is IN_PROGRESS
    world.wait(seconds=1800)
    world.run_due()
    waiting = only(world, view)
    assert (waiting.state, waiting.tries, reason_of(waiting)) == (QUEUED, 1, "NO_PROGRESS")
    device.heartbeat()
    assert device.under_way() == []
    world.wait(seconds=60)
    world.run_due()
    device.sync()
    world.run_due()
    assert only(world, view).state is SUCCEEDED


def test_a_device_that_is_offline_is_not_held_to_its_step(world: World) -> None:
    device = world.join("a")
    view = world.create(strategy=TRIES)
    world.run_due()
    device.heartbeat()
    step(device, Step.DOWNLOADING)
    with world.database.transaction() as session:
        row = session.get(Device, "a")
        assert row is not None
        row.online = False
    world.wait(hours=2)
    world.run_due()
    assert only(world, view).state is IN_PROGRESS
    world.wait(hours=22)
    world.run_due()
    found = only(world, view)
    assert (found.state, reason_of(found)) == (ExecutionState.TIMED_OUT, "DEADLINE_PASSED")


def test_a_silent_device_counts_no_more_until_it_returns(world: World) -> None:
    devices = a_fleet(world, 3)
    graced = Strategy(groups=(Group(devices=2), Group()), deadlines=Deadlines(offline_grace_s=600))
    view = world.create(strategy=graced)
    world.run_due()
    away, there = under_way(world, view)
    devices[away].heartbeat()
    devices[there].sync()
    (last,) = set(devices) - {away, there}
    world.wait(seconds=600)
    for name in (there, last):
        devices[name].heartbeat()
    world.run_due()
    # Of those that count all succeeded: the next group starts.
    assert group_states(world, view) == [GroupState.FINISHED, GroupState.RUNNING]
    assert world.states(view.id)[last] is IN_PROGRESS
    devices[last].sync()
    world.run_due()
    assert world.state(view.id) == RolloutState.RUNNING  # it is waited for
    world.wait(hours=5)
    woken = world.woken
    devices[away].hello()
    assert world.woken > woken
    world.run_due()
    back = {one.device_id: one for one in world.service.executions(view.id)}[away]
    assert (back.state, back.excused_at) == (IN_PROGRESS, None)
    devices[away].sync()
    world.run_due()
    assert world.state(view.id) == RolloutState.FINISHED


def test_one_that_stays_away_ends_as_offline_and_counts_for_nothing(world: World) -> None:
    world.join("a")
    view = world.create(
        strategy=Strategy(
            deadlines=Deadlines(execution_s=7200, offline_grace_s=600),
            abort=(AbortCriterion(percent=0),),
        )
    )
    world.run_due()
    world.wait(seconds=600)
    world.run_due()
    assert only(world, view).excused_at == world.now
    world.wait(seconds=6600)
    world.run_due()
    found = only(world, view)
    assert (found.state, reason_of(found)) == (ExecutionState.TIMED_OUT, "OFFLINE")
    assert world.state(view.id) == RolloutState.FINISHED
    with world.database.reading() as session:
        assert sql_facts.tallies(session, view.id) == {0: Tally(canceled=1)}


def test_a_device_that_was_heard_of_meanwhile_is_not_excused_by_an_old_decision(
    world: World,
) -> None:
    device = world.join("a")
    view = world.create(strategy=Strategy(deadlines=Deadlines(offline_grace_s=600)))
    world.run_due()
    world.wait(seconds=600)
    book = book_of(world)
    decisions = planner.decide(facts_of(book, world.now), world.now)
    assert [type(one) for one in decisions] == [Excuse]
    device.heartbeat()
    book.carry_out(decisions[0], world.now)
    assert only(world, view).excused_at is None


def test_what_was_woken_while_it_was_looked_at_stays_due(world: World) -> None:
    device = world.join("a")
    view = world.create()
    world.run_due()
    book = book_of(world)
    assert planner.decide(facts_of(book, world.now), world.now) == []
    device.sync()  # at the very moment
    book.rest(world.now + timedelta(minutes=1))
    world.run_due()
    assert world.state(view.id) == RolloutState.FINISHED


def test_a_site_is_never_down_by_more_than_its_budget_over_all_rollouts(world: World) -> None:
    devices = {name: world.join(name, BIG, site="lyon") for name in ("a", "b", "c")}
    devices["d"] = world.join("d", BIG, site="oslo")
    strategy = Strategy(budgets=(DisruptionBudget(label="site", max_unavailable=1),))
    first = world.create(strategy=strategy)
    second = world.create(alias="coder", strategy=strategy)
    for _ in range(40):
        world.run_due()
        busy = {*under_way(world, first), *under_way(world, second)}
        assert len(busy - {"d"}) <= 1
        if not busy:
            break
        # The end of one wakes the other that waits for the slot.
        devices[min(busy)].sync()
        world.wait(seconds=1)
    assert world.state(first.id) == world.state(second.id) == RolloutState.FINISHED
    assert set(world.states(second.id).values()) == {SUCCEEDED}


def test_a_higher_priority_goes_first_and_the_lower_one_waits(world: World) -> None:
    device = world.join("a")
    urgent = world.create(strategy=Strategy(priority=5))
    world.run_due()
    normal = upgraded(world, Strategy())
    assert only(world, normal).state is QUEUED
    device.sync()
    world.run_due()
    assert only(world, urgent).state is SUCCEEDED
    assert only(world, normal).state is IN_PROGRESS


def test_a_higher_priority_takes_the_device_from_a_lower_one(world: World) -> None:
    device = world.join("a")
    urgent = world.create(start=False, strategy=Strategy(priority=5))
    normal = upgraded(world, Strategy())
    assert only(world, normal).state is IN_PROGRESS
    world.service.start(urgent.id, OPERATOR)
    world.run_due()
    assert reason_of(only(world, normal)) == "SUPERSEDED"
    assert only(world, urgent).state is IN_PROGRESS
    device.sync()
    assert device.committed[ALIAS].release == "1.0.0"


def test_an_older_rollout_that_comes_later_takes_nothing_from_a_newer_one(world: World) -> None:
    device = world.join("a")
    older = world.create(start=False)
    upgraded(world, Strategy())
    device.sync()
    world.service.start(older.id, OPERATOR)
    world.run_due()
    found = only(world, older)
    assert (found.state, reason_of(found)) == (ExecutionState.CANCELED, "SUPERSEDED")
    device.sync()
    assert device.committed[ALIAS].release == "2.0.0"


def test_devices_that_come_later_join_a_continuous_rollout(world: World) -> None:
    first = world.join("a", ring="1")
    strategy = Strategy(membership=Membership.CONTINUOUS)
    view = world.create(strategy=strategy, target=Target({"ring": "1"}))
    world.run_due()
    first.sync()
    world.enrol("silent", ring="1")  # has not told its hardware: nothing can be chosen for it
    late, other = world.join("b", ring="1"), world.join("c", ring="2")
    world.wait(seconds=60)
    world.run_due()
    assert world.states(view.id) == {"a": SUCCEEDED, "b": IN_PROGRESS}
    late.sync()
    other.sync()
    world.wait(seconds=60)
    world.run_due()
    assert world.state(view.id) == RolloutState.RUNNING
    assert late.committed[ALIAS].release == "1.0.0"
    assert other.committed == {}


def test_a_group_in_error_goes_back_and_waits_for_a_person(world: World) -> None:
    devices = a_fleet(world, 4)
    back = AbortCriterion(
        percent=50, min_count=1, action=AbortAction.ROLLBACK, acts_on=Extent.GROUP
    )
    strategy = Strategy(groups=(Group(devices=2), Group()), abort=(back,))
    view = world.create(strategy=strategy)
    world.run_due()
    good, bad = under_way(world, view)
    devices[good].sync()
    devices[bad].sync(FAILED)
    world.run_due()
    assert world.state(view.id) == RolloutState.PAUSED
    assert group_states(world, view)[0] is GroupState.ERROR
    devices[good].sync()
    world.run_due()
    assert group_states(world, view) == [GroupState.ROLLED_BACK, GroupState.SCHEDULED]
    assert devices[good].committed == {}
    world.service.promote(view.id, 0, OPERATOR)
    world.service.resume(view.id, OPERATOR)
    world.run_due()
    assert group_states(world, view)[1] is GroupState.RUNNING
    assert set(under_way(world, view)) == set(devices) - {good, bad}


def test_a_promotion_lets_the_next_group_start_while_the_rest_goes_on(world: World) -> None:
    devices = a_fleet(world, 3)
    strategy = Strategy(groups=(Group(devices=2, waits_for_promotion=True), Group()))
    view = world.create(strategy=strategy)
    world.run_due()
    slow, fast = under_way(world, view)
    devices[fast].sync()
    world.run_due()
    with pytest.raises(ConflictError, match=r"group 1 .* is SCHEDULED"):
        world.service.promote(view.id, 1, OPERATOR)
    with pytest.raises(NotFoundError, match="has no group 2, it has 0 to 1"):
        world.service.promote(view.id, 2, OPERATOR)
    promoted = world.service.promote(view.id, 0, OPERATOR)
    assert promoted.groups[0].promoted_by == OPERATOR
    world.run_due()
    assert len(under_way(world, view)) == 2
    devices[slow].sync()
    assert world.states(view.id)[slow] is SUCCEEDED
    with pytest.raises(ConflictError, match=r"group 0 .* is FINISHED"):
        world.service.promote(view.id, 0, OPERATOR)


def test_a_person_has_what_failed_tried_again(world: World) -> None:
    devices = a_fleet(world, 2)
    view = world.create()
    world.run_due()
    devices["d0"].sync()
    devices["d1"].sync(FAILED)
    world.run_due()
    assert world.state(view.id) == RolloutState.FINISHED
    again = world.service.retry_failed(view.id, OPERATOR)
    assert (again.state, again.finished_at) == (RolloutState.RUNNING, None)
    world.run_due()
    assert world.states(view.id) == {"d0": SUCCEEDED, "d1": IN_PROGRESS}
    devices["d1"].sync()
    world.run_due()
    assert world.state(view.id) == RolloutState.FINISHED
    assert set(devices["d1"].runs.values()) == {1}
    with pytest.raises(ConflictError, match="nothing failed"):
        world.service.retry_failed(view.id, OPERATOR)
    assert world.state(view.id) == RolloutState.FINISHED


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [("pause", ()), ("stop", ()), ("roll_back", ()), ("promote", (0,)), ("retry_failed", ())],
)
def test_a_person_changes_only_what_they_looked_at(
    world: World, verb: str, arguments: tuple[int, ...]
) -> None:
    devices = a_fleet(world, 2)
    view = world.create(strategy=Strategy(groups=(Group(devices=1), Group(success_percent=0))))
    world.run_due()
    devices[under_way(world, view)[0]].sync(FAILED)
    world.run_due()
    before = world.service.get(view.id)
    ask = getattr(world.service, verb)
    with pytest.raises(ConflictError, match=f"expected revision 1 .* found {before.revision}"):
        ask(view.id, *arguments, OPERATOR, expected_revision=1)
    assert world.service.get(view.id) == before
    if before.state is RolloutState.PAUSED and verb == "pause":
        return
    after = ask(view.id, *arguments, OPERATOR, expected_revision=before.revision)
    assert after.revision == before.revision + 1


def test_a_rollout_decides_within_seconds_of_the_clock(world: World) -> None:
    """Each tick looks at all that is due: what a tick finds is decided in that tick."""
    devices = a_fleet(world, 6)
    strategy = Strategy(groups=(Group(devices=1), Group(devices=2), Group()))
    view = world.create(strategy=strategy)
    ticks = 0
    while world.state(view.id) != RolloutState.FINISHED:
        world.run_due()
        world.wait(seconds=1)
        ticks += 1
        for device in devices.values():
            device.sync()
    assert ticks == 4  # one for each group, and one that sees the end


def test_a_retry_by_a_person_ends_the_penalty(world: World) -> None:
    device = world.join("a")
    device.complaint = "LOAD_FAILED"
    once = Strategy(retries=Retries(attempts=1, base_s=1, ceiling_s=1))
    view = world.create(strategy=once)
    for _ in range(2):
        world.run_due()
        device.sync(FAILED)
        world.wait(seconds=1)
    assert only(world, view).state is FAILED
    with world.database.reading() as session:
        assert session.exec(select(Device.penalty_until)).all() != [None]
    world.run_due()
    world.service.retry_failed(view.id, OPERATOR)
    world.run_due()
    assert only(world, view).state is IN_PROGRESS
    with world.database.reading() as session:
        assert session.exec(select(DesiredModel.execution_id)).all() == [only(world, view).id]


def test_a_gate_that_fails_holds_the_rollout_until_a_person_promotes(world: World) -> None:
    devices = a_fleet(world, 3)
    gate = Gate(
        min_decode=None, max_ttft_p95=None, max_memory=None, max_more_errors=None, min_devices=1
    )
    view = world.create(strategy=Strategy(groups=(Group(devices=1, gate=gate), Group())))
    world.run_due()
    (canary,) = under_way(world, view)
    devices[canary].sync()
    beat = devices[canary].a_heartbeat()
    for one in beat.running:
        told = link_pb2.ModelMetrics(alias=one.alias, digest=one.digest, window_s=60, crashes=3)
        beat.metrics.append(told)
    devices[canary].say(heartbeat=beat)
    world.run_due()
    found = world.service.get(view.id)
    assert (found.state, group_states(world, view)[0]) == (RolloutState.PAUSED, GroupState.RUNNING)
    assert found.abort is not None
    assert (found.abort["gate"], found.abort["group"]) == ("FAIL", 0)
    # To resume alone changes nothing of what the gate sees.
    world.service.resume(view.id, OPERATOR)
    world.run_due()
    assert world.state(view.id) == RolloutState.PAUSED
    world.service.promote(view.id, 0, OPERATOR)
    world.service.resume(view.id, OPERATOR)
    world.run_due()
    assert group_states(world, view) == [GroupState.FINISHED, GroupState.RUNNING]
    assert len(under_way(world, view)) == 2


def test_one_that_was_never_given_work_ends_as_offline_too(world: World) -> None:
    world.join("a")
    graced = Strategy(deadlines=Deadlines(execution_s=7200, offline_grace_s=600))
    world.wait(seconds=600)
    view = world.create(strategy=graced)
    world.run_due()
    assert (only(world, view).state, only(world, view).excused_at) == (QUEUED, world.now)
    world.wait(seconds=7200)
    world.run_due()
    found = only(world, view)
    assert (found.state, reason_of(found)) == (ExecutionState.TIMED_OUT, "OFFLINE")
    assert world.state(view.id) == RolloutState.FINISHED
