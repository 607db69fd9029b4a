"""T36 of the adversarial tests at the controller, and what approved rollouts give to plans."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from msgspec import UnsetType
from simulators.controlled import BIG, SimDevice, World
from simulators.plain_signer import read_plan
from sprat_controller.errors import ConflictError, DeniedError, RefusedError, RequestError
from sprat_controller.rollout import approvals, frozen_strategy, signed_strategy
from sprat_controller.rollout.requests import (
    ApprovalView,
    ExecutionView,
    GivenApproval,
    RolloutEdit,
    RolloutView,
)
from sprat_controller.rollout.strategy import (
    ALL_AT_ONCE,
    AbortCriterion,
    Group,
    Membership,
    Retries,
    Strategy,
    WindowSpec,
)
from sprat_controller.store.tables import Device, Rollout
from sprat_proto import approval, canonical
from sprat_proto.approval import Approver, ApproverPolicy, Change, GroupPolicy, why_not_approved
from sprat_proto.assignment import Assignment, ServingTerms, Windows
from sprat_proto.audit_events import Tag, actor_name
from sprat_proto.capability import SIGNED_STRATEGY
from sprat_proto.policy import FitPolicy
from sprat_proto.signing import SigningKey, generate_private_pem
from sprat_proto.states import ExecutionState, RolloutState

# "ann" creates all rollouts of `World`, as "token:ann".
KEYS = {name: SigningKey(generate_private_pem()) for name in ("ann", "bob", "eve", "zoe")}
WAITING = RolloutState.WAITING_FOR_APPROVAL


def policy(kind: Any, threshold: int = 2, *names: str) -> ApproverPolicy:
    listed = names or ("ann", "bob", "eve")
    return ApproverPolicy(
        schema=1,
        approvers=[Approver(name, KEYS[name].public_pem) for name in listed],
        groups=[GroupPolicy("lyon", kind, threshold)],
    )


def fleet(world: World, kind: Any = "device-enforced", threshold: int = 2) -> RolloutView:
    """Return a rollout that was started, to a device of a group that asks for approvals."""
    world.policy = policy(kind, threshold)
    for name, group in (("a", "lyon"), ("b", "default")):
        world.join(name)
        with world.database.transaction() as session:
            device = session.get(Device, name)
            assert device is not None
            device.group = group
    return world.create()


def sign(world: World, rollout_id: str, key: str = "") -> GivenApproval:
    spec = world.service.approval(rollout_id).spec
    assert spec is not None
    sha256 = canonical.sha256_hex(spec.encode())
    if not key:
        return GivenApproval(sha256)
    envelope = KEYS[key].sign(spec.encode(), approval.PAYLOAD_TYPE).decode()
    return GivenApproval(sha256, envelope)


def approve(world: World, rollout_id: str, name: str, *, keyless: bool = False) -> ApprovalView:
    given = sign(world, rollout_id, "" if keyless else name)
    return world.service.approve(rollout_id, given, f"token:{name}")


def test_a_started_rollout_is_frozen_and_waits(world: World) -> None:
    view = fleet(world)
    assert view.state is WAITING
    world.run_due()
    assert world.state(view.id) == WAITING
    assert world.pushed == []
    found = world.service.approval(view.id)
    assert found.missing == ("2 signatures for the group lyon",)
    spec = approval.decode((found.spec or "").encode())
    # A device may refuse the variant that was chosen for it: any may follow.
    every = sorted(one["digest"] for one in world.first_execution(view.id).verdicts)
    assert (spec.rollout_id, spec.alias, spec.digests) == (view.id, "assistant", every)
    assert (spec.groups, spec.context, spec.requested_by) == (["default", "lyon"], 256, "ann")
    assert spec.requester_key_id == KEYS["ann"].key_id
    assert spec.not_after == int((world.now + approvals.APPROVAL_LIFE).timestamp())


def test_enough_signatures_let_it_run_and_its_envelope_satisfies_a_device(world: World) -> None:
    view = fleet(world)
    assert approve(world, view.id, "bob").missing == ("1 signature for the group lyon",)
    assert world.state(view.id) == WAITING
    after = approve(world, view.id, "eve")
    assert (after.state, after.missing) == (RolloutState.STARTING, ())
    assert after.approved_by == ("token:bob (key of bob)", "token:eve (key of eve)")
    world.run_due()
    assert {one for one, _ in world.pushed} == {"a", "b"}
    carried = [read_plan(message.assignment).approvals for _, message in world.pushed]
    digest = world.first_execution(view.id).digest or ""
    with world.database.reading() as session:
        envelopes = approvals.envelopes(session, {view.id, "unknown"})
    change = [Change("assistant", digest, 256)]
    now = int(world.now.timestamp())
    assert why_not_approved(world.policy, "lyon", change, envelopes, now) is None
    assert carried == [envelopes, envelopes]
    assert len(envelopes) == 1
    assert len(envelopes[0]) <= 1024


def test_a_rollout_to_groups_that_ask_for_nothing_starts_at_once(world: World) -> None:
    fleet(world)
    world.policy = policy("none")
    assert world.create().state is RolloutState.STARTING
    with world.database.reading() as session:
        assert approvals.envelopes(session, set()) == []


def test_another_operators_word_is_enough_where_only_the_controller_asks(world: World) -> None:
    view = fleet(world, "controller", 1)
    assert approve(world, view.id, "bob", keyless=True).state is RolloutState.STARTING
    with world.database.reading() as session:
        assert approvals.envelopes(session, {view.id}) == []


def test_one_person_counts_once_however_often_they_approve(world: World) -> None:
    view = fleet(world, "controller", 2)
    for _ in range(2):
        found = approve(world, view.id, "bob", keyless=True)
        assert found.missing == ("1 approval for the group lyon",)


def test_t36_a_creator_does_not_approve_their_own_rollout(world: World) -> None:
    view = fleet(world)
    for keyless in (True, False):
        with pytest.raises(DeniedError, match="token:ann asked for the rollout"):
            approve(world, view.id, "ann", keyless=keyless)


def test_t36_a_creators_key_does_not_count_through_another_token(world: World) -> None:
    view = fleet(world)
    with pytest.raises(DeniedError, match="the approver ann asked for"):
        world.service.approve(view.id, sign(world, view.id, "ann"), "token:ann-2")


def test_t36_one_key_does_not_count_twice_through_two_tokens(world: World) -> None:
    view = fleet(world)
    approve(world, view.id, "bob")
    with pytest.raises(ConflictError, match="of bob approved it already, through token:bob"):
        world.service.approve(view.id, sign(world, view.id, "bob"), "token:bob-2")
    assert world.state(view.id) == WAITING


def test_t36_an_edit_voids_approvals_and_its_author_cannot_approve(world: World) -> None:
    view = fleet(world)
    approve(world, view.id, "eve")
    old = sign(world, view.id, "bob")
    edited = world.service.edit(view.id, RolloutEdit(max_in_progress=7), "token:bob")
    assert (edited.state, edited.max_in_progress) == (WAITING, 7)
    found = world.service.approval(view.id)
    assert found.approved_by == ()
    assert approval.decode((found.spec or "").encode()).max_in_progress == 7
    with pytest.raises(ConflictError, match="was changed since you looked at it"):
        world.service.approve(view.id, old, "token:zoe")
    for actor in ("token:bob", "token:bob-2"):
        with pytest.raises(DeniedError):
            world.service.approve(view.id, sign(world, view.id, "bob"), actor)
    assert approve(world, view.id, "eve").missing == ("1 signature for the group lyon",)


def test_an_edit_of_an_approved_rollout_that_waits_for_its_time_voids_approvals(
    world: World,
) -> None:
    fleet(world, "controller", 1)
    view = world.create(start=False, start_at=world.now + timedelta(hours=1))
    assert view.state is WAITING
    assert approve(world, view.id, "bob", keyless=True).state is RolloutState.SCHEDULED
    edited = world.service.edit(view.id, RolloutEdit(execution_timeout_s=60), "token:ann")
    assert edited.state is WAITING
    world.wait(hours=2)
    world.run_due()
    assert world.state(view.id) == WAITING
    approve(world, view.id, "bob", keyless=True)
    world.run_due()
    assert world.state(view.id) == RolloutState.RUNNING


def test_what_was_approved_and_is_scheduled_may_be_started_now(world: World) -> None:
    fleet(world, "controller", 1)
    view = world.create(start=False, start_at=world.now + timedelta(hours=1))
    approve(world, view.id, "bob", keyless=True)
    assert world.service.start(view.id, "token:ann").state is RolloutState.STARTING


def test_an_edit_of_what_was_not_submitted_asks_nobody(world: World) -> None:
    fleet(world)
    view = world.create(start=False)
    edited = world.service.edit(view.id, RolloutEdit(name="spring"), "token:bob")
    assert (edited.state, edited.name) == (RolloutState.READY, "spring")
    assert world.audited(Tag.ROLLOUT_EDITED)[-1]["detail"]["name"] == "spring"


def test_what_runs_is_not_edited(world: World) -> None:
    fleet(world, "none")
    view = world.create()
    with pytest.raises(ConflictError, match="to edit it"):
        world.service.edit(view.id, RolloutEdit(name="x"), "token:bob")
    for wrong in (RolloutEdit(), RolloutEdit(max_in_progress=-1), RolloutEdit(None, None, -5)):
        with pytest.raises(RequestError):
            world.service.edit(view.id, wrong, "token:bob")


def test_a_second_start_neither_starts_nor_voids(world: World) -> None:
    view = fleet(world)
    approve(world, view.id, "bob")
    with pytest.raises(ConflictError, match="now possible: edit, approve, deny, stop"):
        world.service.start(view.id, "token:ann")
    assert len(world.service.approval(view.id).approved_by) == 1


def test_only_a_listed_approvers_signature_over_this_specification_counts(world: World) -> None:
    view, other = fleet(world), world.create()
    good = sign(world, view.id, "bob")
    cases = [
        GivenApproval(good.spec_sha256, sign(world, view.id, "zoe").envelope),
        GivenApproval(good.spec_sha256, sign(world, other.id, "bob").envelope),
        GivenApproval(good.spec_sha256, "{}"),
        GivenApproval(good.spec_sha256),  # devices ask for a signature
    ]
    for wrong in cases:
        with pytest.raises(RefusedError):
            world.service.approve(view.id, wrong, "token:bob")
    assert world.service.approval(view.id).approved_by == ()


def test_an_approver_who_was_taken_off_the_list_no_longer_counts(world: World) -> None:
    view = fleet(world)
    approve(world, view.id, "bob")
    world.policy = policy("device-enforced", 2, "ann", "eve", "zoe")
    assert approve(world, view.id, "eve").missing == ("1 signature for the group lyon",)
    assert approve(world, view.id, "zoe").state is RolloutState.STARTING


def test_a_denial_ends_it_and_cancels_its_executions(world: World) -> None:
    view = fleet(world)
    denied = world.service.deny(view.id, "not on a Friday", "token:bob")
    assert denied.state is RolloutState.APPROVAL_DENIED
    world.run_due()
    executions = world.service.executions(view.id)
    assert {one.state for one in executions} == {ExecutionState.CANCELED}
    assert {(one.reason or {})["code"] for one in executions} == {"NOT_APPROVED"}
    assert world.audited(Tag.ROLLOUT_DENIED)[-1]["detail"]["reason"] == "not on a Friday"
    with pytest.raises(ConflictError):
        approve(world, view.id, "eve")


def test_how_a_model_is_served_is_frozen_and_satisfies_a_device(world: World) -> None:
    fleet(world, threshold=1)
    terms = ServingTerms(slots=2, kv_type="q8_0", is_pinned=True)
    view = world.create(terms=terms)
    spec = approval.decode((world.service.approval(view.id).spec or "").encode())
    assert spec.serving == terms
    approve(world, view.id, "bob")
    world.run_due()
    plan = next(read_plan(one.assignment) for name, one in world.pushed if name == "a")
    (model,) = plan.models
    change = Change(model.alias, model.digest, plan.policy.context, terms=model.terms)
    now = int(world.now.timestamp())
    assert why_not_approved(world.policy, "lyon", [change], plan.approvals, now) is None
    other = Change(model.alias, model.digest, plan.policy.context)
    assert why_not_approved(world.policy, "lyon", [other], plan.approvals, now)


def test_a_policy_is_frozen_and_satisfies_a_device(world: World) -> None:
    fleet(world, threshold=1)
    asked = FitPolicy(max_memory_bytes=1 << 40)
    view = world.create(policy=asked)
    spec = approval.decode((world.service.approval(view.id).spec or "").encode())
    assert spec.policy == asked
    approve(world, view.id, "bob")
    world.run_due()
    plan = next(read_plan(one.assignment) for name, one in world.pushed if name == "a")
    (model,) = plan.models
    now = int(world.now.timestamp())
    for policy, is_covered in ((model.fit_policy, True), (None, False), (FitPolicy(), False)):
        change = Change(model.alias, model.digest, plan.policy.context, policy=policy)
        refusal = why_not_approved(world.policy, "lyon", [change], plan.approvals, now)
        assert (refusal is None) is is_covered


NIGHT = WindowSpec(cron="0 2 * * *", duration_s=3600, zone="Europe/Paris")
WINDOWS = [
    Strategy(activate_window=NIGHT),
    Strategy(download_window=NIGHT, activate_window=NIGHT, ends_at=1 << 33),
    Strategy(ends_at=1 << 33),
    Strategy(activate_window=NIGHT, override="it leaks secrets"),
    ALL_AT_ONCE,
]


@pytest.mark.parametrize("strategy", WINDOWS)
def test_the_windows_that_are_approved_are_the_ones_that_are_sent(
    world: World, strategy: Strategy
) -> None:
    fleet(world, threshold=1)
    view = world.create(strategy=strategy)
    spec = approval.decode((world.service.approval(view.id).spec or "").encode())
    approve(world, view.id, "bob")
    world.run_due()
    (model,) = plan_of(world, "a").models
    assert spelled(model.windows) == spelled(spec.windows)
    assert refusal_of(world, model.times) is None
    assert refusal_of(world, Windows(deadline=7)) is not None


def test_a_way_back_is_approved_with_what_it_goes_back_to(world: World) -> None:
    """It says that it is one, keeps the windows of what it returns to, and needs nobody anew."""
    fleet(world, threshold=1)
    device = SimDevice(world, "a", BIG)
    first = world.create(strategy=Strategy(activate_window=NIGHT))
    approve(world, first.id, "bob")
    world.run_due()
    device.hello()
    device.sync()
    world.publish("2.0.0", counter=2)
    second = world.create("2.0.0", strategy=Strategy(download_window=NIGHT))
    approve(world, second.id, "bob")
    world.run_due()
    world.service.stop(second.id, "token:ann")
    world.run_due()
    (model,) = plan_of(world, "a").models
    assert model.release == "1.0.0"
    assert model.times.is_way_back
    assert model.times.activate is not None
    assert model.times.download is None
    assert refusal_of(world, model.times) is None


CAREFUL = Strategy(
    groups=(Group(devices=1, soak_s=600), Group()),
    abort=(AbortCriterion(percent=5),),
    activate_window=NIGHT,
)


def test_the_whole_strategy_is_bound_and_satisfies_a_device(world: World) -> None:
    fleet(world, threshold=1)
    view = world.create(strategy=CAREFUL)
    found = world.service.approval(view.id)
    spec = approval.decode((found.spec or "").encode())
    assert spec.strategy_sha256 == canonical.sha256_hex(found.strategy.encode())
    assert signed_strategy.read(spec, found.strategy) == CAREFUL
    approve(world, view.id, "bob")
    world.run_due()
    devices = {name for name, _ in world.pushed}
    assert len(devices) == 1
    (model,) = plan_of(world, devices.pop()).models
    (envelope,) = plan_of(world, world.pushed[-1][0]).approvals
    change = Change(model.alias, model.digest, 256, windows=model.times)
    now = int(world.now.timestamp())
    assert why_not_approved(world.policy, "lyon", [change], [envelope], now) is None
    assert approval.signed_by(world.policy, envelope) == (spec, ("bob",))


def test_a_strategy_that_was_tampered_with_is_not_approved(world: World) -> None:
    """Whoever can write the rows, but has no approver's key, gets no other strategy approved."""
    fleet(world, threshold=1)
    view = world.create(strategy=CAREFUL)
    given = sign(world, view.id, "bob")
    tamper(world, view.id, Strategy(activate_window=NIGHT))
    with pytest.raises(ConflictError, match="expected the strategy's digest none") as refused:
        world.service.approve(view.id, given, "token:bob")
    assert refused.value.code == "strategy_not_bound"
    assert world.service.approval(view.id).approved_by == ()
    # An edit freezes it as it is, which is what the next approver then sees.
    world.service.edit(view.id, RolloutEdit(name="x"), "token:ann")
    assert approve(world, view.id, "bob").state is RolloutState.STARTING


