"""One disk that runs twice is noticed, whatever its two devices do (T27)."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulators.controlled import World
from simulators.device_keys import DeviceKeys
from simulators.enrolment_desk import Desk
from simulators.sealed import journal_of
from sprat_agent.state import State
from sprat_controller.errors import ConflictError, DeniedError
from sprat_controller.fleet import inventory
from sprat_controller.link.copies import DELAYED, MOST_BOOTS
from sprat_controller.rollout import assign
from sprat_controller.store.tables import Device
from sprat_proto.audit_events import Tag
from sprat_proto.v1 import link_pb2

BOOTS = itertools.count(1)


@dataclass
class Agent:
    """The part of an agent that speaks and keeps audit: real state file and journal."""

    world: World
    folder: Path

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Begin, with an id that no start ever had."""
        self.boot = f"boot-{next(BOOTS)}"
        self.state = State(self.folder)
        self.journal = journal_of(self.state, self.world.clock, "a")
        self.journal.begin()
        self.journal.append("agent:process:started", "device/a", {"boot": self.boot})

    def stop(self) -> None:
        self.state.close()

    def restart(self) -> None:
        self.stop()
        self.start()

    def cloned(self, folder: Path) -> Agent:
        """Return an agent on a copy of the disk, as it is while this one is off."""
        self.stop()
        shutil.copytree(self.folder, folder)
        self.start()
        return Agent(self.world, folder)

    def say(self, **body: Any) -> Sequence[link_pb2.ControllerMessage]:
        message = link_pb2.DeviceMessage(boot_id=self.boot, **body)
        return self.world.conversation.receive("a", "grpc", message)

    def hello(self) -> Sequence[link_pb2.ControllerMessage]:
        """Connect, after a while: that ends the connection of whoever else has this name."""
        self.world.wait(seconds=31)
        size = self.journal.next_seq() - 1
        oldest = self.journal.oldest_unacknowledged()
        hello = link_pb2.Hello(capability=8, next_audit_seq=oldest, audit_size=size)
        return self.say(hello=hello)

    def beat(self) -> None:
        self.say(heartbeat=link_pb2.Heartbeat())

    def upload(self) -> None:
        """Bring over what waits, and remove what is acknowledged."""
        records = self.journal.batch(1000, 1 << 20)
        if not records:
            return
        batch = link_pb2.AuditBatch(
            records=[
                link_pb2.AuditRecord(seq=one.seq, body=one.body, seal=one.seal) for one in records
            ],
            checkpoint=self.journal.checkpoint(records[-1].seq),
        )
        (answer,) = self.say(audit=batch)
        ack = answer.audit_ack
        # As `AuditFlow` does: what the controller has otherwise frees nothing.
        if self.journal.root_at(ack.up_to) == ack.root and records[0].seq <= ack.up_to:
            self.journal.acknowledge(ack.up_to)

    def work(self) -> None:
        self.journal.append("agent:model:loaded", "m", {"boot": self.boot})


@pytest.fixture
def agent(world: World, tmp_path: Path) -> Generator[Agent]:
    world.join("a")
    made = Agent(world, tmp_path / "a")
    made.hello()
    made.work()
    made.upload()
    yield made
    made.stop()


@pytest.fixture
def clone(agent: Agent, tmp_path: Path) -> Generator[Agent]:
    made = agent.cloned(tmp_path / "clone")
    yield made
    made.stop()


def copies(world: World) -> list[str]:
    return [one["detail"]["how"] for one in world.audited(Tag.DEVICE_AUDIT_COPIED)]


def quarantine(world: World) -> str | None:
    with world.database.reading() as session:
        device = session.get(Device, "a")
        assert device is not None
        return device.quarantine_reason


def test_two_that_are_on_at_once_are_noticed_before_their_logs_differ(
    world: World, agent: Agent, clone: Agent, caplog: pytest.LogCaptureFixture
) -> None:
    """Each connection throws the other out; the first that comes back gives both away."""
    agent.hello()
    clone.hello()
    assert copies(world) == []  # a restart looks the same so far
    agent.hello()
    assert copies(world) == ["start"]
    assert quarantine(world) == "copied"
    assert "there is a copy of it" in caplog.text
    for _ in range(5):
        clone.hello()
        agent.hello()
    assert copies(world) == ["start"]
    assert len(world.audited(Tag.DEVICE_QUARANTINED)) == 1


def test_a_clone_that_only_listens_is_noticed(world: World, agent: Agent, clone: Agent) -> None:
    """It says what it must to be told anything, and writes nothing that could be compared."""
    agent.hello()
    agent.upload()
    clone.hello()
    clone.beat()
    agent.hello()
    agent.upload()
    assert copies(world) == ["start"]
    assert world.audited(Tag.DEVICE_AUDIT_BROKEN) == []


