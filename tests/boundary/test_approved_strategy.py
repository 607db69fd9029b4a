"""What an approver signs with the real command is what the device checks, strategy and all.

The specification is the controller's, the signature the command's, the judgement the device's.
"""

from __future__ import annotations

import json
from collections.abc import Generator

import msgspec
import pytest
from simulators.controlled import World
from simulators.plain_signer import read_plan
from sprat_agent.sync.changes import changes
from sprat_controller.cli import approving
from sprat_controller.cli.exits import CliError
from sprat_controller.rollout.requests import GivenApproval
from sprat_controller.rollout.strategy import (
    AbortCriterion,
    Gate,
    Group,
    Membership,
    Strategy,
    WindowSpec,
)
from sprat_controller.store.tables import Device
from sprat_proto import approval, canonical, signing
from sprat_proto.approval import Approver, ApproverPolicy, GroupPolicy, RolloutSpec
from sprat_proto.assignment import AssignedModel, Assignment
from sprat_proto.signing import SigningKey, generate_private_pem

BOB = SigningKey(generate_private_pem())
POLICY = ApproverPolicy(
    schema=1,
    approvers=[Approver("bob", BOB.public_pem)],
    groups=[GroupPolicy("lyon", "device-enforced", 1)],
)
STRATEGY = Strategy(
    groups=(Group(percent=2.5, gate=Gate(min_devices=1), waits_for_promotion=True), Group()),
    membership=Membership.CONTINUOUS,
    abort=(AbortCriterion(percent=5),),
    activate_window=WindowSpec(cron="0 2 * * *", duration_s=3600, zone="Europe/Paris"),
)


@pytest.fixture
def world() -> Generator[World]:
    made = World()
    made.publish("1.0.0")
    made.policy = POLICY
    made.join("a")
    with made.database.transaction() as session:
        device = session.get(Device, "a")
        assert device is not None
        device.group = "lyon"
    yield made
    made.close()


def approved(world: World) -> Assignment:
    """Return the plan of the device, once bob approved what the command showed him."""
    view = world.create(strategy=STRATEGY)
    shown = answer(world, view.id)
    found = approving.frozen(shown, view.id)
    assert found.strategy == STRATEGY
    sent = approving.body(found, BOB)
    world.service.approve(view.id, GivenApproval(**sent), "token:bob")
    world.run_due()
    (_, message) = world.pushed[-1]
    return read_plan(message.assignment)


def answer(world: World, rollout_id: str) -> dict[str, object]:
    found = world.service.approval(rollout_id)
    return {"state": found.state, "spec": found.spec, "strategy": found.strategy}


def refusal(world: World, plan: Assignment) -> str | None:
    """Return why the device refuses the plan; None if it takes it."""
    would = changes(plan, {}, frozenset())
    now = int(world.now.timestamp())
    return approval.why_not_approved(POLICY, "lyon", would, plan.approvals, now)


def test_a_device_takes_what_was_approved_and_nothing_beside_it(world: World) -> None:
    plan = approved(world)
    assert refusal(world, plan) is None
    (model,) = plan.models
    at_any_time = msgspec.structs.replace(model, windows=msgspec.UNSET)
    assert "something else" in (refusal(world, of(plan, at_any_time)) or "")


def test_a_device_refuses_a_specification_whose_strategy_was_changed_afterwards(
    world: World,
) -> None:
    plan = approved(world)
    envelope = json.loads(plan.approvals[0])
    spec, _ = approval.signed_by(POLICY, plan.approvals[0])
    other = msgspec.structs.replace(spec, strategy_sha256="0" * 64)
    forged = SigningKey(generate_private_pem()).sign(approval.encode(other), approval.PAYLOAD_TYPE)
    envelope["payload"] = json.loads(forged)["payload"]
    tampered = msgspec.structs.replace(plan, approvals=[json.dumps(envelope)])
    assert "does not cover" in (refusal(world, tampered) or "")


def test_the_command_signs_no_strategy_that_the_specification_does_not_bind(world: World) -> None:
    view = world.create(strategy=STRATEGY)
    shown = answer(world, view.id)
    shown["strategy"] = str(shown["strategy"]).replace('"percent":5}', '"percent":50}')
    with pytest.raises(CliError, match="nothing was signed"):
        approving.frozen(shown, view.id)


def test_an_agent_from_before_reads_what_binds_no_digest_and_refuses_what_does(
    world: World,
) -> None:
    """Its specification had all fields of today's but the newest, and took no unknown one."""
    fields = [
        (one.name, one.type, one.default)
        for one in msgspec.structs.fields(RolloutSpec)
        if one.name != "strategy_sha256" and one.default is not msgspec.NODEFAULT
    ]
    needed = [
        (one.name, one.type)
        for one in msgspec.structs.fields(RolloutSpec)
        if one.default is msgspec.NODEFAULT
    ]
    before = msgspec.defstruct(
        "Before", [*needed, *fields], frozen=True, forbid_unknown_fields=True
    )
    for strategy, is_read in ((Strategy(), True), (STRATEGY, False)):
        view = world.create(strategy=strategy)
        spec = (world.service.approval(view.id).spec or "").encode()
        if is_read:
            assert (
                msgspec.json.encode(canonical.decode(spec, before, "specification"), order="sorted")
                == spec
            )
        else:
            with pytest.raises(canonical.NotCanonicalError, match="strategy_sha256"):
                canonical.decode(spec, before, "specification")


def test_signatures_of_several_approvers_bind_the_same_strategy(world: World) -> None:
    view = world.create(strategy=STRATEGY)
    found = approving.frozen(answer(world, view.id), view.id)
    eve = SigningKey(generate_private_pem())
    policy = msgspec.structs.replace(
        POLICY, approvers=[*POLICY.approvers, Approver("eve", eve.public_pem)]
    )
    each = [str(approving.body(found, key)["envelope"]).encode() for key in (BOB, eve)]
    spec, names = approval.signed_by(policy, signing.merge(each).decode(), 2)
    assert (set(names), spec) == ({"bob", "eve"}, found.spec)


def of(plan: Assignment, model: AssignedModel) -> Assignment:
    return msgspec.structs.replace(plan, models=[model])
