from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulators.controlled import BIG, START, SimDevice, World, a_profile
from sprat_controller.fleet import inventory
from sprat_controller.link.conversation import reconnect_spread_s
from sprat_controller.link.known import Known, judge
from sprat_controller.link.presence import Has, Send, plan_to_send
from sprat_controller.rollout.requests import Target
from sprat_controller.store.tables import (
    AssignmentRow,
    Device,
)
from sprat_proto.audit_events import Tag
from sprat_proto.capability import CAPABILITY
from sprat_proto.fit import MIB
from sprat_proto.states import DeviceState, ExecutionState
from sprat_proto.v1 import link_pb2
from sqlmodel import select

IN_PROGRESS, SUCCEEDED = ExecutionState.IN_PROGRESS, ExecutionState.SUCCEEDED


def test_only_an_enrolled_device_with_its_own_key_is_admitted(world: World) -> None:
    world.enrol("a")
    admit = world.conversation.admit
    assert admit("a", "a" * 64)
    assert admit("a", None)
    assert not admit("a", "b" * 64)
    assert not admit("ghost", None)
    world.remove("a")
    assert not admit("a", "a" * 64)
    assert world.conversation.receive("a", "grpc", link_pb2.DeviceMessage()) == []


def test_hello_is_welcomed_and_its_profile_kept(world: World) -> None:
    world.enrol("a")
    device = SimDevice(world, "a", BIG)
    welcome = device.hello()[0].welcome
    assert (welcome.heartbeat_s, welcome.reconnect_spread_s) == (60, 1)
    assert welcome.capability == CAPABILITY
    assert list(welcome.blob_base_urls) == ["https://c.test:7770/blobs"]
    assert world.credentials.check(welcome.blob_credential, world.now) == "a"
    assert welcome.controller_time_ms == int(world.now.timestamp() * 1000)
    row = world.device("a")
    assert (row.online, row.carrier, row.agent_version) == (True, "grpc", "0.1.0")
    assert row.profile is not None
    assert row.profile["memory_budget_bytes"] == BIG
    assert row.last_seen_at == world.now
    assert row.state == DeviceState.REGISTERED


def test_a_hardware_class_is_of_what_does_not_change(world: World) -> None:
    def told(name: str, **changes: Any) -> str | None:
        world.enrol(name)
        device = SimDevice(world, name, BIG)
        device.say(hello=link_pb2.Hello(profile=a_profile(BIG, **changes)))
        return world.device(name).hardware_class

    first = told("a")
    assert told("b", disk_free_bytes=1, memory_budget_bytes=5 * MIB) == first
    assert told("c", memory_bytes=2 * BIG + 4096) == first
    for number, changes in enumerate(
        [{"cores": 8}, {"arch": "aarch64"}, {"simulated": True}, {"cpu_features": ["sse"]}]
    ):
        assert told(f"other-{number}", **changes) != first


@pytest.mark.parametrize(
    ("devices", "seconds"), [(0, 1), (300, 1), (400, 2), (10_000, 30), (20_000, 60)]
)
def test_returning_devices_are_spread_by_what_can_be_accepted(devices: int, seconds: int) -> None:
    assert reconnect_spread_s(devices) == seconds


def test_presence_follows_the_carrier_that_is_used(world: World) -> None:
    world.join("a")
    world.conversation.connected("a", "mqtt")
    world.conversation.disconnected("a", "grpc")
    assert world.device("a").online
    world.conversation.disconnected("a", "mqtt")
    assert not world.device("a").online


def test_a_controller_that_starts_takes_nobody_as_there_that_is_not_heard_of(world: World) -> None:
    world.join("a")
    world.conversation.connected("a", "mqtt")
    world.conversation.forget_presence()
    # It may be connected to another controller, which only a common database can have.
    assert world.device("a").online is world.database.is_shared
    world.conversation.connected("a", "mqtt")
    world.wait(minutes=10)
    world.conversation.forget_presence()
    assert not world.device("a").online


def test_an_older_assignment_is_replaced_at_hello_and_at_each_heartbeat(world: World) -> None:
    device, _, _ = world.under_way()
    for answers in (device.say(heard=False, heartbeat=device.a_heartbeat()), device.heartbeat()):
        assert [one.assignment.version for one in answers] == [1]
    assert device.heartbeat() == []
    fresh = SimDevice(world, "a", BIG)
    assert [one.assignment.version for one in fresh.hello() if one.HasField("assignment")] == [1]


@pytest.mark.parametrize(
    ("has", "is_quarantined", "age", "expected"),
    [
        (Has(3, 100, 1), False, 0, Send.NOTHING),
        (Has(2, 100, 1), False, 0, Send.NEWEST),
        (Has(3, 99, 1), False, 0, Send.NEWEST),
        (Has(3, 100, 0), False, 0, Send.NEWEST),
        (Has(4, 100, 1), False, 0, Send.NEXT),
        (Has(3, 101, 1), False, 0, Send.RENEWED),
        (Has(3, 100, 1), False, 1, Send.RENEWED),
        (Has(3, 100, 1), False, -1, Send.RENEWED),
        (Has(0, 0, 0), True, 5, Send.NOTHING),
    ],
)
def test_what_a_device_is_sent_depends_on_what_it_has(
    has: Has, *, is_quarantined: bool, age: int, expected: Send
) -> None:
    assert plan_to_send(a_known(is_quarantined, age), has, START) is expected


def test_a_new_root_of_the_director_has_every_plan_signed_anew() -> None:
    known = replace(a_known(), root_version=2)
    assert plan_to_send(known, Has(3, 100, 2), START) is Send.RENEWED