def test_what_was_approved_with_another_strategy_is_not_started_by_it(world: World) -> None:
    fleet(world, "controller", 1)
    later = world.now + timedelta(hours=1)
    view = world.create(start=False, start_at=later, strategy=CAREFUL)
    assert approve(world, view.id, "bob", keyless=True).state is RolloutState.SCHEDULED
    tamper(world, view.id, ALL_AT_ONCE)
    assert world.service.start(view.id, "token:ann").state is WAITING
    assert world.service.approval(view.id).approved_by == ()


def tamper(world: World, rollout_id: str, strategy: Strategy) -> None:
    with world.database.transaction() as session:
        row = session.get(Rollout, rollout_id)
        assert row is not None
        row.strategy = frozen_strategy.to_json(strategy)
        session.add(row)


def test_an_agent_that_cannot_read_such_an_approval_gets_nothing_that_needs_one(
    world: World,
) -> None:
    """By its group: `a` checks approvals itself, `b` does not."""
    fleet(world, threshold=1)
    with world.database.transaction() as session:
        for name in ("a", "b"):
            device = session.get(Device, name)
            assert device is not None
            device.capability = SIGNED_STRATEGY - 1
    clear = {one.device_id: one.state for one in executions(world, ALL_AT_ONCE)}
    assert clear == {"a": ExecutionState.QUEUED, "b": ExecutionState.QUEUED}
    old, other = executions(world, Strategy(retries=Retries()))
    assert (old.state, (old.reason or {})["code"]) == (ExecutionState.REJECTED, "AGENT_TOO_OLD")
    assert other.state is ExecutionState.QUEUED


