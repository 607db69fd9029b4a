# pyright: reportPrivateUsage=false
# The replicas are stopped between deciding and doing.
from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from simulators.controlled import ALIAS, BIG, SMALL, KilledError, World
from sprat_controller.errors import ConflictError
from sprat_controller.rollout import planner
from sprat_controller.rollout.book import Book
from sprat_controller.rollout.facts import Assign, Decision, FinishRollout
from sprat_controller.rollout.requests import Target
from sprat_controller.rollout.runner import Runner
from sprat_controller.rollout.sql_book import SqlBook
from sprat_controller.schedule.leases import LENGTH, LeaseLostError
from sprat_controller.store.tables import AuditRecord, DesiredModel, Rollout
from sprat_proto.audit_events import Tag
from sprat_proto.states import DeviceState, ExecutionState, RolloutState
from sqlmodel import col, select

SUCCEEDED = ExecutionState.SUCCEEDED


def a_book(world: World) -> Book:
    """Open the one rollout, though it is not due."""
    return opened(world.runner, world.now + timedelta(days=366))


def opened(runner: Runner, now: datetime) -> Book:
    """Claim what is due."""
    lease = runner._leases.claim(now)
    assert lease is not None
    return runner._open_book(lease)


def decided(book: Book, now: datetime) -> list[Decision]:
    facts = book.read(now)
    assert facts is not None
    return planner.decide(facts, now)


def test_a_rollout_goes_from_start_to_finished(world: World) -> None:
    big, small = world.join("big", BIG), world.join("small", SMALL)
    view = world.create()
    world.run_due()
    assert sorted(device for device, _ in world.pushed) == ["big", "small"]
    assert world.device("big").state == DeviceState.PENDING
    for device in (big, small):
        device.sync()
    world.run_due()
    assert world.states(view.id) == {"big": SUCCEEDED, "small": SUCCEEDED}
    assert world.state(view.id) == RolloutState.FINISHED
    assert {device.committed[ALIAS].variant for device in (big, small)} == {"q8_0", "q4_0"}
    assert world.device("big").state == DeviceState.IN_SYNC


def test_a_rollout_at_rest_is_due_no_more(world: World) -> None:
    world.join("a").sync()
    view = world.create()
    world.run_due()
    world.service.stop(view.id, "token:ann")
    world.run_due()
    with world.database.reading() as session:
        assert session.exec(select(Rollout.due_at)).all() == [None]


def test_an_offline_device_gets_its_assignment_at_its_next_hello(world: World) -> None:
    device = world.join("a")
    view = world.create()
    world.run_due()
    world.wait(hours=5)
    world.run_due()
    assert world.states(view.id) == {"a": ExecutionState.IN_PROGRESS}
    device.hello()
    device.finish()
    device.send_reports()
    world.run_due()
    assert world.states(view.id) == {"a": SUCCEEDED}


def test_no_more_than_the_limit_are_under_way_and_order_is_kept(world: World) -> None:
    devices = [world.join(f"d{number}") for number in range(5)]
    view = world.create(max_in_progress=2)
    seen: list[list[str]] = []
    for _ in range(5):
        world.run_due()
        under_way = [
            name for name, state in world.states(view.id).items() if state == "IN_PROGRESS"
        ]
        seen.append(under_way)
        devices[int(under_way[0][1:])].sync() if under_way else None
    assert seen == [["d0", "d1"], ["d1", "d2"], ["d2", "d3"], ["d3", "d4"], ["d4"]]


def test_a_paused_rollout_starts_none_and_lets_those_under_way_end(world: World) -> None:
    first = world.join("a")
    world.join("b")
    view = world.create(max_in_progress=1)
    world.run_due()
    world.service.pause(view.id, "token:ann")
    first.sync()
    world.run_due()
    assert world.states(view.id) == {"a": SUCCEEDED, "b": ExecutionState.QUEUED}
    world.service.resume(view.id, "token:ann")
    world.run_due()
    assert world.states(view.id) == {"a": SUCCEEDED, "b": ExecutionState.IN_PROGRESS}


def test_a_stopped_rollout_cancels_all_and_devices_return_to_what_they_ran(world: World) -> None:
    device, fresh = world.join("a"), world.join("b")
    world.create(target=Target(devices=("a",)))
    world.run_due()
    device.sync()
    before = device.committed[ALIAS].digest
    world.publish("2.0.0", counter=2)
    view = world.create("2.0.0")
    world.run_due()
    device.heartbeat()
    fresh.heartbeat()
    assert device.under_way()
    world.service.stop(view.id, "token:ann")
    world.run_due()
    assert world.state(view.id) == RolloutState.STOPPED
    assert set(world.states(view.id).values()) == {ExecutionState.CANCELED}
    device.sync()
    fresh.sync()
    assert device.committed[ALIAS].digest == before
    assert fresh.committed == {}
    assert not device.under_way()
    for name in ("a", "b"):
        assert world.device(name).state == DeviceState.IN_SYNC


