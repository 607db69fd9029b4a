"""Recurring rollouts over the real rows: nothing comes twice, whoever is killed and whenever."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count, pairwise
from threading import Barrier
from typing import Any

import pytest
from simulators.controlled import MODEL, KilledError, SimDevice, World
from sprat_controller.errors import ConflictError, DeniedError, NotFoundError, RequestError
from sprat_controller.registry import channels
from sprat_controller.registry.channels import By
from sprat_controller.rollout.recurring.occurrences import OccurrenceRunner
from sprat_controller.rollout.recurring.recurrences import (
    OccurrenceView,
    RecurrenceEdit,
    RecurrenceRequest,
    Recurrences,
    RecurrenceView,
)
from sprat_controller.rollout.requests import GivenApproval, RolloutView, Target
from sprat_controller.rollout.service import RolloutService
from sprat_controller.rollout.strategy import Deadlines, Strategy, WindowSpec
from sprat_controller.schedule.leases import LENGTH, Leases
from sprat_controller.store import tables
from sprat_controller.store.session import Database
from sprat_controller.store.tables import Occurrence, Recurrence, Rollout
from sprat_proto import canonical
from sprat_proto.approval import SCHEMA, ApproverPolicy, GroupPolicy
from sprat_proto.audit_events import Tag, actor_name
from sprat_proto.states import RolloutState
from sqlmodel import col, func, select

ANN = "token:ann"
FIRST = datetime(2026, 12, 1, 1, tzinfo=UTC)  # the first Tuesday of December at two in Berlin
MONTHLY = RecurrenceRequest(
    MODEL, "stable", "assistant", "0 2 * * 2#1", "Europe/Berlin", context=256
)

LONG = Strategy(deadlines=Deadlines(execution_s=100 * 86_400))
NEVER = WindowSpec(cron="0 2 30 2 *", duration_s=3600)


class Calendar:
    """A world with a channel, in which time passes from one moment to the next."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.devices: list[SimDevice] = []
        self.recurrences = Recurrences(world.database, world.clock, world.new_id)

    def put(self, release: str, channel: str = "stable") -> None:
        with self.world.database.transaction() as session:
            channels.put(session, MODEL, channel, release, By(ANN, self.world.now))

    def add(self, **changes: Any) -> RecurrenceView:
        return self.recurrences.add(replace(MONTHLY, **changes), ANN)

    def join(self, name: str) -> SimDevice:
        self.devices.append(self.world.join(name))
        return self.devices[-1]

    def controller(self, owner: str = "controller") -> OccurrenceRunner:
        leases = Leases(self.world.database, tables.of(Recurrence), owner, self.world.clock)
        leases.forget_own()
        return OccurrenceRunner(self.world.database, self.world.service, leases)

    def tick(self) -> None:
        for device in self.devices:
            device.heartbeat()  # whoever is silent for long is given nothing
        self.controller().run_due(self.world.now)
        self.world.run_due()

    def go_to_next(self, recurrence: RecurrenceView) -> None:
        due_at = self.recurrences.get(recurrence.id).due_at
        assert due_at is not None
        self.world.now = due_at
        self.tick()

    def came(self, recurrence: RecurrenceView) -> list[OccurrenceView]:
        return [*self.recurrences.occurrences(recurrence.id, 100)]

    def codes(self, recurrence: RecurrenceView) -> list[str]:
        """Return what came of each moment, oldest first."""
        found = reversed(self.came(recurrence))
        return [one.reason["code"] if one.reason else "created" for one in found]

    def rollouts(self) -> tuple[RolloutView, ...]:
        return self.world.service.list()


@pytest.fixture
def calendar(world: World) -> Calendar:
    made = Calendar(world)
    made.put("1.0.0")
    return made


