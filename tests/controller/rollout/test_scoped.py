"""Rollouts of somebody who has some devices only: what is planned, given out, and due again."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulators.any_access import DEVICES, FILTERS, SCOPES, SITES
from simulators.controlled import ALIAS, MODEL, OPERATOR, World
from simulators.plain_signer import read_plan
from sprat_controller.access import grants, scopes, snapshot, subjects
from sprat_controller.access.actor import SubjectKind
from sprat_controller.access.policy import Permission
from sprat_controller.access.scopes import EVERYTHING, Scope
from sprat_controller.errors import DeniedError, NotFoundError
from sprat_controller.fleet import inventory, target_filter
from sprat_controller.fleet.filters.fields import Facts
from sprat_controller.registry import channels
from sprat_controller.rollout.recurring.occurrences import OccurrenceRunner
from sprat_controller.rollout.recurring.recurrences import (
    RecurrenceEdit,
    RecurrenceRequest,
    Recurrences,
)
from sprat_controller.rollout.requests import (
    PlanRequest,
    RolloutRequest,
    RolloutView,
    Target,
    confined,
    reach,
    target_from,
    target_json,
)
from sprat_controller.rollout.service import RolloutService
from sprat_controller.rollout.strategy import Membership, Strategy
from sprat_controller.schedule.leases import Leases
from sprat_controller.store import queries, tables
from sprat_controller.store.tables import Recurrence
from sprat_proto.audit_events import Tag
from sprat_proto.states import ExecutionState, ReasonCode
from sqlmodel import Session

LYON = scopes.read("site = lyon")
LABELS = st.dictionaries(st.just("site"), st.sampled_from(SITES))
TARGETS = st.builds(
    Target,
    LABELS,
    st.lists(st.sampled_from(["gw-1", "pump"]), max_size=2, unique=True).map(tuple),
    st.just("") | FILTERS,
)


def means(target: Target, device: Facts) -> bool:
    """Tell whether a device is in a target, by its words."""
    return (
        all(device.labels.get(key) == value for key, value in target.labels.items())
        and (not target.devices or device.device in target.devices)
        and all(
            target_filter.matches(target_filter.parse(text), device)
            for text in (target.filter, target.scope)
        )
    )


@given(TARGETS, SCOPES, SCOPES, DEVICES)
def test_a_confined_target_is_what_is_meant_within_the_scope(
    target: Target, first: str, second: str, device: Facts
) -> None:
    one, other = scopes.read(first), scopes.read(second)
    within = confined(confined(target, one), other)
    both = one.covers(device) and other.covers(device)
    assert means(within, device) == (means(target, device) and both)
    assert target_from(target_json(within)) == within
    assert confined(target, EVERYTHING) == target


@given(TARGETS, SCOPES, DEVICES)
def test_what_a_target_reaches_is_what_it_means(target: Target, text: str, device: Facts) -> None:
    scope = scopes.read(text)
    within = confined(target, scope)
    assert reach(within).covers(device) == means(within, device)
    assert scope.contains(reach(within))


def at_lyon(world: World, **changes: object) -> RolloutView:
    """Return a rollout that somebody at Lyon made and started, to all that is there for them."""
    service: RolloutService = world.service.within(LYON)
    strategy = Strategy(**changes)  # pyright: ignore[reportArgumentType] - of any of its fields
    plan = PlanRequest(MODEL, "1.0.0", ALIAS, Target(), 256)
    made = service.create(RolloutRequest(plan, max_in_progress=1, strategy=strategy), OPERATOR)
    return service.start(made.id, OPERATOR)


def move(world: World, device_id: str, site: str) -> None:
    with world.database.transaction() as session:
        labels = {"site": site}
        inventory.relabel(session, device_id, labels, actor=OPERATOR, now=world.now)


def test_t38_a_device_that_left_the_scope_in_mid_rollout_gets_no_plan(world: World) -> None:
    first, second = world.join("a", site="lyon"), world.join("b", site="lyon")
    world.join("c", site="lima")
    rollout = at_lyon(world)
    world.run_due()
    assert [name for name, _ in world.pushed] == ["a"]
    move(world, "b", "lima")
    first.sync()
    world.run_due()
    second.sync()
    world.run_due()
    assert world.states(rollout.id) == {
        "a": ExecutionState.SUCCEEDED,
        "b": ExecutionState.CANCELED,
    }
    run = next(one for one in world.service.executions(rollout.id) if one.device_id == "b")
    assert run.reason is not None
    assert run.reason["code"] == ReasonCode.OUT_OF_SCOPE
    assert second.assignment is None
    given_out = {read_plan(message.assignment).device_id for _, message in world.pushed}
    assert given_out == {"a"}


def test_a_rollout_that_goes_on_takes_in_nobody_from_elsewhere(world: World) -> None:
    first = world.join("a", site="lyon")
    rollout = at_lyon(world, membership=Membership.CONTINUOUS)
    world.run_due()
    first.heartbeat()
    elsewhere, here = world.join("b", site="lima"), world.join("c", site="lyon")
    for _ in range(3):
        world.run_due()
        for device in (first, elsewhere, here):
            device.sync()
    assert set(world.states(rollout.id)) == {"a", "c"}


def test_what_is_not_there_for_somebody_is_neither_shown_nor_changed(world: World) -> None:
    world.join("a", site="lyon")
    world.join("b", site="lima")
    everywhere, lyon = world.create(start=False), at_lyon(world)
    lima = world.service.within(scopes.read("site = lima"))
    with pytest.raises(NotFoundError):
        lima.get(lyon.id)
    with pytest.raises(NotFoundError):
        lima.stop(lyon.id, OPERATOR)
    with pytest.raises(DeniedError, match="also for devices outside of site = lima"):
        lima.stop(everywhere.id, OPERATOR)
    assert [view.id for view in lima.list()] == [everywhere.id]
    assert [one.device_id for one in lima.executions(everywhere.id)] == ["b"]
    assert lima.get(everywhere.id).groups[0].devices == 1


def test_records_are_seen_with_their_device_or_with_the_whole_rollout(world: World) -> None:
    device = world.join("a", site="lyon")
    world.join("b", site="lima")
    both, own = world.create(start=False).id, at_lyon(world).id
    world.run_due()
    device.sync()
    move(world, "b", "rome")
    with world.database.reading() as session:

        def seen(scope: Scope) -> set[tuple[str | None, str | None]]:
            wanted = queries.AuditFilter(within=scope)
            rows = queries.audit_page(session, wanted, after=0, limit=1000)
            return {(row.device_id, row.rollout_id) for row in rows}

        lyon, rome = seen(LYON), seen(scopes.read("site = rome"))
        assert {device_id for device_id, _ in lyon} == {"a", None}
        assert {(None, own), ("a", own)} <= lyon
        assert (None, both) not in lyon
        assert {device_id for device_id, _ in rome} == {"b"}
        assert seen(scopes.read("site = lima")) == set()
        assert lyon | rome | {(None, both)} <= seen(EVERYTHING)


NIGHTLY = RecurrenceRequest(MODEL, "stable", ALIAS, "0 2 * * *", "UTC", context=256)
FIRST = datetime(2026, 11, 24, 2, tzinfo=UTC)


def standing(session: Session, subject: str) -> Scope | None:
    return snapshot.load(session, None).scope(subject, Permission.ROLL_OUT)


def a_nightly_of_ann(world: World) -> tuple[Recurrences, str, str]:
    """Have ann at Lyon roll out every night; return it, and the id of her binding."""
    world.join("a", site="lyon")
    with world.database.transaction() as session:
        by = channels.By(OPERATOR, world.now)
        channels.put(session, MODEL, "stable", "1.0.0", by)
        ann = subjects.create(
            session, SubjectKind.USER, "ann", owner=None, actor="controller", now=world.now
        )
        wanted = grants.Wanted(ann.id, "operator", LYON)
        grants.grant(session, wanted, actor=None, now=world.now, binding_id="b-1")
    recurrences = Recurrences(world.database, world.clock, world.new_id)
    return recurrences, recurrences.within(LYON).add(NIGHTLY, "user:ann").id, "b-1"


def at_night(world: World) -> None:
    leases = Leases(world.database, tables.of(Recurrence), "controller", world.clock)
    leases.forget_own()
    world.now = FIRST
    OccurrenceRunner(world.database, world.service, leases, standing).run_due(world.now)


def test_what_recurs_is_rolled_out_while_its_author_may(world: World) -> None:
    recurrences, recurrence, _ = a_nightly_of_ann(world)
    at_night(world)
    (came,) = recurrences.occurrences(recurrence, 9)
    assert came.rollout_id is not None
    assert world.service.get(came.rollout_id).target.scope == "site = lyon"


@pytest.mark.parametrize("how", ["demoted", "disabled", "moved"])
def test_what_recurs_is_skipped_when_its_author_may_not_any_more(world: World, how: str) -> None:
    recurrences, recurrence, binding = a_nightly_of_ann(world)
    with world.database.transaction() as session:
        if how == "disabled":
            ann = subjects.find(session, "ann")
            ann.disabled_at = world.now
            session.add(ann)
        else:
            session.delete(session.get_one(tables.RoleBinding, binding))
        if how == "moved":
            session.flush()
            wanted = grants.Wanted("ann", "operator", scopes.read("site = lima"))
            grants.grant(session, wanted, actor=None, now=world.now, binding_id="b-2")
    at_night(world)
    (came,) = recurrences.occurrences(recurrence, 9)
    assert came.rollout_id is None
    assert came.reason is not None
    assert came.reason["code"] == "AUTHOR_MAY_NOT"
    assert world.service.list() == ()
    (skipped,) = world.audited(Tag.RECURRENCE_SKIPPED)
    assert skipped["detail"]["reason"]["code"] == "AUTHOR_MAY_NOT"


@pytest.mark.parametrize("how", ["disabled", "at Lima"])
def test_what_recurs_is_skipped_when_who_changed_it_last_may_not_any_more(
    world: World, how: str
) -> None:
    recurrences, recurrence, _ = a_nightly_of_ann(world)
    with world.database.transaction() as session:
        eve = subjects.create(
            session, SubjectKind.USER, "eve", owner=None, actor="controller", now=world.now
        )
        place = scopes.read("site = lima") if how == "at Lima" else EVERYTHING
        wanted = grants.Wanted(eve.id, "operator", place)
        grants.grant(session, wanted, actor=None, now=world.now, binding_id="b-eve")
        eve.disabled_at = world.now if how == "disabled" else None
        session.add(eve)
    recurrences.edit(recurrence, RecurrenceEdit(context=512), "user:eve")
    at_night(world)
    (came,) = recurrences.occurrences(recurrence, 9)
    assert came.rollout_id is None
    assert came.reason is not None
    assert came.reason["code"] == "AUTHOR_MAY_NOT"
    assert "user:eve" in came.reason["message"]
