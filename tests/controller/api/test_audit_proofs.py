from __future__ import annotations

import base64
import json
from collections.abc import Generator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from simulators.http_world import Client, HttpWorld, error_of
from simulators.view_readers import read_cef, read_otlp, read_syslog
from sprat_controller.audit import log
from sprat_controller.audit.expiring import Expiring
from sprat_controller.audit.export import Result, verify
from sprat_controller.audit.views import Format
from sprat_proto import notes
from sprat_proto.audit_events import Tag
from sprat_proto.merkle import Frontier, leaf_hash, verify_consistency, verify_inclusion

WITNESS = Ed25519PrivateKey.from_private_bytes(bytes(32))
A = "/api/v1/audit"


@pytest.fixture
def world(tmp_path: Path) -> Generator[HttpWorld]:
    made = HttpWorld(tmp_path)
    yield made
    made.close()


def append(world: HttpWorld, count: int) -> None:
    with world.parts.database.transaction() as session:
        for number in range(count):
            subject = f"device/gw-{number % 3}"
            log.append(
                session, Tag.DEVICE_LABELLED, at=world.now, actor="user:ann", subject=subject
            )


async def key_of(world: HttpWorld) -> notes.VerifierKey:
    answer = await world.client().send("GET", f"{A}/key")
    key = notes.read_key(answer.json()["vkey"])
    assert answer.json()["origin"] == key.name
    return key


async def checkpoint_of(world: HttpWorld) -> notes.Checkpoint:
    answer = await world.client().send("GET", f"{A}/checkpoint")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    note = notes.read_note(answer.text)
    notes.verify(note, [await key_of(world)])
    return notes.read_checkpoint(note.text)


async def test_a_checkpoint_covers_what_is_in_the_log_now(world: HttpWorld) -> None:
    first = await checkpoint_of(world)
    append(world, 5)
    assert (await checkpoint_of(world)).size == first.size + 5


async def test_a_proof_of_inclusion_verifies_by_itself(world: HttpWorld) -> None:
    append(world, 300)
    client, key = world.client(), await key_of(world)
    for seq in (1, 257, 300):
        answer = (await client.send("GET", f"{A}/proof/inclusion", params={"seq": seq})).json()
        proof = notes.read_inclusion_proof(answer["tlog_proof"])
        notes.verify(proof.checkpoint, [key])
        checkpoint = notes.read_checkpoint(proof.checkpoint.text)
        leaf = bytes.fromhex(answer["hash"])
        verify_inclusion(leaf, proof.index, checkpoint.size, proof.hashes, checkpoint.root)
    for params in ({"seq": 100_000}, {"seq": 1, "size": 7}):
        answer = await client.send("GET", f"{A}/proof/inclusion", params=params)
        assert error_of(answer) == (404, "record_not_found")


async def test_a_proof_of_consistency_leads_from_one_checkpoint_to_the_next(
    world: HttpWorld,
) -> None:
    old = await checkpoint_of(world)
    append(world, 300)
    new = await checkpoint_of(world)
    params = {"from": old.size, "to": new.size}
    answer = (await world.client().send("GET", f"{A}/proof/consistency", params=params)).json()
    proof = [base64.b64decode(one) for one in answer["hashes"]]
    verify_consistency(old.size, new.size, proof, old.root, new.root)
    for wrong in ({"from": 9, "to": 8}, {"from": 1, "to": 100_000}):
        refused = await world.client().send("GET", f"{A}/proof/consistency", params=wrong)
        assert error_of(refused) == (404, "checkpoint_not_found")


