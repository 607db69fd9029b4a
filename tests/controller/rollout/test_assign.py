"""What is signed for a device when the rows and the last plan say different things."""

from __future__ import annotations

from datetime import timedelta

import pytest
from msgspec import UNSET
from simulators.controlled import ALIAS, SimDevice, World
from simulators.plain_signer import read_plan
from sprat_controller.fleet import inventory
from sprat_controller.rollout import assign
from sprat_controller.store.tables import Device
from sprat_proto.assignment import Assignment, ServingTerms
from sprat_proto.policy import Aim, FitPolicy
from sprat_proto.states import ExecutionState
from sprat_proto.v1 import link_pb2

LONG = timedelta(days=30)  # every plan was to be signed anew since


def quarantine(world: World, device_id: str) -> None:
    with world.database.transaction() as session:
        device = session.get_one(Device, device_id)
        device.quarantined_at, device.quarantine_reason = world.now, "late"


def release(world: World, device_id: str) -> link_pb2.ControllerMessage | None:
    with world.database.transaction() as session:
        inventory.release(session, device_id, accept_older=False, actor="token:op", now=world.now)
        session.flush()
        return assign.resume(session, world.signer, device_id, world.now)


def renew(world: World, device_id: str) -> Assignment:
    with world.database.transaction() as session:
        message = assign.renew(session, world.signer, device_id, world.now)
    assert message is not None
    return read_plan(message.assignment)


def synced(world: World) -> SimDevice:
    device = world.join("a")
    world.create()
    world.run_due()
    device.sync()
    world.run_due()
    return device


def test_a_renewed_plan_says_the_same_under_the_same_version(world: World) -> None:
    device = synced(world)
    world.now += LONG
    made = renew(world, "a")
    assert (made.version, made.models[0].release) == (device.version, "1.0.0")


@pytest.mark.parametrize("later", [timedelta(minutes=1), LONG])
def test_what_was_decided_in_quarantine_is_another_version_once_it_ends(
    world: World, later: timedelta
) -> None:
    device = synced(world)
    before = device.version
    quarantine(world, "a")
    wanted = world.publish("2.0.0", counter=2)["q8_0"]
    view = world.create("2.0.0")
    world.run_due()
    world.now += later
    device.heartbeat()
    assert device.version == before
    release(world, "a")
    device.heartbeat()
    assert device.version == before + 1
    device.finish()
    device.send_reports()
    world.run_due()
    assert world.states(view.id) == {"a": "SUCCEEDED"}
    assert device.committed[ALIAS].digest == wanted


def test_rows_that_the_plan_does_not_say_are_never_signed_under_its_version(world: World) -> None:
    device = synced(world)
    quarantine(world, "a")
    world.publish("2.0.0", counter=2)
    world.create("2.0.0")
    world.run_due()
    with world.database.transaction() as session:
        inventory.release(session, "a", accept_older=False, actor="token:op", now=world.now)
    made = renew(world, "a")
    assert (made.version, made.models[0].release) == (device.version + 1, "2.0.0")


def test_a_plan_says_how_a_model_is_served_and_a_return_says_how_it_was(world: World) -> None:
    terms = ServingTerms(slots=4, kv_type="q8_0", is_pinned=True)
    device = world.join("a")
    world.create(terms=terms)
    world.run_due()
    device.sync()
    world.run_due()
    assert device.committed[ALIAS].terms == terms
    again = world.create()
    world.run_due()
    device.heartbeat()
    (wanted,) = device.under_way()
    assert wanted.serving is UNSET
    device.finish(ExecutionState.ROLLED_BACK)
    device.send_reports()
    world.run_due()
    device.heartbeat()
    assert world.states(again.id) == {"a": ExecutionState.ROLLED_BACK}
    assert device.assignment
    (model,) = device.assignment.models
    assert model.terms == terms


def test_a_plan_carries_the_policy_and_a_return_the_one_of_before(world: World) -> None:
    asked = FitPolicy(aim=Aim.SMALLEST)
    device = world.join("a")
    world.create(policy=asked)
    world.run_due()
    device.sync()
    world.run_due()
    assert device.committed[ALIAS].fit_policy == asked
    again = world.create()
    world.run_due()
    device.heartbeat()
    (wanted,) = device.under_way()
    assert (wanted.policy, wanted.fit_policy) == (UNSET, None)
    device.finish(ExecutionState.ROLLED_BACK)
    device.send_reports()
    world.run_due()
    device.heartbeat()
    assert world.states(again.id) == {"a": ExecutionState.ROLLED_BACK}
    assert device.assignment
    (model,) = device.assignment.models
    assert model.fit_policy == asked


def test_an_old_agent_is_assigned_nothing_that_it_would_refuse(world: World) -> None:
    device = world.join("a")
    device.hello(capability=2)
    view = world.create(terms=ServingTerms(is_pinned=True))
    world.run_due()
    assert world.states(view.id) == {"a": ExecutionState.REJECTED}
    world.create()
    world.run_due()
    device.heartbeat()
    assert [one.serving for one in device.under_way()] == [UNSET]


def test_a_device_that_never_had_a_plan_gets_its_first_when_quarantine_ends(world: World) -> None:
    device = world.join("a")
    quarantine(world, "a")
    world.create()
    world.run_due()
    device.heartbeat()
    assert device.version == 0
    release(world, "a")
    device.heartbeat()
    assert device.version == 1


def test_a_device_that_nothing_is_decided_for_gets_nothing(world: World) -> None:
    world.join("a")
    quarantine(world, "a")
    assert release(world, "a") is None
