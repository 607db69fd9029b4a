from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulators.controlled import PKI, World
from simulators.pki import NOW
from sprat_controller.audit.chain import GENESIS, chain
from sprat_controller.store.tables import (
    DeviceAuditRecord,
)
from sprat_proto import acknowledgement
from sprat_proto.acknowledgement import AckRefusedError
from sprat_proto.audit_events import Tag
from sprat_proto.states import ExecutionState
from sprat_proto.v1 import link_pb2
from sqlmodel import col, select

IN_PROGRESS, SUCCEEDED = ExecutionState.IN_PROGRESS, ExecutionState.SUCCEEDED


def trail(length: int, start: int = 1, previous: str = GENESIS) -> list[link_pb2.AuditRecord]:
    made: list[link_pb2.AuditRecord] = []
    for seq in range(start, start + length):
        body = json.dumps({"seq": seq, "tag": "agent:test:made"}).encode()
        previous = chain(previous, body)
        made.append(link_pb2.AuditRecord(seq=seq, body=body, hash=bytes.fromhex(previous)))
    return made


def upload(world: World, batch: list[link_pb2.AuditRecord]) -> link_pb2.AuditAck:
    message = link_pb2.DeviceMessage(audit=link_pb2.AuditBatch(records=batch))
    answers = world.conversation.receive("a", "grpc", message)
    assert [one.WhichOneof("body") for one in answers] == ["audit_ack"]
    return answers[0].audit_ack


def kept(world: World) -> list[tuple[int, str]]:
    with world.database.reading() as session:
        rows = session.exec(select(DeviceAuditRecord).order_by(col(DeviceAuditRecord.seq)))
        return [(row.seq, row.hash) for row in rows]


def test_an_audit_log_arrives_in_order_and_is_acknowledged_with_its_hash(world: World) -> None:
    world.join("a")
    made = trail(5)
    assert upload(world, []).up_to == 0
    assert upload(world, made[:2]).up_to == 2
    ack = upload(world, made[1:])
    assert (ack.up_to, ack.hash) == (5, made[4].hash)
    assert kept(world) == [(one.seq, one.hash.hex()) for one in made]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.lists(st.integers(1, 12), max_size=12), max_size=12),
)
def test_whatever_order_it_comes_in_nothing_is_lost_twice_or_out_of_order(
    batches: list[list[int]],
) -> None:
    world = World()
    world.join("a")
    made = trail(12)
    for batch in batches:
        upload(world, [made[seq - 1] for seq in batch])
        seqs = [seq for seq, _ in kept(world)]
        assert seqs == list(range(1, len(seqs) + 1))
    assert upload(world, made).up_to == 12
    assert kept(world) == [(one.seq, one.hash.hex()) for one in made]
    assert world.audited(Tag.DEVICE_AUDIT_BROKEN) == []
    world.close()


def changed(record: link_pb2.AuditRecord, **changes: Any) -> link_pb2.AuditRecord:
    copy = link_pb2.AuditRecord.FromString(record.SerializeToString())
    for name, value in changes.items():
        setattr(copy, name, value)
    return copy


def test_a_broken_chain_is_an_alarm_once_and_nothing_beyond_it_is_acknowledged(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.join("a")
    made = trail(4)
    forged = [*made[:2], changed(made[2], body=b'{"seq": 3, "tag": "x"}'), made[3]]
    for _ in range(3):
        assert upload(world, forged).up_to == 2
    broken = world.audited(Tag.DEVICE_AUDIT_BROKEN)
    assert [one["detail"]["position"] for one in broken] == [3]
    assert "device/a is broken at record 3" in caplog.text
    assert upload(world, made).up_to == 4


def test_a_record_that_comes_again_differently_is_an_alarm(world: World) -> None:
    world.join("a")
    made = trail(3)
    upload(world, made)
    other = trail(1, start=2, previous=made[0].hash.hex())[0]
    body = b'{"seq": 2, "tag": "forged"}'
    forged = changed(other, body=body, hash=bytes.fromhex(chain(made[0].hash.hex(), body)))
    assert upload(world, [forged]).up_to == 3
    broken = world.audited(Tag.DEVICE_AUDIT_BROKEN)
    assert [one["detail"]["message"] for one in broken] == [
        "it differs from the record that is kept"
    ]
    assert kept(world)[1] == (2, made[1].hash.hex())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"[1]",
        b'{"seq": 2}',
        b"\xff\xfe",
        b"[" * 5000,
        b'{"seq": 1, "x": "' + b"a" * (64 << 10) + b'"}',
    ],
)
def test_a_record_that_is_none_is_an_alarm(world: World, body: bytes) -> None:
    world.join("a")
    digest = bytes.fromhex(chain(GENESIS, body))
    assert upload(world, [link_pb2.AuditRecord(seq=1, body=body, hash=digest)]).up_to == 0
    assert len(world.audited(Tag.DEVICE_AUDIT_BROKEN)) == 1
    assert kept(world) == []


def test_a_batch_beyond_its_limit_is_kept_as_far_as_it_goes(world: World) -> None:
    world.join("a")
    made = trail(1003)
    assert upload(world, made).up_to == 1000
    assert upload(world, made[1000:]).up_to == 1003


def test_hashes_are_of_what_the_agent_computes() -> None:
    body = b'{"seq":1}'
    assert chain(GENESIS, body) == hashlib.sha256(bytes(32) + body).hexdigest()


def test_t17_each_acknowledgement_is_signed_for_its_device(world: World) -> None:
    device = world.join("a")
    made = trail(3)
    acks = [upload(world, made)]
    acks += [one.audit_ack for one in device.hello(next_audit_seq=2) if one.HasField("audit_ack")]
    assert [ack.up_to for ack in acks] == [3, 3]
    for ack in acks:
        acknowledgement.verify(ack, "a", PKI.root_pem, NOW)
        with pytest.raises(AckRefusedError, match="does not cover"):
            acknowledgement.verify(ack, "b", PKI.root_pem, NOW)