def test_who_joins_later_must_be_able_to_read_the_approval_too(world: World) -> None:
    fleet(world, threshold=1)
    view = world.create(strategy=Strategy(membership=Membership.CONTINUOUS))
    approve(world, view.id, "bob")
    world.run_due()
    for name, group in (("c", "lyon"), ("d", "default")):
        world.join(name)
        with world.database.transaction() as session:
            device = session.get(Device, name)
            assert device is not None
            device.group, device.capability = group, SIGNED_STRATEGY - 1
    world.wait(minutes=10)
    world.run_due()
    found = {one.device_id: one for one in world.service.executions(view.id)}
    assert found["d"].state is ExecutionState.IN_PROGRESS
    assert (found["c"].reason or {})["code"] == "AGENT_TOO_OLD"


def executions(world: World, strategy: Strategy) -> list[ExecutionView]:
    view = world.create(start=False, strategy=strategy)
    return sorted(world.service.executions(view.id), key=lambda one: one.device_id)


def spelled(windows: Windows | UnsetType) -> bytes:
    """Return the windows as they are signed, and sent."""
    return b"" if isinstance(windows, UnsetType) else canonical.encode(windows)


def plan_of(world: World, device: str) -> Assignment:
    """Return the newest plan that was sent to a device."""
    sent = [read_plan(one.assignment) for name, one in world.pushed if name == device]
    return sent[-1]


