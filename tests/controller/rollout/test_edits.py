"""Changing a rollout as far as it has not started, over SQLite and PostgreSQL."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from simulators.controlled import SimDevice, World
from sprat_controller.errors import ConflictError, RequestError
from sprat_controller.rollout import signed_strategy, strategy_said
from sprat_controller.rollout.requests import GivenApproval, RolloutEdit, RolloutView
from sprat_controller.rollout.strategy import (
    ALL_AT_ONCE,
    AbortCriterion,
    Deadlines,
    DisruptionBudget,
    Group,
    Membership,
    Pace,
    Retries,
    Strategy,
    WindowSpec,
)
from sprat_controller.store.tables import Device, Rollout
from sprat_proto import approval, canonical
from sprat_proto.approval import Approver, ApproverPolicy, GroupPolicy
from sprat_proto.audit_events import Tag, actor_name
from sprat_proto.signing import SigningKey, generate_private_pem
from sprat_proto.states import ExecutionState, GroupState, RolloutState

NIGHT = WindowSpec(cron="0 2 * * *", duration_s=3600, zone="Europe/Paris")
STEPS = Strategy(groups=(Group(name="canary", devices=1), Group(name="rest")))


def a_fleet(world: World, count: int) -> dict[str, SimDevice]:
    return {name: world.join(name) for name in (f"d{number:02}" for number in range(count))}


def edit(world: World, view: RolloutView, **said: Any) -> RolloutView:
    return world.service.edit(view.id, RolloutEdit(strategy=said), "token:bob")


def said(strategy: Strategy) -> dict[str, Any]:
    return strategy_said.said(strategy)


def placed(world: World, view: RolloutView) -> list[tuple[str, int]]:
    """Return the devices in order of starting, each with its group."""
    found = sorted(world.service.executions(view.id), key=lambda one: one.position)
    assert len({one.position for one in found}) == len(found)
    return [(one.device_id, one.group) for one in found]


def held(view: RolloutView) -> list[tuple[str, GroupState, int]]:
    return [(one.name, one.state, one.devices) for one in view.groups]


def paused(world: World, strategy: Strategy, count: int) -> RolloutView:
    """Return a rollout whose first group is through and the second one has not begun."""
    fleet = a_fleet(world, count)
    view = world.create(strategy=strategy)
    world.run_due()
    ((name, _),) = world.pushed
    world.service.pause(view.id, "token:ann")
    fleet[name].hello()
    fleet[name].sync()
    world.run_due()
    return world.service.get(view.id)


def test_before_the_start_the_whole_strategy_may_change_and_groups_are_cut_anew(
    world: World,
) -> None:
    a_fleet(world, 20)
    other = Strategy(
        groups=(Group(name="few", percent=12.5, soak_s=60), Group(percent=50), Group()),
        abort=(AbortCriterion(percent=5),),
        budgets=(DisruptionBudget(max_unavailable=2),),
        deadlines=Deadlines(probe_s=10),
        retries=Retries(attempts=2),
        pace=Pace(max_in_progress=3),
        activate_window=NIGHT,
        priority=4,
    )
    wanted = world.create(start=False, strategy=other)
    view = world.create(start=False, strategy=STEPS)
    edited = edit(world, view, **said(other))
    assert edited.strategy == other
    assert (edited.max_in_progress, edited.revision) == (3, view.revision + 1)
    assert held(edited) == held(wanted)
    assert [one for _, _, one in held(edited)] == [3, 10, 7]
    # As if it had been created so.
    assert placed(world, view) == placed(world, wanted)
    record = world.audited(Tag.ROLLOUT_EDITED)[-1]
    assert "'probe_s': 10" in record["detail"]["strategy"]


def test_each_word_that_is_not_said_stays(world: World) -> None:
    world.join("a")
    before = Strategy(groups=STEPS.groups, abort=(AbortCriterion(),), retries=Retries(attempts=5))
    view = world.create(start=False, strategy=before)
    edited = edit(world, view, abort=[], pace={"starts_per_minute": 5})
    assert edited.strategy == Strategy(
        groups=STEPS.groups, retries=Retries(attempts=5), pace=Pace(starts_per_minute=5)
    )
    both = RolloutEdit(max_in_progress=2, strategy={"retries": {"attempts": 1}})
    edited = world.service.edit(view.id, both, "token:bob")
    assert edited.strategy.pace == Pace(starts_per_minute=5, max_in_progress=2)
    assert edited.strategy.retries == Retries(attempts=1)


def test_a_time_to_start_at_may_be_given_and_moved(world: World) -> None:
    world.join("a")
    view = world.create(start=False)
    assert view.state is RolloutState.READY
    first, second = world.now + timedelta(hours=1), world.now + timedelta(hours=2)
    given = world.service.edit(view.id, RolloutEdit(start_at=first), "token:bob")
    assert (given.state, given.start_at) == (RolloutState.SCHEDULED, first)
    moved = world.service.edit(view.id, RolloutEdit(start_at=second), "token:bob")
    assert (moved.state, moved.start_at) == (RolloutState.SCHEDULED, second)
    world.run_due()
    world.wait(minutes=90)
    world.run_due()
    assert world.state(view.id) == RolloutState.SCHEDULED
    world.wait(minutes=31)
    world.run_due()
    assert world.state(view.id) == RolloutState.RUNNING


def test_what_cannot_be_is_refused_and_nothing_changes(world: World) -> None:
    world.join("a")
    view = world.create(start=False, strategy=STEPS)
    never = {"cron": "0 0 30 2 *", "duration_s": 60}
    for wrong, message in (
        ({"groups": [{"devices": 1}]}, "expected the last group to take all that is left"),
        ({"pace": {"speed": 1}}, "speed"),
        ({"colour": "red"}, "colour"),
        ({"activate_window": never}, "which never does"),
        ({"retries": {"attempts": 99}}, r"strategy\.retries\.attempts"),
    ):
        with pytest.raises(RequestError, match=message):
            edit(world, view, **wrong)
    with pytest.raises(RequestError, match="found nothing"):
        edit(world, view)
    naive = RolloutEdit(start_at=world.now.replace(tzinfo=None))
    with pytest.raises(RequestError, match="a moment with a time zone"):
        world.service.edit(view.id, naive, "token:bob")
    assert world.service.get(view.id) == view


def test_who_cannot_be_told_windows_gets_nothing_any_more(world: World) -> None:
    world.join("new")
    world.join("old").hello(capability=4)
    view = world.create(start=False)
    assert set(world.states(view.id).values()) == {ExecutionState.QUEUED}
    edit(world, view, activate_window=said(Strategy(activate_window=NIGHT))["activate_window"])
    assert world.states(view.id) == {"new": ExecutionState.QUEUED, "old": ExecutionState.REJECTED}
    (old,) = [one for one in world.service.executions(view.id) if one.device_id == "old"]
    assert (old.reason or {})["code"] == "AGENT_TOO_OLD"


def test_an_emergency_that_comes_by_an_edit_stands_in_the_audit_log(world: World) -> None:
    world.join("a")
    view = world.create(start=False)
    edit(world, view, override="it leaks secrets")
    edit(world, view, priority=1)
    (record,) = world.audited(Tag.ROLLOUT_OVERRIDDEN)
    assert (actor_name(record["actor"]), record["detail"]["reason"]) == (
        "token:bob",
        "it leaks secrets",
    )


def test_what_was_approved_is_void_and_the_new_strategy_is_what_is_signed_next(
    world: World,
) -> None:
    key = SigningKey(generate_private_pem())
    world.policy = ApproverPolicy(
        schema=1,
        approvers=[Approver("eve", key.public_pem)],
        groups=[GroupPolicy("lyon", "device-enforced", 1)],
    )
    world.join("a")
    with world.database.transaction() as session:
        device = session.get(Device, "a")
        assert device is not None
        device.group = "lyon"
    view = world.create(strategy=STEPS)
    before = world.service.approval(view.id)
    after_edit = edit(world, view, groups=[{"name": "all"}])
    after = world.service.approval(view.id)
    assert after_edit.state is RolloutState.WAITING_FOR_APPROVAL
    assert held(after_edit) == [("all", GroupState.SCHEDULED, 1)]
    assert after.approved_by == ()
    assert before.spec != after.spec
    spec = approval.decode((after.spec or "").encode())
    assert signed_strategy.read(spec, after.strategy) == after_edit.strategy


def test_the_rest_of_the_ladder_of_a_paused_rollout_is_cut_anew(world: World) -> None:
    view = paused(world, STEPS, 12)
    before = placed(world, view)
    assert [one.state for one in view.groups] == [GroupState.RUNNING, GroupState.SCHEDULED]
    groups = [
        said(STEPS)["groups"][0],
        {"name": "quarter", "percent": 25},
        {"name": "five", "devices": 5, "waits_for_promotion": True},
        {"name": "rest"},
    ]
    edited = edit(world, view, groups=groups)
    assert edited.state is RolloutState.PAUSED
    assert held(edited)[1:] == [
        ("quarter", GroupState.SCHEDULED, 3),  # of all 12
        ("five", GroupState.SCHEDULED, 5),
        ("rest", GroupState.SCHEDULED, 3),
    ]
    after = placed(world, view)
    assert after[0] == before[0]
    assert Counter(group for _, group in after) == {0: 1, 1: 3, 2: 5, 3: 3}
    assert [group for _, group in after] == sorted(group for _, group in after)
    world.pushed.clear()
    world.service.resume(view.id, "token:ann")
    world.run_due()
    assert {name for name, _ in world.pushed} == {name for name, group in after if group == 1}
    assert world.service.get(view.id).groups[2].state is GroupState.SCHEDULED


def test_groups_of_a_paused_rollout_may_have_filters(world: World) -> None:
    view = paused(world, STEPS, 3)
    second, third = (name for name, _ in placed(world, view)[1:])
    groups = [said(STEPS)["groups"][0], {"filter": f"device = {third}"}, {}]
    edit(world, view, groups=groups)
    assert placed(world, view)[1:] == [(third, 1), (second, 2)]
    # One that left the fleet comes last, where it is ended when its turn comes.
    world.remove(third)
    edit(world, view, groups=[*groups[:2], {"name": "last"}])
    assert placed(world, view)[1:] == [(second, 2), (third, 2)]


def test_pace_and_criteria_of_a_paused_rollout_may_change_and_count(world: World) -> None:
    view = paused(world, STEPS, 4)
    edited = edit(
        world,
        view,
        pace={"max_in_progress": 1},
        abort=[{"percent": 1}],
        deadlines={"execution_s": 60},
        retries={"attempts": 1},
        budgets=[{"max_unavailable": 1}],
    )
    assert (edited.max_in_progress, edited.execution_timeout_s) == (1, 60)
    world.pushed.clear()
    world.service.resume(view.id, "token:ann")
    world.run_due()
    assert len(world.pushed) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"groups": [{"name": "canary", "devices": 2}, {}]}, r"its group 0 \(canary\) as it is"),
        (
            {"groups": [{"name": "canary", "devices": 1, "soak_s": 5}, {}]},
            r"its group 0 \(canary\) as it is, which has started, found another one",
        ),
        ({"groups": [{"percent": 0}]}, r"its group 0 \(canary\) as it is"),
        ({"activate_window": {"cron": "0 2 * * *", "duration_s": 60}}, "found activate_window"),
        ({"ends_at": 1 << 33}, "found ends_at"),
        ({"membership": "CONTINUOUS"}, "found membership"),
        ({"priority": 1}, "found priority"),
        ({"override": "it leaks"}, "found override"),
    ],
)
def test_what_has_started_is_not_changed(world: World, words: dict[str, Any], message: str) -> None:
    view = paused(world, STEPS, 3)
    with pytest.raises(ConflictError, match=message) as refused:
        edit(world, view, **words)
    assert refused.value.code == "rollout_started"
    with pytest.raises(ConflictError, match="no other time to start at"):
        world.service.edit(view.id, RolloutEdit(start_at=world.now), "token:bob")
    assert world.service.get(view.id) == view


def test_a_rollout_that_runs_is_paused_first_and_one_whose_groups_all_run_has_no_other_ones(
    world: World,
) -> None:
    world.join("a")
    view = world.create(strategy=Strategy(groups=(Group(percent=100),)))
    world.run_due()
    with pytest.raises(ConflictError, match="SCHEDULED, PAUSED to edit it; now possible: pause"):
        edit(world, view, abort=[{}])
    world.service.pause(view.id, "token:ann")
    assert edit(world, view, abort=[{}]).strategy.abort == (AbortCriterion(),)
    with pytest.raises(ConflictError, match="since all of them have started"):
        edit(world, view, groups=[{"percent": 100}, {}])


def test_what_was_approved_and_has_started_goes_on_as_it_was_approved(world: World) -> None:
    world.policy = ApproverPolicy(
        schema=1, approvers=[], groups=[GroupPolicy("lyon", "controller", 1)]
    )
    world.join("a")
    with world.database.transaction() as session:
        device = session.get(Device, "a")
        assert device is not None
        device.group = "lyon"
    view = world.create(strategy=STEPS)
    shown = world.service.approval(view.id).spec or ""
    sha256 = canonical.sha256_hex(shown.encode())
    world.service.approve(view.id, GivenApproval(sha256), "token:eve")
    world.run_due()
    world.service.pause(view.id, "token:ann")
    with pytest.raises(ConflictError, match="has started as it was approved") as refused:
        edit(world, view, abort=[{}])
    assert refused.value.code == "rollout_approved"
    named = world.service.edit(view.id, RolloutEdit(name="spring"), "token:bob")
    assert (named.name, named.strategy) == ("spring", STEPS)
    assert world.service.approval(view.id).spec == shown


def test_what_counted_before_a_resume_is_forgotten_of_groups_that_are_cut_anew(
    world: World,
) -> None:
    view = paused(world, STEPS, 3)
    since = {"0": {"succeeded": 1}, "1": {"canceled": 1}}
    with world.database.transaction() as session:
        row = session.get(Rollout, view.id)
        assert row is not None
        row.abort = {"since": since}
        session.add(row)
    edit(world, view, groups=[*said(STEPS)["groups"][:1], {"devices": 1}, {}])
    assert (world.service.get(view.id).abort or {})["since"] == {"0": {"succeeded": 1}}


def test_only_what_was_looked_at_is_changed(world: World) -> None:
    world.join("a")
    view = world.create(start=False)
    change = RolloutEdit(strategy={"priority": 2})
    world.service.edit(view.id, change, "token:bob", expected_revision=view.revision)
    with pytest.raises(ConflictError, match="look again"):
        world.service.edit(view.id, change, "token:bob", expected_revision=view.revision)


def test_a_continuous_rollout_takes_newcomers_by_its_new_groups(world: World) -> None:
    strategy = Strategy(groups=STEPS.groups, membership=Membership.CONTINUOUS)
    view = paused(world, strategy, 3)
    edit(world, view, groups=[*said(STEPS)["groups"][:1], {"devices": 4}, {}])
    world.join("late")
    world.service.resume(view.id, "token:ann")
    world.wait(minutes=10)
    world.run_due()
    assert dict(placed(world, view))["late"] in {1, 2}


def test_all_at_once_is_what_a_rollout_becomes_by_the_default_groups(world: World) -> None:
    a_fleet(world, 3)
    view = world.create(start=False, strategy=STEPS)
    edited = edit(world, view, groups=[{}])
    assert edited.strategy == ALL_AT_ONCE
    assert held(edited) == [("0", GroupState.SCHEDULED, 3)]
