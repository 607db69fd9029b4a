from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from simulators.controlled import BIG, TINY, SimDevice, World
from sprat_controller.errors import NotFoundError
from sprat_controller.rollout import frozen_strategy
from sprat_controller.rollout.facts import Verdict
from sprat_controller.rollout.gates.judgement import (
    ClassJudgement,
    Finding,
    Health,
    Judgement,
    Metric,
)
from sprat_controller.rollout.strategy import (
    AbortCriterion,
    DisruptionBudget,
    Gate,
    Group,
    Membership,
    Pace,
    Retries,
    Strategy,
)
from sprat_controller.rollout.why import from_rows
from sprat_controller.rollout.why.rules import Answer
from sprat_controller.store.tables import Device, Execution, Rollout, RolloutGroup
from sprat_proto.states import ExecutionState, GroupState, ReasonCode
from sqlalchemy import event
from sqlmodel import SQLModel, col, delete, update

TWO = (Group(name="canary", devices=1), Group(name="rest"))


def why(world: World, device_id: str) -> tuple[Answer, ...]:
    with world.database.reading() as session:
        return from_rows.answers(session, device_id, world.now)


def only(world: World, device_id: str) -> Answer:
    (answer,) = why(world, device_id)
    return answer


def change(world: World, table: type[SQLModel], where: Any, **values: Any) -> None:
    with world.database.transaction() as session:
        session.connection().execute(update(table).where(where).values(**values))


def follow(world: World, rollout_id: str, strategy: Strategy) -> None:
    """Have the rollout proceed in this way, `a` before `b`, in groups of their own if it may."""
    stored = frozen_strategy.to_json(strategy)
    change(world, Rollout, col(Rollout.id) == rollout_id, strategy=stored)
    with world.database.transaction() as session:
        session.connection().execute(
            delete(RolloutGroup).where(col(RolloutGroup.rollout_id) == rollout_id)
        )
        for number, group in enumerate(strategy.groups):
            state = GroupState.SCHEDULED if number else GroupState.RUNNING
            session.add(
                RolloutGroup(
                    rollout_id=rollout_id,
                    number=number,
                    name=group.name,
                    state=state.value,
                    devices=1,
                )
            )
    for position, name in enumerate("ab"):
        number = min(position, len(strategy.groups) - 1)
        mine = col(Execution.device_id) == name
        change(world, Execution, mine, position=position, group_number=number)


def stands(world: World, number: int, **values: Any) -> None:
    change(world, RolloutGroup, col(RolloutGroup.number) == number, **values)


def test_a_device_that_no_rollout_wants_says_so(world: World) -> None:
    world.join("big", BIG)
    assert only(world, "big").code is ReasonCode.NOT_TARGETED


def test_a_stranger_has_no_answer(world: World) -> None:
    with pytest.raises(NotFoundError, match="no device named 'nobody'"):
        why(world, "nobody")


def test_the_answer_follows_a_rollout_from_its_creation_to_its_end(world: World) -> None:
    first, second = world.join("big-1", BIG), world.join("big-2", BIG)
    view = world.create(start=False, max_in_progress=1)
    waits = only(world, "big-2")
    assert (waits.code, waits.alias) == (ReasonCode.WAITING_START, "assistant")
    assert waits.rollout_id == view.id
    assert f"/rollouts/{view.id}/start" in waits.do
    world.service.start(view.id, "token:ann")
    world.run_due()
    stands(world, 0, state="RUNNING")
    under_way = only(world, "big-1")
    assert under_way.code is ReasonCode.IN_PROGRESS
    assert under_way.at is not None
    limited = only(world, "big-2")
    assert limited.code is ReasonCode.RATE_LIMIT
    assert "1 are under way, of at most 1" in limited.message
    world.service.pause(view.id, "token:ann")
    assert only(world, "big-2").code is ReasonCode.PAUSED
    world.service.resume(view.id, "token:ann")
    first.sync()
    world.run_due()
    second.sync()
    assert only(world, "big-1").code is ReasonCode.IN_SYNC
    assert only(world, "big-2").code is ReasonCode.IN_SYNC


def test_a_device_that_nothing_fits_says_what_is_missing(world: World) -> None:
    world.join("tiny", TINY)
    world.create()
    answer = only(world, "tiny")
    assert answer.code is ReasonCode.NO_VARIANT_FITS
    assert "none of 2 variants fits" in answer.message


def test_the_newest_rollout_of_an_alias_answers(world: World) -> None:
    world.join("big", BIG)
    world.create(start=False)
    world.wait(seconds=1)
    newer = world.create(start=False)
    assert only(world, "big").rollout_id == newer.id