def refusal_of(world: World, windows: Windows) -> str | None:
    """Return why the device would refuse its newest plan, if that said these windows."""
    plan = plan_of(world, "a")
    (model,) = plan.models
    change = Change(model.alias, model.digest, plan.policy.context, windows=windows)
    now = int(world.now.timestamp())
    return why_not_approved(world.policy, "lyon", [change], plan.approvals, now)


def test_stopping_needs_nobody_else(world: World) -> None:
    view = fleet(world)
    world.service.stop(view.id, "token:ann")
    world.run_due()
    assert world.state(view.id) == RolloutState.STOPPED


def test_every_step_is_in_the_audit_log_with_what_was_approved(world: World) -> None:
    view = fleet(world)
    approve(world, view.id, "bob")
    approve(world, view.id, "eve")
    assert actor_name(world.audited(Tag.ROLLOUT_SUBMITTED)[-1]["actor"]) == "token:ann"
    spec = canonical.sha256_hex((world.service.approval(view.id).spec or "").encode())
    assert [one["detail"] for one in world.audited(Tag.ROLLOUT_APPROVED)] == [
        {"spec": spec, "key": KEYS[name].key_id} for name in ("bob", "eve")
    ]
    assert [one["detail"]["to"] for one in world.audited(Tag.ROLLOUT_ADMITTED)] == [
        "READY",
        "STARTING",
    ]


def test_a_plan_cannot_name_more_groups_than_an_approval(world: World) -> None:
    fleet(world)
    world.policy = policy("controller", 1)
    with world.database.transaction() as session:
        for number in range(approvals.MAX_GROUPS):
            name = f"d{number}"
            session.add(
                Device(
                    id=name,
                    state="REGISTERED",
                    key_sha256="a" * 64,
                    enrolled_at=world.now,
                    group=f"g{number}",
                    profile=_profile(session.get(Device, "a")),
                )
            )
    with pytest.raises(RequestError, match="at most 64 groups"):
        world.create()


def _profile(device: Device | None) -> Any:
    assert device is not None
    return device.profile