def test_the_newest_release_is_rolled_out_at_its_moment_and_not_before(calendar: Calendar) -> None:
    device = calendar.join("a")
    recurrence = calendar.add()
    assert recurrence.due_at == FIRST
    calendar.world.now = FIRST - timedelta(seconds=1)
    calendar.tick()
    assert calendar.rollouts() == ()
    calendar.world.now = FIRST
    calendar.tick()
    (rollout,) = calendar.rollouts()
    assert (rollout.model, rollout.release, rollout.alias) == (MODEL, "1.0.0", "assistant")
    assert (rollout.start_at, rollout.created_by) == (FIRST, ANN)
    assert rollout.state is RolloutState.RUNNING
    device.sync()
    assert device.running()[0].release == "1.0.0"
    (occurrence,) = calendar.came(recurrence)
    assert (occurrence.due_at, occurrence.rollout_id) == (FIRST, rollout.id)
    view = calendar.recurrences.get(recurrence.id)
    assert view.due_at == datetime(2027, 1, 5, 1, tzinfo=UTC)
    assert view.last == occurrence
    calendar.tick()
    assert len(calendar.rollouts()) == 1
    (due,) = calendar.world.audited(Tag.RECURRENCE_DUE)
    assert due["detail"]["rollout"] == rollout.id
    assert actor_name(due["actor"]) == "schedule"


def test_each_release_comes_once_and_a_newer_one_at_the_next_moment(calendar: Calendar) -> None:
    device = calendar.join("a")
    recurrence = calendar.add()
    for release in ("1.0.0", "1.0.0", "2.0.0"):
        if release == "2.0.0":
            calendar.world.publish("2.0.0", counter=2)
            calendar.put("2.0.0")
        calendar.go_to_next(recurrence)
        device.sync()
        calendar.tick()
    assert calendar.codes(recurrence) == ["created", "ROLLED_OUT_ALREADY", "created"]
    assert device.running()[0].release == "2.0.0"
    skipped = calendar.world.audited(Tag.RECURRENCE_SKIPPED)
    assert [one["detail"]["reason"]["code"] for one in skipped] == ["ROLLED_OUT_ALREADY"]


def test_a_device_that_came_later_gets_what_the_others_have(calendar: Calendar) -> None:
    recurrence = calendar.add()
    for name in ("a", "b"):
        device = calendar.join(name)
        calendar.go_to_next(recurrence)
        device.sync()
        calendar.tick()
        assert device.running()[0].release == "1.0.0"
    assert calendar.codes(recurrence) == ["created", "created"]


def test_what_somebody_ended_is_not_brought_again(calendar: Calendar) -> None:
    calendar.join("a")
    recurrence = calendar.add()
    calendar.go_to_next(recurrence)
    calendar.world.service.stop(calendar.rollouts()[0].id, ANN)
    calendar.go_to_next(recurrence)
    assert calendar.codes(recurrence) == ["created", "STILL_RUNNING"]
    calendar.go_to_next(recurrence)
    assert calendar.codes(recurrence)[-1] == "ENDED_BEFORE"


def test_while_the_last_one_runs_the_next_moment_is_left_out(calendar: Calendar) -> None:
    device = calendar.join("a")
    recurrence = calendar.add(strategy=LONG)
    calendar.go_to_next(recurrence)
    calendar.go_to_next(recurrence)
    assert calendar.codes(recurrence) == ["created", "STILL_RUNNING"]
    device.sync()
    calendar.tick()
    calendar.join("b")
    calendar.go_to_next(recurrence)
    assert calendar.codes(recurrence)[-1] == "created"


def test_of_missed_moments_one_is_made_up_for(calendar: Calendar) -> None:
    calendar.join("a")
    recurrence = calendar.add(cron="0 2 * * *", zone="UTC")
    first = recurrence.due_at
    assert first is not None
    calendar.world.now = first + timedelta(days=5, hours=7)
    for _ in range(3):
        calendar.tick()
    (occurrence,) = calendar.came(recurrence)
    assert (occurrence.due_at, occurrence.decided_at) == (first, calendar.world.now)
    assert calendar.recurrences.get(recurrence.id).due_at == first + timedelta(days=6)
    assert len(calendar.rollouts()) == 1


def test_an_empty_channel_and_an_empty_target_are_told(calendar: Calendar) -> None:
    empty = calendar.add(channel="beta")
    nobody = calendar.add(target=Target({"site": "rome"}))
    calendar.world.join("gone")
    named = calendar.add(target=Target(devices=("gone",)))
    calendar.world.remove("gone")
    calendar.go_to_next(empty)
    assert calendar.codes(empty) == ["CHANNEL_EMPTY"]
    assert calendar.codes(nobody) == ["NO_DEVICES"]
    assert calendar.codes(named) == ["DEVICE_NOT_FOUND"]
    assert calendar.rollouts() == ()
    # And it goes on: each has another moment.
    assert {calendar.recurrences.get(one.id).due_at for one in (empty, nobody, named)} == {
        datetime(2027, 1, 5, 1, tzinfo=UTC)
    }