def test_what_is_under_way_answers_before_what_has_not_started(world: World) -> None:
    world.join("big", BIG)
    older = world.create()
    world.run_due()
    world.wait(seconds=1)
    world.create(start=False)
    answer = only(world, "big")
    assert (answer.code, answer.rollout_id) == (ReasonCode.IN_PROGRESS, older.id)


def test_a_run_whose_place_was_taken_does_not_answer(world: World) -> None:
    world.join("big", BIG)
    older = world.create()
    world.run_due()
    world.wait(seconds=1)
    newer = world.create()
    reason = {"code": "SUPERSEDED", "message": f"a rollout of higher priority, {older.id}"}
    newest = col(Execution.rollout_id) == newer.id
    change(world, Execution, newest, state="CANCELED", reason=reason)
    assert only(world, "big").rollout_id == older.id
    change(world, Execution, col(Execution.device_id) == "big", state="CANCELED", reason=reason)
    assert only(world, "big").code is ReasonCode.SUPERSEDED


def test_a_rollout_of_higher_priority_is_named(world: World) -> None:
    world.join("big", BIG)
    older = world.create()
    world.run_due()
    world.wait(seconds=1)
    world.create()
    change(world, Rollout, col(Rollout.id) == older.id, priority=5)
    with world.database.transaction() as session:
        session.connection().execute(
            update(Rollout).where(col(Rollout.id) != older.id).values(state="RUNNING")
        )
    answer = only(world, "big")
    assert answer.code is ReasonCode.LOWER_PRIORITY
    assert older.id in answer.message


def a_ladder(world: World, *groups: Group, **strategy: Any) -> str:
    """Start a rollout in two groups of one device each, and return its id."""
    world.join("a", BIG, site="lyon")
    world.join("b", BIG, site="lyon")
    view = world.create(start=False)
    follow(world, view.id, Strategy(groups=groups or TWO, **strategy))
    change(world, Rollout, col(Rollout.id) == view.id, state="RUNNING")
    return view.id


def test_the_answers_follow_real_groups_to_their_end(world: World) -> None:
    devices = {name: world.join(name, BIG) for name in ("a", "b", "c")}
    canary = Group(name="canary", devices=1, soak_s=60, waits_for_promotion=True)
    strategy = Strategy(groups=(canary, Group(name="rest")), retries=Retries(attempts=1))
    view = world.create(strategy=strategy)
    world.run_due()
    runs = world.service.executions(view.id)
    first, second, _ = (one.device_id for one in sorted(runs, key=lambda run: run.position))
    assert only(world, first).code is ReasonCode.IN_PROGRESS
    assert "which is RUNNING: 0 of 1 succeeded" in only(world, second).message
    devices[first].sync()
    world.run_due()
    watched = only(world, second)
    assert (watched.code, watched.then) == (ReasonCode.WAITING_GROUP, "that group is judged")
    assert watched.at == world.now + timedelta(seconds=60)
    world.wait(seconds=61)
    world.run_due()
    assert only(world, second).code is ReasonCode.WAITING_PROMOTION
    world.service.promote(view.id, 0, "token:ann")
    world.run_due()
    assert only(world, second).code is ReasonCode.IN_PROGRESS
    devices[second].sync(ExecutionState.ROLLED_BACK)
    world.run_due()
    gone_back = only(world, second)
    assert "ended ROLLED_BACK" in gone_back.message
    assert only(world, first).code is ReasonCode.IN_SYNC
    world.service.roll_back(view.id, "token:ann")
    taken = only(world, first)
    assert (taken.code, taken.then[:10]) == (ReasonCode.ROLLED_BACK_BY_ROLLOUT, "it returns")
    world.run_due()
    assert only(world, first).message.startswith(f"{first} returns from talk@1.0.0")


@pytest.mark.parametrize(
    ("strategy", "code"),
    [
        (Strategy(budgets=(DisruptionBudget(max_unavailable=1),)), ReasonCode.DISRUPTION_BUDGET),
        (
            Strategy(budgets=(DisruptionBudget(max_unavailable_percent=40),)),
            ReasonCode.DISRUPTION_BUDGET,
        ),
        (Strategy(pace=Pace(max_in_progress=2)), ReasonCode.RATE_LIMIT),
        (Strategy(pace=Pace(starts_per_minute=2)), ReasonCode.RATE_LIMIT),
    ],
)
def test_what_the_planner_leaves_in_the_queue_is_said_to_be_held_by_the_same_limit(
    world: World, strategy: Strategy, code: ReasonCode
) -> None:
    for number in range(6):
        world.join(f"d{number}", BIG, site="lyon" if number % 2 else "oslo")
    view = world.create(strategy=strategy)
    world.run_due()
    states = world.states(view.id)
    assert Counter(states.values()) == {
        ExecutionState.IN_PROGRESS: 2,
        ExecutionState.QUEUED: 4,
    }
    found = {name: only(world, name).code for name in states}
    assert Counter(found.values()) == {ReasonCode.IN_PROGRESS: 2, code: 4}