def test_a_device_that_committed_before_it_heard_of_the_stop_goes_back_too(world: World) -> None:
    device = world.join("a")
    world.create()
    world.run_due()
    device.sync()
    before = device.committed[ALIAS].digest
    world.publish("2.0.0", counter=2)
    view = world.create("2.0.0")
    world.run_due()
    device.heartbeat()
    device.finish()
    world.service.stop(view.id, "token:ann")
    world.run_due()
    device.send_reports()
    device.sync()
    assert device.committed[ALIAS].digest == before
    assert world.states(view.id) == {"a": ExecutionState.CANCELED}
    assert world.device("a").state == DeviceState.IN_SYNC


def test_an_execution_past_its_deadline_times_out_and_the_device_returns(world: World) -> None:
    device = world.join("a")
    view = world.create(execution_timeout_s=30)
    world.run_due()
    world.wait(seconds=29)
    world.run_due()
    assert world.states(view.id) == {"a": ExecutionState.IN_PROGRESS}
    world.wait(seconds=1)
    world.run_due()
    assert world.states(view.id) == {"a": ExecutionState.TIMED_OUT}
    assert world.state(view.id) == RolloutState.FINISHED
    reason = world.service.executions(view.id)[0].reason
    assert reason is not None
    assert reason["code"] == "DEADLINE_PASSED"
    device.sync()
    assert device.runs == {}


def test_executions_of_removed_devices_end(world: World) -> None:
    world.join("a")
    world.join("b")
    view = world.create(max_in_progress=1)
    world.run_due()
    world.remove("a")
    world.remove("b")
    world.wait(minutes=1)
    world.run_due()
    assert set(world.states(view.id).values()) == {ExecutionState.REMOVED}
    assert world.state(view.id) == RolloutState.FINISHED


def test_a_newer_rollout_supersedes_what_is_unfinished_under_the_same_alias(world: World) -> None:
    device = world.join("a")
    first = world.create()
    other = world.create(alias="coder")
    world.run_due()
    device.heartbeat()
    world.publish("2.0.0", counter=2)
    world.wait(seconds=1)
    second = world.create("2.0.0")
    world.run_due()
    reason = world.service.executions(first.id)[0].reason
    assert reason is not None
    assert (world.states(first.id), reason["code"]) == (
        {"a": ExecutionState.CANCELED},
        "SUPERSEDED",
    )
    world.run_due()
    assert world.state(first.id) == RolloutState.FINISHED
    device.sync()
    assert world.states(second.id) == world.states(other.id) == {"a": SUCCEEDED}
    assert {alias: one.release for alias, one in device.committed.items()} == {
        "assistant": "2.0.0",
        "coder": "1.0.0",
    }


def test_a_failed_execution_leaves_the_device_bound_to_what_it_proved(world: World) -> None:
    device = world.join("a")
    world.create()
    world.run_due()
    device.sync()
    proved = device.committed[ALIAS]
    world.publish("2.0.0", counter=2)
    view = world.create("2.0.0")
    world.run_due()
    device.sync(ExecutionState.ROLLED_BACK)
    world.run_due()
    assert world.states(view.id) == {"a": ExecutionState.ROLLED_BACK}
    with world.database.reading() as session:
        row = session.exec(select(DesiredModel)).one()
        assert (row.digest, row.execution_id) == (proved.digest, proved.execution_id)
    assert world.device("a").state == DeviceState.IN_SYNC


def test_every_change_of_state_is_in_the_audit_log(world: World) -> None:
    device = world.join("a")
    world.create()
    world.run_due()
    device.sync()
    world.run_due()
    ordered = select(AuditRecord).order_by(col(AuditRecord.seq))
    with world.database.reading() as session:
        tags = [record.tag for record in session.exec(ordered).all()]
    assert tags == [
        Tag.ROLLOUT_CREATED,
        Tag.ROLLOUT_STARTED,
        Tag.ROLLOUT_RUNNING,
        Tag.ROLLOUT_GROUP_MOVED,
        Tag.EXECUTION_DECIDED,
        Tag.ASSIGNMENT_ISSUED,
        Tag.EXECUTION_CHANGED,
        Tag.ROLLOUT_GROUP_MOVED,
        Tag.ROLLOUT_FINISHED,
    ]


