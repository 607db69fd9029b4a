"""Devices' own logs are sent on: in order, at least once, by one controller at a time."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from simulators.controlled import World
from simulators.sealed import batch_of, sealed
from sprat_controller.audit.forwarding import device_positions
from sprat_controller.audit.forwarding.device_positions import OF_ONE, DevicePositions
from sprat_controller.audit.forwarding.forwarder import Forwarder
from sprat_controller.audit.forwarding.senders import SendError
from sprat_controller.store.session import Database
from sprat_proto.v1 import link_pb2

NAME = "syslog+tcp://h:1#devices"


class Receiver:
    """Keeps what it is sent, unless it is away."""

    def __init__(self) -> None:
        self.got: list[tuple[str, int]] = []
        self.is_away = False

    def send(self, bodies: Sequence[bytes]) -> None:
        if self.is_away:
            raise SendError("away")
        for body in bodies:
            record = json.loads(body)
            self.got.append((record["log"], record["seq"]))

    def close(self) -> None:
        """Nothing is open."""


def tell(world: World, device: str, first: int, last: int) -> None:
    bodies = [
        json.dumps({"log": device, "seq": seq, "tag": "agent:test:made"}).encode()
        for seq in range(1, last + 1)
    ]
    batch = batch_of(sealed(bodies), *range(first, last + 1), device_id=device)
    world.conversation.receive(device, "grpc", link_pb2.DeviceMessage(audit=batch))


def forwarder(world: World, receiver: Receiver, owner: str = "one") -> Forwarder:
    database: Database = world.database
    position = DevicePositions(database, NAME, owner)
    position.begin()
    return Forwarder(NAME, receiver, database, owner, lambda: world.now, position=position)


def run(made: Forwarder) -> None:
    while made.step():
        pass


def test_logs_of_devices_are_sent_as_they_arrive_each_record_once(world: World) -> None:
    for device in ("a", "b"):
        world.join(device)
    receiver = Receiver()
    made = forwarder(world, receiver)
    run(made)
    tell(world, "a", 1, 3)
    tell(world, "b", 1, 2)
    run(made)
    tell(world, "a", 4, 5)
    run(forwarder(world, receiver))
    assert sorted(receiver.got) == [("a", n) for n in range(1, 6)] + [("b", 1), ("b", 2)]
    assert [seq for log, seq in receiver.got if log == "a"] == [1, 2, 3, 4, 5]


def test_a_long_log_does_not_hold_up_the_others(world: World) -> None:
    for device in ("a", "b"):
        world.join(device)
    tell(world, "a", 1, OF_ONE + 10)
    tell(world, "b", 1, 1)
    receiver = Receiver()
    made = forwarder(world, receiver)
    assert made.step()
    assert len(receiver.got) == OF_ONE + 1
    assert receiver.got[-1] == ("b", 1)
    run(made)
    assert [seq for log, seq in receiver.got if log == "a"] == list(range(1, OF_ONE + 11))


def test_a_batch_is_no_longer_for_many_devices(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_positions, "BATCH", 5)
    for device in ("a", "b", "c"):
        world.join(device)
        tell(world, device, 1, 3)
    receiver = Receiver()
    made = forwarder(world, receiver)
    assert made.step()
    assert receiver.got == [("a", 1), ("a", 2), ("a", 3), ("b", 1), ("b", 2)]
    run(made)
    assert sorted(receiver.got) == [(log, n) for log in "abc" for n in (1, 2, 3)]


def test_who_waits_the_longest_is_next(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_positions, "BATCH", 3)
    for device, count in (("a", 6), ("b", 3)):
        world.join(device)
        tell(world, device, 1, count)
    receiver = Receiver()
    run(forwarder(world, receiver))
    assert [log for log, _ in receiver.got] == ["a"] * 3 + ["b"] * 3 + ["a"] * 3


def test_what_another_sent_between_reading_and_claiming_is_not_sent_again(world: World) -> None:
    world.join("a")
    tell(world, "a", 1, 3)
    one, other = (DevicePositions(world.database, "d", owner) for owner in ("one", "other"))
    one.begin()
    assert len(one.next_records()) == 3
    assert len(other.next_records()) == 3
    assert other.claim(world.now) == 0
    assert other.move(2, world.now)
    other.release()
    assert one.claim(world.now) is None
    assert [record.seq for record in one.next_records()] == [1]
    assert one.claim(world.now) == 0
    assert one.move(1, world.now)
    assert one.next_records() == []


def test_what_was_not_taken_is_sent_again(world: World) -> None:
    world.join("a")
    tell(world, "a", 1, 3)
    receiver = Receiver()
    receiver.is_away = True
    made = forwarder(world, receiver)
    with pytest.raises(SendError):
        made.step()
    receiver.is_away = False
    run(made)
    assert receiver.got == [("a", 1), ("a", 2), ("a", 3)]


def test_of_two_controllers_one_sends(world: World) -> None:
    world.join("a")
    tell(world, "a", 1, 3)
    first, second = Receiver(), Receiver()
    one, two = forwarder(world, first, "one"), forwarder(world, second, "two")
    run(one)
    tell(world, "a", 4, 6)
    run(two)  # the claim of the other holds
    assert second.got == []
    world.wait(minutes=3)
    run(two)
    assert (first.got, second.got) == ([("a", n) for n in (1, 2, 3)], [("a", n) for n in (4, 5, 6)])
