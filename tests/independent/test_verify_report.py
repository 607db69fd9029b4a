"""The second checker: it takes a real report, and names what was done to one that is not."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from simulators.http_world import HttpWorld
from sprat_controller.audit import log
from sprat_controller.report.events import TABLES
from sprat_controller.store.tables import Device, DeviceAuditRecord
from sprat_proto import audit_events, device_log
from sprat_proto.audit_events import Tag
from sprat_proto.merkle import Frontier, leaf_hash

SCRIPT = Path(__file__).with_name("verify_report.py")
DIGEST = "d1" * 32
Change: TypeAlias = Callable[[Path], None]


def entered(phase: str, execution: str) -> tuple[Tag, str, dict[str, object]]:
    detail: dict[str, object] = {"phase": phase, "alias": "assistant", "digest": DIGEST}
    return Tag.EXECUTION_ENTERED, f"execution/{execution}", detail


def add_device(world: HttpWorld, name: str = "gw-1") -> None:
    """Enrol a device whose log says that it brought in a model, and then forgot it."""
    key = Ed25519PrivateKey.generate()
    spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    told: list[tuple[Tag, str, dict[str, object]]] = [
        (Tag.AGENT_STARTED, f"device/{name}", {"version": "1"}),
        entered("SOAKING", "e-1"),
        entered("SUCCEEDED", "e-1"),
        (Tag.ALIAS_FORGOTTEN, "alias/assistant", {"digest": DIGEST}),
    ]
    tree = Frontier()
    with world.parts.database.transaction() as session:
        device = Device(
            id=name, state="REGISTERED", audit_key=pem, key_sha256="", enrolled_at=world.now
        )
        session.add(device)
        session.flush()
        for seq, (tag, subject, detail) in enumerate(told, 1):
            body = audit_events.encode(
                log=name,
                seq=seq,
                at=world.now,
                actor=audit_events.actor_of(f"device:{name}"),
                tag=tag,
                subject=subject,
                outcome="success",
                detail=detail,
                more={"tsq": "synced"},
            )
            leaf = leaf_hash(body)
            tree.append(leaf)
            session.add(
                DeviceAuditRecord(
                    device_id=name, seq=seq, body=body, hash=leaf.hex(), received_at=world.now
                )
            )
        device.audit_checkpoint = device_log.sign(key, name, tree.size, tree.root())
        at, rollout = world.now, "rollout/r-1"
        log.append(
            session,
            Tag.DEVICE_ENROLLED,
            at=at,
            actor=f"device:{name}",
            subject=f"device/{name}",
            detail={"audit_key_sha256": hashlib.sha256(spki).hexdigest()},
        )
        log.append(
            session,
            Tag.ROLLOUT_CREATED,
            at=at,
            actor="user:ann",
            subject=rollout,
            detail={"release": "talk@1.0.0", "alias": "assistant"},
        )
        for who in ("user:bob", "user:ann"):
            detail = {"spec": "5e" * 32, "key": ""}
            log.append(
                session, Tag.ROLLOUT_APPROVED, at=at, actor=who, subject=rollout, detail=detail
            )


async def make(world: HttpWorld, folder: Path, query: str = "") -> str:
    """Write a report into a folder and return the log's key."""
    client = world.client()
    answer = await client.get(f"reports/iec-62443{query}")
    assert answer.status_code == 200, answer.text
    with zipfile.ZipFile(BytesIO(answer.content)) as made:
        made.extractall(folder)
    return str((await client.get("audit/key")).json()["vkey"])


def check(folder: Path, key: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, SCRIPT, folder, key], check=False, capture_output=True, text=True
    )
    return done.returncode, done.stdout + done.stderr


def report_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "report.json").read_bytes())


def lines_of(folder: Path, change: Callable[[list[bytes]], None], name: str) -> None:
    """Change the lines of a log, and what the report says of the file."""
    file = folder / name
    lines = file.read_bytes().split(b"\n")
    change(lines)
    file.write_bytes(b"\n".join(lines))