def test_a_replica_that_was_frozen_cannot_carry_out_what_it_decided(world: World) -> None:
    """It decides, another one takes over and decides the same: only that is carried out."""
    device = world.join("a")
    view = world.create()
    frozen, other = world.a_runner("frozen"), world.a_runner("other")
    book = opened(frozen, world.now)
    while not isinstance((decisions := decided(book, world.now))[0], Assign):
        for decision in decisions:
            book.carry_out(decision, world.now)
    # Until its lease runs out the other leaves the rollout alone.
    assert other.run_due(world.now) == world.now + LENGTH
    assert world.pushed == []
    world.wait(seconds=LENGTH.total_seconds())
    assert other.run_due(world.now) is None
    assert len(world.pushed) == 1
    with pytest.raises(LeaseLostError, match="took over from frozen"):
        book.carry_out(decisions[0], world.now)
    with pytest.raises(LeaseLostError):
        book.read(world.now)
    with pytest.raises(LeaseLostError):
        book.rest(None)
    assert len(world.pushed) == 1
    assert world.states(view.id) == {"a": ExecutionState.IN_PROGRESS}
    device.heartbeat()
    assert device.version == 1


def test_one_rollout_that_fails_does_not_hold_up_the_others(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.join("a")
    first, second = world.create(), world.create(alias="coder")
    carry_out = SqlBook.carry_out

    def fail_first(self: SqlBook, decision: Decision, now: datetime) -> None:
        if self._lease.id == first.id:
            raise OSError("the disk is full")
        carry_out(self, decision, now)

    monkeypatch.setattr(SqlBook, "carry_out", fail_first)
    world.run_due()
    assert first.id in caplog.text
    assert world.state(second.id) == RolloutState.RUNNING
    monkeypatch.undo()
    world.run_due()
    assert world.state(first.id) == RolloutState.RUNNING


@pytest.mark.parametrize("statement", range(60))
def test_killed_before_any_statement_it_goes_on_as_if_nothing_was(statement: int) -> None:
    world = World()
    world.publish("1.0.0")
    devices = [world.join("a"), world.join("b")]
    view = world.create()
    try:
        with world.killed_after(statement):
            world.run_due()
    except KilledError:
        world.pushed.clear()
    world.run_due()
    for device in devices:
        device.sync()
    world.run_due()
    assert world.states(view.id) == {"a": SUCCEEDED, "b": SUCCEEDED}
    assert world.state(view.id) == RolloutState.FINISHED
    assert [device.version for device in devices] == [1, 1]
    assert all(list(device.runs.values()) == [1] for device in devices)
    world.close()


def test_a_finished_rollout_cannot_be_stopped(world: World) -> None:
    world.enrol("silent")
    view = world.create()
    world.run_due()
    with pytest.raises(ConflictError, match="FINISHED"):
        world.service.stop(view.id, "token:ann")


def test_a_decision_on_old_facts_never_exceeds_the_limit(world: World) -> None:
    for name in ("a", "b", "c"):
        world.join(name)
    view = world.create(max_in_progress=2)
    world.run_due()
    ids = tuple(execution.id for execution in world.service.executions(view.id))
    a_book(world).carry_out(Assign(ids), world.now)
    assert world.states(view.id)["c"] is ExecutionState.QUEUED


def test_a_decision_on_old_facts_is_nothing_to_a_rollout_that_moved_on(world: World) -> None:
    world.join("a")
    view = world.create()
    world.run_due()
    world.service.pause(view.id, "token:ann")
    before = (world.service.get(view.id), world.service.executions(view.id))
    old: list[Decision] = [Assign((world.first_execution(view.id).id,)), FinishRollout()]
    book = a_book(world)
    for decision in old:
        book.carry_out(decision, world.now)
    assert (world.service.get(view.id), world.service.executions(view.id)) == before


def test_a_device_returns_to_the_execution_that_it_ran_not_to_one_it_was_spared(
    world: World,
) -> None:
    device = world.join("a")
    first = world.create()
    world.run_due()
    device.sync()
    world.wait(seconds=1)
    world.create()  # nothing to do
    world.publish("2.0.0", counter=2)
    world.create("2.0.0")
    world.run_due()
    device.sync(ExecutionState.FAILED)
    with world.database.reading() as session:
        row = session.exec(select(DesiredModel)).one()
        assert row.execution_id == world.first_execution(first.id).id