def test_a_paused_one_is_never_due_and_what_it_left_out_is_not_made_up_for(
    calendar: Calendar,
) -> None:
    calendar.join("a")
    recurrence = calendar.add()
    paused = calendar.recurrences.pause(recurrence.id, ANN)
    assert (paused.due_at, paused.paused_at) == (None, calendar.world.now)
    calendar.world.now = FIRST + timedelta(days=40)
    calendar.tick()
    assert calendar.came(recurrence) == []
    resumed = calendar.recurrences.resume(recurrence.id, ANN)
    assert resumed.due_at == datetime(2027, 2, 2, 1, tzinfo=UTC)
    for change in (calendar.recurrences.resume, calendar.recurrences.pause):
        change(recurrence.id, ANN)
    calendar.recurrences.remove(recurrence.id, ANN)
    with pytest.raises(NotFoundError, match="there is no recurring rollout"):
        calendar.recurrences.get(recurrence.id)
    assert [len(calendar.world.audited(tag)) for tag in (Tag.RECURRENCE_RESUMED,)] == [1]
    assert len(calendar.world.audited(Tag.RECURRENCE_PAUSED)) == 2


def test_a_removed_one_leaves_its_rollouts(calendar: Calendar) -> None:
    device = calendar.join("a")
    recurrence = calendar.add()
    calendar.go_to_next(recurrence)
    calendar.recurrences.remove(recurrence.id, ANN)
    device.sync()
    calendar.tick()
    (rollout,) = calendar.rollouts()
    assert rollout.state is RolloutState.FINISHED


def test_a_clock_that_is_put_back_brings_no_moment_twice(calendar: Calendar) -> None:
    calendar.join("a")
    recurrence = calendar.add()
    calendar.go_to_next(recurrence)
    calendar.world.now = FIRST - timedelta(hours=1)
    calendar.recurrences.pause(recurrence.id, ANN)
    assert calendar.recurrences.resume(recurrence.id, ANN).due_at == FIRST
    calendar.go_to_next(recurrence)
    assert calendar.codes(recurrence) == ["created"]
    assert calendar.recurrences.get(recurrence.id).due_at == datetime(2027, 1, 5, 1, tzinfo=UTC)


def test_whoever_must_approve_is_asked_and_its_author_may_not(calendar: Calendar) -> None:
    calendar.world.policy = ApproverPolicy(
        schema=SCHEMA, approvers=[], groups=[GroupPolicy(group="default", approval="controller")]
    )
    calendar.join("a")
    recurrence = calendar.add()
    calendar.go_to_next(recurrence)
    (rollout,) = calendar.rollouts()
    assert rollout.state is RolloutState.WAITING_FOR_APPROVAL
    spec = calendar.world.service.approval(rollout.id).spec
    assert spec is not None
    assert '"requested_by":"ann"' in spec
    calendar.go_to_next(recurrence)
    assert calendar.codes(recurrence) == ["created", "STILL_RUNNING"]
    calendar.world.service.deny(rollout.id, "no", "token:eve")
    calendar.go_to_next(recurrence)
    assert calendar.codes(recurrence)[-1] == "ENDED_BEFORE"


def test_what_is_edited_counts_from_the_next_moment_on(calendar: Calendar) -> None:
    calendar.join("a")
    recurrence = calendar.add()
    change = RecurrenceEdit(cron="30 4 * * *", zone="UTC", strategy={"priority": 3}, slots=2)
    edited = calendar.recurrences.edit(recurrence.id, change, "token:bob")
    assert edited.due_at == datetime(2026, 11, 24, 4, 30, tzinfo=UTC)
    assert (edited.revision, edited.created_by) == (2, ANN)
    calendar.go_to_next(recurrence)
    (rollout,) = calendar.rollouts()
    assert rollout.start_at == edited.due_at
    assert (rollout.strategy, rollout.slots) == (Strategy(priority=3), 2)
    (record,) = calendar.world.audited(Tag.RECURRENCE_EDITED)
    assert (actor_name(record["actor"]), record["detail"]["strategy"]["priority"]) == (
        "token:bob",
        3,
    )