async def test_tiles_and_entries_lead_to_the_root(world: HttpWorld) -> None:
    append(world, 600)
    checkpoint, client = await checkpoint_of(world), world.client()
    frontier, width = Frontier(), checkpoint.size % 256
    names = [f"{n:03}" for n in range(checkpoint.size // 256)]
    if width:
        names.append(f"{checkpoint.size // 256:03}.p/{width}")
    for name in names:
        tile = (await client.send("GET", f"{A}/tile/0/{name}")).content
        entries = (await client.send("GET", f"{A}/tile/entries/{name}")).content
        for at in range(0, len(tile), 32):
            size = int.from_bytes(entries[:2])
            record, entries = entries[2 : 2 + size], entries[2 + size :]
            assert leaf_hash(record) == tile[at : at + 32]
            frontier.append(tile[at : at + 32])
        assert not entries
    assert frontier.root() == checkpoint.root
    above = (await client.send("GET", f"{A}/tile/1/000.p/2")).content
    assert len(above) == 64
    for wrong in ("0/003", "0/x001/000", "8/000", "0/000.p/256", "0/0", "1/000.p/3", "entries/1"):
        assert (await client.send("GET", f"{A}/tile/{wrong}")).status_code == 404


async def test_a_whole_export_is_found_intact(world: HttpWorld) -> None:
    await checkpoint_of(world)
    append(world, 1200)
    answer = await world.client().send("GET", f"{A}/export")
    lines = answer.content.splitlines(keepends=True)
    found = verify(lines, [await key_of(world)])
    assert found.result is Result.INTACT, found.message
    assert found.records >= 1200
    assert sum(one.startswith(b'{"checkpoint"') for one in lines) == 2
    assert sum(one.startswith(b'{"subtree"') for one in lines) == 4


@pytest.mark.parametrize(
    ("params", "count"),
    [
        ({"device": "gw-1"}, 10),
        ({"tag": "operator:device:labelled"}, 30),
        ({"actor": "user:nobody"}, 0),
        ({"device": "gw-1", "since": "2030-01-01T00:00:00Z"}, 0),
        ({"device": "gw-1", "until": "2030-01-01T00:00:00Z"}, 10),
    ],
)
async def test_a_part_is_exported_with_its_proofs(
    world: HttpWorld, params: dict[str, str], count: int
) -> None:
    append(world, 30)
    answer = await world.client().send("GET", f"{A}/export", params=params)
    found = verify(answer.content.splitlines(keepends=True), [await key_of(world)])
    assert (found.result, found.records) == (Result.INTACT, count)
    listed = (await world.client().send("GET", A, params=params)).json()["items"]
    assert len(listed) == count


async def test_a_witness_brings_its_word(world: HttpWorld) -> None:
    checkpoint = await checkpoint_of(world)
    key = notes.verifier_key(WITNESS, "w", notes.COSIGNER)
    line = str(notes.cosign(WITNESS, "w", str(checkpoint), 7))
    body = {"size": checkpoint.size, "vkey": str(key), "line": line}
    answer = await world.client().send("POST", f"{A}/cosignatures", json=body)
    notes.verify(notes.read_note(answer.json()["note"]), [key])
    for wrong in ({"vkey": "x"}, {"line": "x"}):
        refused = await world.client().send("POST", f"{A}/cosignatures", json=body | wrong)
        assert error_of(refused)[1] == "bad_cosignature"
    missing = await world.client().send("POST", f"{A}/cosignatures", json=body | {"size": 99})
    assert error_of(missing) == (404, "checkpoint_not_found")


@pytest.mark.parametrize("format_", Format)
async def test_a_view_holds_the_records_that_were_asked_for(
    world: HttpWorld, format_: Format
) -> None:
    append(world, 1100)
    params = {"format": format_.value, "device": "gw-1"}
    answer = await world.client().send("GET", f"{A}/export", params=params)
    assert answer.status_code == 200
    assert answer.content.endswith(b"\n")
    texts: list[str] = []
    for line in answer.content.splitlines():
        match format_:
            case Format.CEF:
                texts.append(read_cef(line).extension["spratRecord"])
            case Format.RFC5424:
                texts.append(read_syslog(line).message or "")
            case Format.OTLP:
                texts.append(read_otlp(line)[0]["body"])
            case Format.OCSF:
                texts.append(json.loads(line)["raw_data"])
    subjects = [json.loads(text)["subject"] for text in texts]
    assert subjects == ["device/gw-1"] * 367


async def test_a_format_that_is_none_is_said(world: HttpWorld) -> None:
    answer = await world.client().send("GET", f"{A}/export", params={"format": "xml"})
    assert answer.status_code == 422


async def test_what_expired_says_so_wherever_it_is_asked_for(world: HttpWorld) -> None:
    client = world.client()
    append(world, 300)
    answer = await client.send(
        "POST", f"{A}/retention", json={"days": 90, "tag": "operator:device:labelled"}
    )
    assert error_of(answer) == (400, "retention_too_short")
    wanted = {"days": 90, "tag": "operator:device:labelled", "force_reason": "a trial"}
    answer = await client.send("POST", f"{A}/retention", json=wanted)
    assert answer.json()["reason"] == "a trial"
    held = {"device_id": "gw-0", "reason": "case 4711"}
    hold = (await client.send("POST", f"{A}/holds", json=held)).json()
    world.later(days=91)
    client = world.client_of(world.admit("late", "admin"))
    checkpoint = await client.send("GET", f"{A}/checkpoint")
    assert checkpoint.status_code == 200
    assert Expiring(world.parts.database, world.parts.checkpoints).step(world.now)
    items = (await client.send("GET", f"{A}?limit=1000")).json()["items"]
    gone = [item["seq"] for item in items if item.get("expired")]
    assert len(gone) == 200
    assert all(item["body"] is None for item in items if item.get("expired"))
    proof = (await client.send("GET", f"{A}/proof/inclusion", params={"seq": gone[0]})).json()
    assert (proof["expired"], proof["hash"]) == (True, items[gone[0] - 1]["hash"])
    answer = await client.send("GET", f"{A}/tile/entries/000")
    assert error_of(answer) == (410, "entries_expired")
    assert (await client.send("GET", f"{A}/tile/0/000")).status_code == 200
    export = (await client.send("GET", f"{A}/export")).content.splitlines(keepends=True)
    found = verify(export, [await key_by(client)])
    assert (found.result, found.expired) == (Result.INTACT, 200)
    report = (await client.send("GET", f"{A}/verify")).json()
    assert (report["ok"], report["expired"]) == (True, 200)
    shown = (await client.send("GET", f"{A}/export", params={"format": "cef"})).text
    assert len(shown.splitlines()) == proof["size"] - 200
    released = await client.send(
        "POST", f"{A}/holds/{hold['id']}/release", json={"reason": "closed"}
    )
    assert released.json()["released_by"] == "user:late"


async def key_by(client: Client) -> notes.VerifierKey:
    return notes.read_key((await client.send("GET", f"{A}/key")).json()["vkey"])


async def test_a_record_that_is_damaged_is_told_and_no_internal_error(world: HttpWorld) -> None:
    append(world, 3)
    with world.parts.database.transaction() as session:
        run = session.connection().exec_driver_sql
        run("DROP TRIGGER audit_record_no_update")
        run("UPDATE audit_record SET body = X'ff' WHERE seq = 2")
    for path in (A, f"{A}?after=1&limit=1"):
        answer = await world.client().send("GET", path)
        assert error_of(answer) == (409, "audit_damaged")
        assert "record 2 is no JSON" in answer.text
    assert (await world.client().send("GET", f"{A}?after=2")).status_code == 200


async def test_who_sees_some_devices_proves_no_records_of_others(world: HttpWorld) -> None:
    append(world, 3)
    scoped = world.client_of(world.admit("lisa", "auditor", scope="site = lyon"))
    everywhere = world.client_of(world.admit("otto", "auditor"))
    path = f"{A}/proof/inclusion"
    assert (await everywhere.send("GET", path, params={"seq": 2})).status_code == 200
    answer = await scoped.send("GET", path, params={"seq": 2})
    assert error_of(answer) == (404, "record_not_found")


async def test_a_record_that_no_bundle_may_hold_is_told(world: HttpWorld) -> None:
    with world.parts.database.transaction() as session:
        for note in ("x", "x" * 70_000):
            log.append(
                session,
                Tag.DEVICE_LABELLED,
                at=world.now,
                actor="user:ann",
                subject="device/gw-1",
                detail={"note": note},
            )
    client = world.client()
    await client.send("GET", f"{A}/checkpoint")
    items = (await client.send("GET", f"{A}?limit=1000")).json()["items"]
    first = next(item["seq"] for item in items if (item["body"]["detail"]).get("note") == "x")
    answer = await client.send("GET", f"{A}/tile/entries/000.p/{first}")
    assert answer.status_code == 200
    answer = await client.send("GET", f"{A}/tile/entries/000.p/{first + 1}")
    assert error_of(answer) == (409, "entry_too_large")