def test_a_device_that_comes_to_a_continuous_target_is_about_to_be_taken_in(world: World) -> None:
    rollout_id = a_ladder(world, membership=Membership.CONTINUOUS)
    target: dict[str, Any] = {"labels": {"site": "lyon"}, "devices": []}
    change(world, Rollout, col(Rollout.id) == rollout_id, target=target)
    world.join("elsewhere", BIG, site="oslo")
    assert only(world, "elsewhere").code is ReasonCode.NOT_TARGETED
    world.join("late", BIG, site="lyon")
    late = only(world, "late")
    assert (late.code, late.alias) == (ReasonCode.WAITING_TURN, "assistant")
    assert (late.rollout_id, late.then[:14]) == (rollout_id, "it is taken in")
    follow(world, rollout_id, Strategy(groups=TWO))
    assert only(world, "late").code is ReasonCode.NOT_TARGETED


def test_a_group_waits_for_the_one_before_it(world: World) -> None:
    ladder = (Group(name="canary", devices=1, waits_for_promotion=True), Group(name="rest"))
    a_ladder(world, *ladder)
    assert only(world, "a").code is ReasonCode.WAITING_TURN
    waits = only(world, "b")
    assert waits.code is ReasonCode.WAITING_GROUP
    assert "group 0 (canary), which is RUNNING: 0 of 1 succeeded" in waits.message
    until = world.now + timedelta(hours=1)
    stands(world, 0, state="SOAKING", soak_until=until)
    assert only(world, "b").at == until
    stands(world, 0, soak_until=world.now)
    assert only(world, "b").code is ReasonCode.WAITING_GROUP
    change(world, Execution, col(Execution.device_id) == "a", state="SUCCEEDED")
    assert only(world, "b").code is ReasonCode.WAITING_PROMOTION
    stands(world, 0, promoted_by="token:ann", promoted_at=world.now, state="FINISHED")
    assert only(world, "b").message == "its group 1 (rest) is the next"
    stands(world, 1, state="RUNNING")
    assert only(world, "b").code is ReasonCode.WAITING_TURN


@pytest.mark.parametrize(
    ("verdict", "health", "code"),
    [
        (Verdict.HOLD, Health.INSUFFICIENT, ReasonCode.GATE_HOLD),
        (Verdict.FAIL, Health.FAILED, ReasonCode.GATE_FAILED),
    ],
)
def test_a_gate_says_which_class_holds_the_next_group(
    world: World, verdict: Verdict, health: Health, code: ReasonCode
) -> None:
    a_ladder(world, Group(name="canary", devices=1, gate=Gate()), Group(name="rest"))
    change(world, Execution, col(Execution.device_id) == "a", excused_at=world.now)
    finding = Finding(Metric.REQUESTS, health, measured=3, bound=20, found=3)
    judged = Judgement(verdict, (ClassJudgement("c1", health, 1, (finding,)),))
    stands(world, 0, state="SOAKING", soak_until=world.now, verdict=judged.as_json())
    answer = only(world, "b")
    assert answer.code is code
    assert f"c1: {health.lower()}" in answer.message


def test_a_group_that_was_given_up_is_gone_past_by_a_promotion(world: World) -> None:
    a_ladder(world)
    stands(world, 0, state="ERROR")
    assert only(world, "b").code is ReasonCode.ABORTED
    stands(world, 0, promoted_by="token:ann", promoted_at=world.now)
    assert only(world, "b").message == "its group 1 (rest) is the next"


def test_a_rollout_that_was_aborted_says_by_what(world: World) -> None:
    rollout_id = a_ladder(world)
    abort = {
        "criterion": msgspec.to_builtins(AbortCriterion(percent=10, min_count=2)),
        "group": 0,
        "failures": 3,
        "judged": 9,
        "at": "2026-11-26T12:00:00Z",
    }
    change(world, Rollout, col(Rollout.id) == rollout_id, state="PAUSED", abort=abort)
    answer = only(world, "b")
    assert answer.code is ReasonCode.ABORTED
    assert answer.message.endswith(
        "3 of 9 that ended in group 0 did not succeed (the limit is 10 %, and at least 2)"
    )


def test_a_stop_after_an_abort_says_who_stopped_it_and_offers_no_resume(world: World) -> None:
    devices = {name: world.join(name, BIG) for name in "ab"}
    view = world.create(strategy=Strategy(groups=TWO))
    world.run_due()
    states = world.states(view.id)
    (canary,) = (name for name in states if states[name] is ExecutionState.IN_PROGRESS)
    (waits,) = states.keys() - {canary}
    devices[canary].sync(ExecutionState.FAILED)
    world.run_due()
    held = only(world, waits)
    assert held.code is ReasonCode.ABORTED
    assert held.message.endswith(
        "is paused, because group 0 can no longer reach its share of 100 %: 1 of 1 did not succeed"
    )
    world.service.stop(view.id, "user:ann")
    stopping = only(world, waits)
    world.run_due()
    assert world.states(view.id)[waits] is ExecutionState.CANCELED
    for answer in (stopping, only(world, waits)):
        assert answer.code is ReasonCode.STOPPED_BY_OPERATOR
        assert "was stopped by user:ann" in answer.message
        assert "resume" not in answer.do