def test_an_edit_of_something_else_leaves_the_moment_and_a_pause_as_they_are(
    calendar: Calendar,
) -> None:
    recurrence = calendar.add()
    calendar.world.now = FIRST + timedelta(hours=1)  # missed, and to be made up for
    named = calendar.recurrences.edit(recurrence.id, RecurrenceEdit(name="x"), ANN)
    assert (named.name, named.due_at) == ("x", FIRST)
    calendar.recurrences.pause(recurrence.id, ANN)
    paused = calendar.recurrences.edit(recurrence.id, RecurrenceEdit(cron="0 3 * * *"), ANN)
    assert (paused.due_at, paused.paused_at) == (None, calendar.world.now)
    resumed = calendar.recurrences.resume(recurrence.id, ANN)
    assert resumed.due_at == datetime(2026, 12, 2, 2, tzinfo=UTC)


def test_who_changed_what_it_asks_for_may_not_approve_what_comes_of_it(calendar: Calendar) -> None:
    calendar.world.policy = ApproverPolicy(
        schema=SCHEMA, approvers=[], groups=[GroupPolicy(group="default", approval="controller")]
    )
    calendar.join("a")
    recurrence = calendar.add()
    calendar.recurrences.edit(recurrence.id, RecurrenceEdit(context=512), "token:eve")
    calendar.go_to_next(recurrence)
    (rollout,) = calendar.rollouts()
    spec = calendar.world.service.approval(rollout.id).spec or ""
    given = GivenApproval(canonical.sha256_hex(spec.encode()))
    for author in (ANN, "token:eve"):
        with pytest.raises(DeniedError, match="asked for the rollout"):
            calendar.world.service.approve(rollout.id, given, author)
    approved = calendar.world.service.approve(rollout.id, given, "token:zoe")
    assert approved.state is RolloutState.SCHEDULED


def test_a_change_of_what_was_not_looked_at_is_refused(calendar: Calendar) -> None:
    recurrence = calendar.add()
    do = calendar.recurrences
    do.edit(recurrence.id, RecurrenceEdit(name="x"), ANN, expected_revision=1)
    for change in (do.pause, do.resume, do.remove):
        with pytest.raises(ConflictError, match="had it edited at"):
            change(recurrence.id, ANN, expected_revision=1)
    assert do.pause(recurrence.id, ANN, expected_revision=2).revision == 3
    # What changes nothing is no revision.
    assert do.pause(recurrence.id, ANN, expected_revision=3).revision == 3
    do.remove(recurrence.id, ANN, expected_revision=3)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"cron": "0 2 * *"}, "expected five fields"),
        ({"zone": "Mars/Base"}, "'Mars/Base'"),
        ({"cron": "0 2 30 2 *"}, "never"),
        ({"channel": "Stable!"}, "expected the name of a channel"),
        ({"alias": "Not A Name"}, "alias: expected"),
        ({"context": 1}, "context: expected"),
        ({"strategy": Strategy(ends_at=9)}, "strategy: expected none with ends_at"),
        ({"strategy": Strategy(override="fire")}, "strategy: expected none with ends_at"),
        ({"strategy": Strategy(activate_window=NEVER)}, "which never does"),
        ({"name": "x" * 257}, "name: expected at most 256"),
        ({"target": Target(filter="site =")}, "expected"),
    ],
)
def test_what_is_none_is_refused_and_leaves_nothing(
    calendar: Calendar, changes: dict[str, Any], found: str
) -> None:
    with pytest.raises(RequestError) as caught:
        calendar.add(**changes)
    assert found in caught.value.message
    assert calendar.recurrences.list() == ()


def test_a_model_that_is_not_there_is_named(calendar: Calendar) -> None:
    with pytest.raises(NotFoundError, match="there is no model 'nothing'"):
        calendar.add(model="nothing")


