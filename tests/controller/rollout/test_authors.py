"""What was scheduled starts by itself only while those who asked for it may still do so."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from simulators.controlled import ALIAS, MODEL, KilledError, World
from sprat_controller.access import grants, scopes, snapshot, subjects
from sprat_controller.access.actor import SubjectKind
from sprat_controller.access.policy import Permission
from sprat_controller.access.scopes import Scope
from sprat_controller.rollout import facts, planner
from sprat_controller.rollout.requests import (
    GivenApproval,
    PlanRequest,
    RolloutEdit,
    RolloutRequest,
    RolloutView,
    Target,
)
from sprat_controller.rollout.strategy import Membership, Strategy
from sprat_controller.rollout.why import from_rows
from sprat_controller.store import tables
from sprat_controller.store.tables import CustomRole, Device, Rollout
from sprat_proto import canonical
from sprat_proto.approval import Approver, ApproverPolicy, GroupPolicy
from sprat_proto.audit_events import Tag
from sprat_proto.signing import SigningKey, generate_private_pem
from sprat_proto.states import ExecutionState, ReasonCode, RolloutState
from sqlmodel import Session

ANN, EVE, BOB, ZOE = (f"user:{name}" for name in ("ann", "eve", "bob", "zoe"))
EVERYWHERE, LYON = scopes.read(""), scopes.read("site = lyon")
READY, SCHEDULED = RolloutState.READY, RolloutState.SCHEDULED


def standing(session: Session, subject: str, permission: Permission) -> Scope | None:
    return snapshot.load(session, None).scope(subject, permission)


def add(world: World, name: str, role: str = "operator", scope: Scope = EVERYWHERE) -> None:
    """Add a person who has a role."""
    with world.database.transaction() as session:
        made = subjects.create(
            session, SubjectKind.USER, name, owner=None, actor="controller", now=world.now
        )
        give(session, world, made.id, role, scope)


def give(session: Session, world: World, subject: str, role: str, scope: Scope) -> None:
    wanted = grants.Wanted(subject, role, scope)
    grants.grant(session, wanted, actor=None, now=world.now, binding_id=f"{subject} {role}")


def take(world: World, subject: str, role: str = "operator") -> None:
    with world.database.transaction() as session:
        session.delete(session.get_one(tables.RoleBinding, f"{subject} {role}"))


def narrow(world: World, subject: str, scope: Scope) -> None:
    take(world, subject)
    with world.database.transaction() as session:
        give(session, world, subject, "operator", scope)


def disable(world: World, subject: str, *, enable: bool = False) -> None:
    with world.database.transaction() as session:
        row = session.get_one(tables.Subject, subject)
        row.disabled_at = None if enable else world.now
        session.add(row)


@pytest.fixture
def people(world: World) -> World:
    """Have ann, eve and bob, who may roll out everywhere, and devices at Lyon and in Lima."""
    world.standing = standing
    world.runner = world.a_runner("controller")
    world.join("a", site="lyon")
    world.join("b", site="lima")
    for name in ("ann", "eve", "bob"):
        add(world, name)
    return world


def scheduled(
    world: World, by: str = ANN, target: Target | None = None, strategy: Strategy | None = None
) -> RolloutView:
    """Return a rollout of somebody that is to start in an hour."""
    plan = PlanRequest(MODEL, "1.0.0", ALIAS, target or Target(), 256)
    start_at = world.now + timedelta(hours=1)
    request = RolloutRequest(plan, start_at=start_at, strategy=strategy or Strategy())
    return world.service.create(request, by)


def come_due(world: World) -> None:
    world.wait(hours=1)
    world.run_due()


def assert_held_back(world: World, made: RolloutView, code: str, *said: str) -> None:
    """Check that it waits for a person, whole, and that each place says why."""
    view = world.service.get(made.id)
    assert (view.state, view.start_at, view.started_at) == (READY, None, None)
    assert view.abort is not None
    assert view.abort["held_back"]["code"] == code
    sentence = view.abort["held_back"]["message"]
    assert all(word in sentence for word in said)
    assert set(world.states(made.id).values()) == {ExecutionState.QUEUED}
    assert world.pushed == []
    (record,) = world.audited(Tag.ROLLOUT_HELD_BACK)
    assert (record["reason"], record["before"], record["after"]) == (code, "SCHEDULED", "READY")
    assert record["subject"] == f"rollout/{made.id}"
    with world.database.reading() as session:
        (why,) = from_rows.answers(session, "a", world.now)
        assert session.get_one(Rollout, made.id).due_at is None
    assert (why.code, why.rollout_id) == (ReasonCode.WAITING_START, made.id)
    assert sentence in why.message


def test_what_was_scheduled_starts_while_its_author_may(people: World) -> None:
    made = scheduled(people)
    people.service.edit(made.id, RolloutEdit(name="night"), EVE)
    come_due(people)
    assert people.state(made.id) == RolloutState.RUNNING
    assert people.audited(Tag.ROLLOUT_HELD_BACK) == []


def test_what_an_author_scheduled_who_is_disabled_does_not_start(people: World) -> None:
    made = scheduled(people)
    disable(people, ANN)
    come_due(people)
    assert_held_back(people, made, "AUTHOR_MAY_NOT", ANN, "rollouts:change")


def test_what_an_author_scheduled_who_was_demoted_does_not_start(people: World) -> None:
    made = scheduled(people)
    take(people, ANN)
    with people.database.transaction() as session:
        give(session, people, ANN, "viewer", EVERYWHERE)
    come_due(people)
    assert_held_back(people, made, "AUTHOR_MAY_NOT", ANN, "rollouts:change")


def test_what_an_author_scheduled_whose_scope_became_narrower_does_not_start(
    people: World,
) -> None:
    made = scheduled(people)
    narrow(people, ANN, LYON)
    come_due(people)
    assert_held_back(people, made, "AUTHOR_MAY_NOT", ANN)


@pytest.mark.parametrize("target", [Target({"site": "lyon"}), Target(devices=("a",))])
def test_what_an_author_scheduled_within_a_scope_left_to_them_starts(
    people: World, target: Target
) -> None:
    made = scheduled(people, target=target)
    narrow(people, ANN, LYON)
    come_due(people)
    assert people.state(made.id) == RolloutState.RUNNING


def test_what_goes_on_taking_in_devices_beyond_a_scope_left_does_not_start(people: World) -> None:
    strategy = Strategy(membership=Membership.CONTINUOUS)
    made = scheduled(people, target=Target(devices=("a",)), strategy=strategy)
    narrow(people, ANN, LYON)
    come_due(people)
    assert_held_back(people, made, "AUTHOR_MAY_NOT", ANN)


@pytest.mark.parametrize("how", [disable, take])
def test_what_an_editor_changed_last_who_may_not_any_more_does_not_start(
    people: World, how: object
) -> None:
    made = scheduled(people)
    people.service.edit(made.id, RolloutEdit(name="night"), EVE)
    (disable if how is disable else take)(people, EVE)
    come_due(people)
    assert_held_back(people, made, "AUTHOR_MAY_NOT", EVE)


def test_what_a_service_scheduled_whose_owner_is_disabled_does_not_start(people: World) -> None:
    with people.database.transaction() as session:
        ci = subjects.create(
            session, SubjectKind.SERVICE, "ci", owner=ANN, actor="controller", now=people.now
        ).id
        give(session, people, ci, "operator", EVERYWHERE)
    made = scheduled(people, by=ci)
    disable(people, ANN)
    come_due(people)
    assert_held_back(people, made, "AUTHOR_MAY_NOT", ci)


def test_an_emergency_does_not_start_whose_author_may_not_override_any_more(people: World) -> None:
    add(people, "zoe", "admin")
    made = scheduled(people, by=ZOE, strategy=Strategy(override="the pumps stand still"))
    take(people, ZOE, "admin")
    a_role = CustomRole(
        name="mover", permissions=["rollouts:change"], created_by=BOB, created_at=people.now
    )
    with people.database.transaction() as session:
        session.add(a_role)
        session.flush()
        give(session, people, ZOE, "mover", EVERYWHERE)
    come_due(people)
    assert_held_back(people, made, "AUTHOR_MAY_NOT", ZOE, "rollouts:override")


def test_a_person_starts_what_was_held_back_once_its_author_is_enabled_again(
    people: World,
) -> None:
    device = people.join("c")
    made = scheduled(people)
    disable(people, ANN)
    come_due(people)
    disable(people, ANN, enable=True)
    people.wait(days=1)
    device.heartbeat()
    people.run_due()
    assert people.state(made.id) == READY  # nothing by itself
    assert people.service.start(made.id, ANN).abort is None
    people.run_due()
    assert people.state(made.id) == RolloutState.RUNNING
    assert {name for name, _ in people.pushed} == {"c"}  # the others are away by now


def test_what_was_held_back_may_be_given_another_time(people: World) -> None:
    made = scheduled(people)
    disable(people, ANN)
    come_due(people)
    disable(people, ANN, enable=True)
    again = RolloutEdit(start_at=people.now + timedelta(hours=1))
    view = people.service.edit(made.id, again, EVE)
    assert (view.state, view.abort) == (SCHEDULED, None)
    come_due(people)
    assert people.state(made.id) == RolloutState.RUNNING


def test_somebody_else_stops_what_was_held_back(people: World) -> None:
    made = scheduled(people)
    disable(people, ANN)
    come_due(people)
    people.service.stop(made.id, EVE)
    people.run_due()
    assert people.state(made.id) == RolloutState.STOPPED


def asked(world: World) -> RolloutView:
    """Return a rollout of ann that bob approved; it is to start in an hour."""
    keys = [Approver(n, SigningKey(generate_private_pem()).public_pem) for n in ("bob", "eve")]
    world.policy = ApproverPolicy(1, keys, [GroupPolicy("lyon", "controller", 1)])
    with world.database.transaction() as session:
        session.get_one(Device, "a").group = "lyon"
    made = scheduled(world)
    assert made.state is RolloutState.WAITING_FOR_APPROVAL
    approve(world, made.id, BOB)
    assert world.state(made.id) == SCHEDULED
    return made


def approve(world: World, rollout_id: str, by: str) -> None:
    spec = world.service.approval(rollout_id).spec or ""
    world.service.approve(rollout_id, GivenApproval(canonical.sha256_hex(spec.encode())), by)


def test_what_an_approver_approved_who_is_disabled_is_approved_no_more(people: World) -> None:
    made = asked(people)
    disable(people, BOB)
    come_due(people)
    assert_held_back(people, made, "NOT_APPROVED", "approval anew")
    assert people.service.start(made.id, ANN).state is RolloutState.WAITING_FOR_APPROVAL
    approve(people, made.id, EVE)
    people.run_due()
    assert people.state(made.id) == RolloutState.RUNNING


def test_what_an_approver_approved_who_was_demoted_stays_approved(people: World) -> None:
    made = asked(people)
    take(people, BOB)
    come_due(people)
    assert people.state(made.id) == RolloutState.RUNNING


def test_an_approval_is_not_lost_with_what_its_author_may(people: World) -> None:
    made = asked(people)
    disable(people, ANN)
    come_due(people)
    assert_held_back(people, made, "AUTHOR_MAY_NOT", ANN)
    assert people.service.start(made.id, EVE).state is RolloutState.STARTING


def test_a_change_of_what_was_held_back_has_nothing_start_by_an_approval(people: World) -> None:
    made = asked(people)
    disable(people, ANN)
    come_due(people)
    assert people.service.edit(made.id, RolloutEdit(name="later"), EVE).state is READY
    assert people.service.start(made.id, EVE).state is RolloutState.WAITING_FOR_APPROVAL


@pytest.mark.parametrize("is_lost", [True, False])
def test_what_was_decided_before_its_author_changed_is_decided_again(
    people: World, *, is_lost: bool
) -> None:
    made = scheduled(people)
    disable(people, ANN, enable=is_lost)
    people.wait(hours=1)
    with people.book(made.id) as book:
        found = book.read(people.now)
        assert found is not None
        (decision,) = planner.decide(found, people.now)
        assert isinstance(decision, facts.StartRollout if is_lost else facts.HoldBack)
        disable(people, ANN, enable=not is_lost)
        book.carry_out(decision, people.now)
    assert people.state(made.id) == SCHEDULED
    people.run_due()
    assert people.state(made.id) == (READY if is_lost else RolloutState.RUNNING)


def test_the_planner_holds_back_what_something_speaks_against(people: World) -> None:
    made = scheduled(people)
    disable(people, ANN)
    people.wait(hours=1)
    with people.book(made.id) as book:
        found = book.read(people.now)
    assert found is not None
    assert found.objection is not None
    assert planner.decide(found, people.now) == [facts.HoldBack(found.objection)]
    assert planner.decide(replace(found, objection=None), people.now) == [facts.StartRollout()]
    early = people.now - timedelta(seconds=1)
    assert planner.decide(found, early) == []


def test_who_is_killed_while_it_is_held_back_leaves_it_whole(people: World) -> None:
    made = scheduled(people)
    disable(people, ANN)
    people.wait(hours=1)
    for statements in range(60):
        try:
            with people.killed_after(statements):
                people.run_due()
            break
        except KilledError:
            people.runner = people.a_runner("controller")
            records = len(people.audited(Tag.ROLLOUT_HELD_BACK))
            assert people.state(made.id) == (READY if records else SCHEDULED)
    else:
        pytest.fail("it never came to its end")
    assert_held_back(people, made, "AUTHOR_MAY_NOT", ANN)