def a_known(is_quarantined: bool = False, age_days: int = 0) -> Known:  # noqa: FBT001, FBT002 - a table's row
    return Known(
        id="a",
        state="IN_SYNC",
        profile=None,
        obeyed_version=3,
        running={},
        report_seq=0,
        audit_seq=0,
        is_quarantined=is_quarantined,
        assigned_version=3,
        plan_version=100,
        plan_issued_at=START - timedelta(days=age_days),
        plan_root=1,
        root_version=1,
    )


def test_a_plan_is_renewed_daily_without_a_new_assignment(world: World) -> None:
    device, _, _ = world.under_way()
    device.heartbeat()
    first = device.plan_version
    world.wait(hours=25)
    device.heartbeat()
    assert device.plan_version > first
    assert device.version == 1
    assert device.heartbeat() == []


def test_t38_a_device_that_left_the_target_before_its_turn_gets_no_plan(world: World) -> None:
    moved, stays = world.join("a", site="lyon"), world.join("b", site="lyon")
    view = world.create(target=Target({"site": "lyon"}), max_in_progress=1)
    world.run_due()
    assert stays.heartbeat() == []
    moved.sync()
    with world.database.transaction() as session:
        inventory.relabel(session, "b", {"site": "nice"}, actor="token:ann", now=world.now)
    world.run_due()
    assert world.states(view.id) == {"a": ExecutionState.SUCCEEDED, "b": ExecutionState.CANCELED}
    assert stays.heartbeat() == []
    assert stays.assignment is None
    (reason,) = [one.reason for one in world.service.executions(view.id) if one.device_id == "b"]
    assert reason is not None
    assert reason["code"] == "OUT_OF_SCOPE"


def test_without_the_signer_a_device_is_welcomed_and_told_later(world: World) -> None:
    device, _, _ = world.under_way()
    device.heartbeat()
    world.wait(hours=25)
    world.signer.is_away = True
    before = device.plan_version
    assert device.hello()[0].HasField("welcome")
    assert device.plan_version == before
    world.signer.is_away = False
    device.heartbeat()
    assert device.plan_version > before


def test_a_device_that_obeys_what_we_do_not_know_gets_a_higher_version(world: World) -> None:
    """As after the controller's database was restored from a backup."""
    device, _, _ = world.under_way()
    beat = link_pb2.Heartbeat(assignment_version=41)
    assert [one.assignment.version for one in device.say(heartbeat=beat)] == [42]
    with world.database.reading() as session:
        assert session.exec(select(AssignmentRow.version)).one() == 42


def test_an_absurd_version_is_refused(world: World) -> None:
    device, _, _ = world.under_way()
    device.say(heartbeat=link_pb2.Heartbeat(assignment_version=(1 << 64) - 1))
    assert world.device("a").obeyed_version == 0
    assert len(world.audited(Tag.DEVICE_MESSAGE_REFUSED)) == 1


def test_in_sync_means_that_it_runs_what_is_desired() -> None:
    def state(**changes: Any) -> DeviceState:
        facts: dict[str, Any] = {
            "desired": {"a": "1"},
            "running": {"a": "1"},
            "is_open": False,
            "assigned": 3,
            "obeyed": 3,
        }
        return judge(**{**facts, **changes})

    assert state() is DeviceState.IN_SYNC
    assert state(assigned=None) is DeviceState.REGISTERED
    assert state(is_open=True) is DeviceState.PENDING
    assert state(running={"a": "0"}, obeyed=2) is DeviceState.PENDING
    assert state(running={"a": "0"}) is DeviceState.ERROR
    assert state(running={}) is DeviceState.ERROR
    assert state(running={"a": "1", "b": "1"}) is DeviceState.ERROR


@given(
    st.dictionaries(st.sampled_from("ab"), st.sampled_from("12")),
    st.dictionaries(st.sampled_from("ab"), st.sampled_from("12")),
    st.booleans(),
    st.none() | st.integers(0, 3),
    st.integers(0, 3),
)
def test_nothing_weaker_is_ever_in_sync(
    desired: dict[str, str],
    running: dict[str, str],
    is_open: bool,  # noqa: FBT001 - drawn
    assigned: int | None,
    obeyed: int,
) -> None:
    found = judge(
        desired=desired, running=running, is_open=is_open, assigned=assigned, obeyed=obeyed
    )
    if found is DeviceState.IN_SYNC:
        assert running == desired


def test_a_device_that_loses_its_model_is_in_error_until_it_runs_again(world: World) -> None:
    device, _, _ = world.under_way()
    device.sync()
    assert world.device("a").state == DeviceState.IN_SYNC
    device.say(heartbeat=link_pb2.Heartbeat(assignment_version=device.version))
    assert world.device("a").state == DeviceState.ERROR
    device.heartbeat()
    assert world.device("a").state == DeviceState.IN_SYNC


def test_free_disk_is_followed_where_it_is_measured(world: World) -> None:
    device = world.join("a")
    device.say(heartbeat=link_pb2.Heartbeat(disk_free_bytes=100 * MIB))
    row = world.device("a")
    assert row.profile is not None
    assert row.profile["disk_free_bytes"] == 100 * MIB
    device.say(hello=link_pb2.Hello(profile=a_profile(BIG, simulated=True)))
    device.say(heartbeat=link_pb2.Heartbeat(disk_free_bytes=100 * MIB))
    row = world.device("a")
    assert row.profile is not None
    assert row.profile["disk_free_bytes"] == 4000 * MIB


def test_a_removed_device_is_not_marked_online(world: World) -> None:
    world.enrol("a")
    world.remove("a")
    world.conversation.connected("a", "grpc")
    with world.database.reading() as session:
        assert session.exec(select(Device.online)).one() is False