def test_killed_anywhere_it_creates_one_rollout(calendar: Calendar) -> None:
    """Kill at each statement and commit in turn, until nothing is left to be killed at."""
    world = calendar.world
    world.join("a")
    created = 0
    for statements in count(1):
        recurrence = calendar.add(alias=f"alias-{statements}")
        assert recurrence.due_at is not None
        world.now = recurrence.due_at
        was_killed = False
        try:
            with world.killed_after(statements):
                calendar.controller().run_due(world.now)
        except KilledError:
            was_killed = True
        calendar.controller().run_due(world.now)
        (occurrence,) = calendar.came(recurrence)
        assert occurrence.rollout_id is not None
        created += 1
        assert len(calendar.rollouts()) == created
        assert len(world.audited(Tag.RECURRENCE_DUE)) == created
        calendar.recurrences.remove(recurrence.id, ANN)
        if not was_killed:
            break
    assert created > 10  # it was killed at that many places


def test_one_that_was_frozen_with_its_claim_creates_nothing_more(calendar: Calendar) -> None:
    calendar.join("a")
    recurrence = calendar.add()
    calendar.world.now = FIRST
    frozen = Leases(calendar.world.database, tables.of(Recurrence), "frozen", calendar.world.clock)
    lease = frozen.claim(FIRST)
    assert lease is not None
    other = calendar.controller("other")
    assert other.run_due(FIRST) == FIRST + LENGTH  # look again then
    assert calendar.came(recurrence) == []
    calendar.world.now = FIRST + LENGTH
    assert other.run_due(calendar.world.now) is None
    assert calendar.codes(recurrence) == ["created"]
    assert len(calendar.rollouts()) == 1


# Two controllers, each with connections of its own to one PostgreSQL.

RULES, MOMENTS = 12, 6


def test_two_controllers_fire_each_moment_once(unprotected: Database) -> None:
    """Both look at the same moments at the same time, again and again."""
    world = World(unprotected)
    world.publish("1.0.0")
    calendar = Calendar(world)
    calendar.put("1.0.0")
    world.join("a")
    databases = [
        unprotected,
        Database(unprotected.engine.url.render_as_string(hide_password=False)),
    ]
    ids = count(1)
    runners = [
        OccurrenceRunner(
            database,
            RolloutService(
                database,
                world.clock,
                lambda: f"made-{next(ids):06}",
                lambda: None,
                lambda _: world.policy,
            ),
            Leases(database, tables.of(Recurrence), f"controller-{number}", world.clock),
        )
        for number, database in enumerate(databases)
    ]
    rules = [
        calendar.add(cron="0 * * * *", zone="UTC", alias=f"alias-{number}")
        for number in range(RULES)
    ]
    start = Barrier(len(runners))

    def look(runner: OccurrenceRunner) -> None:
        start.wait()
        for _ in range(3):
            runner.run_due(world.now)

    with ThreadPoolExecutor(len(runners)) as pool:
        for _ in range(MOMENTS):
            due_at = calendar.recurrences.get(rules[0].id).due_at
            assert due_at is not None
            world.now = due_at
            for done in [pool.submit(look, runner) for runner in runners]:
                done.result()
            # What is in the way of the next moment ends.
            for rollout in calendar.rollouts():
                if not rollout.finished_at and rollout.state is RolloutState.SCHEDULED:
                    world.service.stop(rollout.id, ANN)
            world.run_due()
            world.publish(f"1.0.{next(ids)}", counter=next(ids))
            calendar.put(newest_of(world))
    with world.database.reading() as session:
        rows = session.exec(select(Occurrence)).all()
        rollouts = session.exec(select(func.count()).select_from(Rollout)).one()
    per_rule = Counter(row.recurrence_id for row in rows)
    assert per_rule == {rule.id: MOMENTS for rule in rules}
    assert [row.reason for row in rows if row.reason] == []
    assert rollouts == len({row.rollout_id for row in rows}) == RULES * MOMENTS
    for rule in rules:
        moments = sorted(row.due_at for row in rows if row.recurrence_id == rule.id)
        assert all(two - one == timedelta(hours=1) for one, two in pairwise(moments))
    assert len(world.audited(Tag.RECURRENCE_DUE)) == RULES * MOMENTS
    databases[1].close()


def newest_of(world: World) -> str:
    with world.database.reading() as session:
        order = col(tables.Release.counter).desc()
        return session.exec(select(tables.Release.release).order_by(order)).first() or ""