def test_retry_penalty_and_absence_are_told(world: World) -> None:
    a_ladder(world)
    later = world.now + timedelta(minutes=5)
    mine = col(Execution.device_id) == "a"
    change(world, Execution, mine, retry_at=later, reason={"code": "LOAD_FAILED", "message": "no"})
    answer = only(world, "a")
    assert (answer.code, answer.at) == (ReasonCode.WAITING_RETRY, later)
    change(world, Device, col(Device.id) == "a", penalty_until=later)
    assert only(world, "a").code is ReasonCode.PENALTY
    change(world, Device, col(Device.id) == "a", penalty_until=None)
    change(world, Execution, mine, retry_at=None, excused_at=world.now)
    assert only(world, "a").code is ReasonCode.OFFLINE


def test_a_budget_and_a_pace_hold_by_what_is_counted_now(world: World) -> None:
    rollout_id = a_ladder(world, Group(), budgets=(DisruptionBudget(max_unavailable=1),))
    assert only(world, "b").message.startswith("1 device is before b")
    under_way = {"state": "IN_PROGRESS", "started_at": world.now}
    change(world, Execution, col(Execution.device_id) == "a", **under_way)
    held = only(world, "b")
    assert held.code is ReasonCode.DISRUPTION_BUDGET
    assert "site=lyon (1 down, of at most 1)" in held.message
    paced = Strategy(pace=Pace(starts_per_minute=1))
    follow(world, rollout_id, paced)
    mine = col(Execution.device_id) == "a"
    change(world, Execution, mine, started_at=world.now - timedelta(seconds=20))
    held = only(world, "b")
    assert (held.code, held.at) == (ReasonCode.RATE_LIMIT, world.now + timedelta(seconds=40))


def test_quarantine_is_said_before_all_else(world: World) -> None:
    world.join("big", BIG)
    world.create()
    held = {"quarantined_at": world.now, "quarantine_reason": "a copy renewed"}
    change(world, Device, col(Device.id) == "big", **held)
    answer = only(world, "big")
    assert answer.code is ReasonCode.IN_QUARANTINE
    assert "a copy renewed" in answer.message


@contextmanager
def statements(world: World) -> Generator[list[tuple[str, Any]]]:
    """Collect what is asked of the database, with its values."""
    asked: list[tuple[str, Any]] = []

    def keep(*given: Any) -> None:
        if str(given[2]).startswith("SELECT"):
            asked.append((given[2], given[3]))

    event.listen(world.database.engine, "before_cursor_execute", keep)
    try:
        yield asked
    finally:
        event.remove(world.database.engine, "before_cursor_execute", keep)


def test_no_statement_looks_through_a_whole_table() -> None:
    world = World()
    try:
        world.publish("1.0.0")
        _explain(world)
    finally:
        world.close()


def _explain(world: World) -> None:
    budgets = (DisruptionBudget(max_unavailable_percent=50),)
    a_ladder(world, Group(), pace=Pace(max_in_progress=9, starts_per_minute=9), budgets=budgets)
    with statements(world) as asked:
        assert only(world, "b").code is ReasonCode.WAITING_TURN
    assert len(asked) > len(("device", "labels", "runs", "groups", "ahead"))
    tables = {*SQLModel.metadata.tables, "later"}
    rare = ("ix_device_revoked", "ix_execution_down", "ix_execution_excused")
    with world.database.reading() as session:
        for statement, values in asked:
            explained = f"EXPLAIN QUERY PLAN {statement}"
            plan = session.connection().exec_driver_sql(explained, values).all()
            steps = [str(row[-1]).split() for row in plan]
            scanned = [
                step
                for step in steps
                if step[0] == "SCAN" and step[1] in tables and step[-1] not in rare
            ]
            assert not scanned, (statement, steps)


def test_a_question_costs_the_same_in_a_large_fleet(world: World) -> None:
    world.join("big-0", BIG)
    view = world.create(start=False)
    with statements(world) as few:
        only(world, "big-0")
    devices: list[SimDevice] = [world.join(f"big-{number}", BIG) for number in range(1, 6)]
    for _ in range(3):
        world.create(start=False)
    assert devices
    with statements(world) as many:
        assert only(world, "big-0").rollout_id != view.id
    assert len(many) == len(few)