def said(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    report = report_of(folder)
    change(report["tables"])
    (folder / "report.json").write_text(json.dumps(report), encoding="utf-8")


def record_at(lines: list[bytes], nth: int = 2) -> int:
    return [at for at, line in enumerate(lines) if line.startswith(b'{"hash"')][nth]


def flipped(lines: list[bytes]) -> None:
    at = record_at(lines)
    lines[at] = lines[at].replace(b"success", b"failure")


def removed(lines: list[bytes]) -> None:
    del lines[record_at(lines)]


def inserted(lines: list[bytes]) -> None:
    at = record_at(lines)
    lines.insert(at, lines[at])


def reordered(lines: list[bytes]) -> None:
    first, second = record_at(lines, 1), record_at(lines, 2)
    lines[first], lines[second] = lines[second], lines[first]


LOGS = ["evidence.jsonl", "devices/gw-1.jsonl"]


async def test_a_real_report_is_taken_whole_and_in_part(world: HttpWorld, tmp_path: Path) -> None:
    add_device(world)
    for query in ("", "?device=gw-1", "?since=2027-01-01T00:00:00Z"):
        folder = tmp_path / f"made{len(query)}"
        status, told = check(folder, await make(world, folder, query))
        assert status == 0, told
        assert "statements follow from" in told
    tables = report_of(tmp_path / "made0")["tables"]
    assert {row["subject"] for row in tables["access"]["statements"]} >= {"user:admin"}
    approvals = tables["approvals"]["statements"]
    assert [(one["approver"], one["independent"]) for one in approvals] == [
        ("user:bob", True),
        ("user:ann", False),
    ]


@pytest.mark.parametrize("name", LOGS)
@pytest.mark.parametrize("change", [flipped, removed, inserted, reordered])
async def test_a_log_that_was_changed_is_named(
    world: HttpWorld, tmp_path: Path, change: Callable[[list[bytes]], None], name: str
) -> None:
    add_device(world)
    key = await make(world, tmp_path / "made")
    lines_of(tmp_path / "made", change, name)
    status, told = check(tmp_path / "made", key)
    assert status == 1
    assert Path(name).name in told


def set_author(tables: dict[str, Any]) -> None:
    tables["approvals"]["statements"][1]["author"] = "user:eve"


def set_independent(tables: dict[str, Any]) -> None:
    tables["approvals"]["statements"][1]["independent"] = True


def lose_approval(tables: dict[str, Any]) -> None:
    del tables["approvals"]["statements"][0]


def set_role(tables: dict[str, Any]) -> None:
    tables["access"]["statements"][0]["role"] = "owner"


def cite_nothing(tables: dict[str, Any]) -> None:
    tables["access"]["statements"][0]["records"] = {"controller": [4711]}


def lose_enrolment(tables: dict[str, Any]) -> None:
    tables["enrolments"]["statements"].clear()


def set_release(tables: dict[str, Any]) -> None:
    tables["rollouts"]["statements"][0]["release"] = "talk@9.9.9"


@pytest.mark.parametrize(
    ("change", "table"),
    [
        (set_author, "approvals"),
        (set_independent, "approvals"),
        (lose_approval, "approvals"),
        (set_role, "access"),
        (cite_nothing, "access"),
        (lose_enrolment, "enrolments"),
        (set_release, "rollouts"),
    ],
)
async def test_a_statement_that_does_not_follow_is_named(
    world: HttpWorld, tmp_path: Path, change: Callable[[dict[str, Any]], None], table: str
) -> None:
    add_device(world)
    key = await make(world, tmp_path / "made")
    said(tmp_path / "made", change)
    status, told = check(tmp_path / "made", key)
    assert (status, told.partition(":")[0]) == (1, table)


async def test_another_key_is_refused(world: HttpWorld, tmp_path: Path) -> None:
    add_device(world)
    key = await make(world, tmp_path / "made")
    name, key_id, public = key.split("+", 2)
    other = f"{name}+{'0' * len(key_id)}+{public}"
    status, told = check(tmp_path / "made", other)
    assert status == 1
    assert "not signed by its key" in told


async def test_runs_are_what_the_device_said(world: HttpWorld, tmp_path: Path) -> None:
    add_device(world)
    answer = await world.client().get("reports/eu-ai-act")
    with zipfile.ZipFile(BytesIO(answer.content)) as made:
        made.extractall(tmp_path / "made")
    (run,) = report_of(tmp_path / "made")["tables"]["runs"]["statements"]
    assert (run["device"], run["digest"], run["kind"]) == ("gw-1", DIGEST, "committed")
    assert run["records"] == {"gw-1": [3, 4]}
    key = str((await world.client().get("audit/key")).json()["vkey"])
    assert check(tmp_path / "made", key)[0] == 0
    said(tmp_path / "made", lambda tables: tables["runs"]["statements"][0].update(digest="ff" * 32))
    status, told = check(tmp_path / "made", key)
    assert (status, told[:5]) == (1, "runs:")


def test_it_is_short_and_knows_which_records_are_listed() -> None:
    text = SCRIPT.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    assert "sprat_" not in text
    lists = {name: [str(tag) for tag in one.tags] for name, one in TABLES.items()}
    digest = hashlib.sha256(json.dumps(lists, sort_keys=True).encode()).hexdigest()
    assert f'LISTS = "{digest}"' in text