def test_two_that_are_on_in_turn_are_noticed_by_their_logs(
    world: World, agent: Agent, clone: Agent
) -> None:
    """Each starts anew whenever it is on: no start comes back, but both ends of the fork live."""
    agent.hello()
    agent.work()
    agent.upload()
    clone.restart()
    clone.hello()
    clone.upload()
    assert [one["detail"]["message"] for one in world.audited(Tag.DEVICE_AUDIT_BROKEN)] == [
        "it differs from the record that is kept"
    ]
    assert copies(world) == []  # it may be the device itself, with yesterday's disk
    agent.restart()
    agent.hello()
    agent.upload()
    assert copies(world) == ["log"]
    assert quarantine(world) == "copied"


def test_a_quarantined_copy_gets_no_plan_and_is_heard(
    world: World, agent: Agent, clone: Agent
) -> None:
    with world.database.transaction() as session:
        assign.issue(session, world.signer, "a", world.now)
    for one in (agent, clone):
        assert "assignment" in [answer.WhichOneof("body") for answer in one.hello()]
    for one in (agent, clone):
        bodies = [answer.WhichOneof("body") for answer in one.hello()]
        assert bodies[0] == "welcome"
        assert "assignment" not in bodies
    before = agent.journal.oldest_unacknowledged()
    agent.upload()
    assert agent.journal.oldest_unacknowledged() > before


def test_who_decided_is_told_again_if_the_copy_is_still_there(
    world: World, agent: Agent, clone: Agent
) -> None:
    for one in (agent, clone, agent):
        one.hello()
    with world.database.transaction() as session:
        inventory.release(session, "a", accept_older=False, actor="user:ann", now=world.now)
    agent.hello()
    agent.restart()
    agent.hello()
    assert copies(world) == ["start"]
    assert quarantine(world) is None
    for one in (clone, agent):
        one.hello()
    clone.hello()
    assert copies(world) == ["start", "start"]
    assert quarantine(world) == "copied"


def test_a_device_that_only_restarts_and_reconnects_is_no_copy(world: World, agent: Agent) -> None:
    for _ in range(3 * MOST_BOOTS):
        agent.hello()
        agent.beat()
        agent.hello()
        agent.work()
        agent.upload()
        agent.restart()
    assert copies(world) == []
    assert quarantine(world) is None
    with world.database.reading() as session:
        device = session.get(Device, "a")
        assert device is not None
        assert len(device.former_boots or []) == MOST_BOOTS


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([0, 1]), st.sampled_from(["hello", "restart"]), st.integers(0, 40)
        ),
        max_size=24,
    )
)
def test_an_alarm_is_raised_exactly_if_a_start_comes_back(
    steps: list[tuple[int, str, int]],
) -> None:
    """By two devices in any order: not by a word that was only held up on its way."""
    world = World()
    world.join("a")
    boots, next_boot = ["b0", "b1"], itertools.count(2)
    last, gave_way, expected = "", dict[str, int](), False
    now = 0
    for who, what, seconds in steps:
        world.wait(seconds=seconds)
        now += seconds
        if what == "restart":
            boots[who] = f"b{next(next_boot)}"
            continue
        boot = boots[who]
        if last not in ("", boot):
            expected |= boot in gave_way and now - gave_way[boot] >= DELAYED.total_seconds()
            gave_way.setdefault(last, now)
        last = boot
        hello = link_pb2.Hello(capability=8, next_audit_seq=1)
        world.conversation.receive("a", "grpc", link_pb2.DeviceMessage(boot_id=boot, hello=hello))
    assert (copies(world) != []) is expected
    assert (quarantine(world) == "copied") is expected
    world.close()


def test_a_clone_that_enrols_again_gets_nothing_that_its_device_has_not(
    world: World,
) -> None:
    """With the keys of the disk: the same certificate; with others: a refusal, and an alarm."""
    desk = Desk(world.database)
    claim = desk.token("gw-1")
    keys = DeviceKeys()
    first = desk.enrol(claim, keys)
    assert desk.enrol(claim, keys) == first
    with pytest.raises(ConflictError) as refused:
        desk.enrol(claim, DeviceKeys())
    assert refused.value.code == "token_used"
    assert len(desk.audited(Tag.DEVICE_ENROLMENT_CONTESTED)) == 1
    # What it has without asking: the device's certificate. Who renews second is in quarantine.
    serial = desk.device().serial
    desk.renew(keys, serial)
    with pytest.raises(DeniedError) as refused:
        desk.renew(keys, serial)
    assert refused.value.code == "certificate_superseded"
    assert desk.device().quarantine_reason == "copied"
