from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulators.controlled import BIG, SimDevice, World, a_profile
from sprat_controller.audit.tags import Tag
from sprat_controller.link.conversation import reconnect_spread_s
from sprat_controller.link.known import judge
from sprat_controller.store.tables import (
    AssignmentRow,
    Device,
)
from sprat_proto.fit import MIB
from sprat_proto.states import DeviceState, ExecutionState
from sprat_proto.v1 import link_pb2
from sqlmodel import select

IN_PROGRESS, SUCCEEDED = ExecutionState.IN_PROGRESS, ExecutionState.SUCCEEDED


@pytest.fixture
def world() -> Generator[World]:
    made = World()
    made.publish("1.0.0")
    yield made
    made.close()


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
    assert (welcome.capability, welcome.heartbeat_s, welcome.reconnect_spread_s) == (1, 60, 1)
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
    world.conversation.connected("a", "mqtt")
    world.conversation.forget_presence()
    assert not world.device("a").online


def test_an_older_assignment_is_replaced_at_hello_and_at_each_heartbeat(world: World) -> None:
    device, _, _ = world.under_way()
    for answers in (device.say(heard=False, heartbeat=device.a_heartbeat()), device.heartbeat()):
        assert [one.assignment.version for one in answers] == [1]
    assert device.heartbeat() == []
    fresh = SimDevice(world, "a", BIG)
    assert [one.assignment.version for one in fresh.hello() if one.HasField("assignment")] == [1]


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
