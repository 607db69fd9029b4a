"""A report as it is written: what proves it, and what is said of a log that is not proved."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Generator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from simulators.controlled import World
from simulators.telling import COUNT, Told, telling
from sprat_controller.access.scopes import EVERYTHING, Scope, read
from sprat_controller.audit import device_export, export
from sprat_controller.audit.checkpoints import Signed
from sprat_controller.audit.export import Finding, Result
from sprat_controller.report import archive
from sprat_controller.report.compose import Question
from sprat_controller.report.frameworks import Framework
from sprat_controller.store.queries import AuditFilter
from sprat_controller.store.tables import AuditRecord, Device, DeviceAuditRecord, DeviceLabel
from sprat_proto.approval import NOBODY
from sprat_proto.notes import VerifierKey

LOG = "devices/a.jsonl"


@dataclass(frozen=True)
class Made:
    """A report as its reader has it."""

    files: dict[str, bytes]
    key: VerifierKey

    @property
    def report(self) -> Any:
        return json.loads(self.files["report.json"])

    def about(self, log: str) -> dict[str, Any]:
        (row,) = (one for one in self.report["tables"]["logs"]["statements"] if one["log"] == log)
        return row

    def fault(self, log: str = "a") -> str:
        """What is wrong, which the page says too, at its top."""
        fault = str(self.about(log)["fault"])
        page = self.files["report.html"].decode()
        top = page[: page.index("<dl>")]
        assert (f"<strong>{log}</strong>" in top) == bool(fault)
        assert fault.replace("'", "&#x27;") in top
        return fault

    def verified(self, name: str) -> Finding:
        lines = self.files[name].splitlines(keepends=True)
        check = device_export.verify if device_export.is_one(lines[0]) else export.verify
        return check(lines, [self.key])


@pytest.fixture
def told(world: World, tmp_path: Path) -> Generator[Told]:
    with telling(world, tmp_path) as made:
        yield made


def signed(told: Told) -> Signed:
    made = told.checkpoints.make(told.world.now)
    assert made is not None
    return made


def made(told: Told, by: Signed | None = None, scope: Scope = EVERYTHING) -> Made:
    sources = archive.Sources(
        told.world.database,
        told.checkpoints.key(),
        by or signed(told),
        NOBODY,
        AuditFilter(within=scope),
        sees_people=True,
    )
    into = BytesIO()
    archive.write(into, sources, Question(Framework.EU_AI_ACT, told.world.now))
    with zipfile.ZipFile(into) as read_:
        files = {name: read_.read(name) for name in read_.namelist()}
    return Made(files, told.checkpoints.key())


def test_the_logs_in_it_are_exports_that_are_verified_with_one_key(told: Told) -> None:
    told.tell()
    report = made(told)
    assert report.fault() == report.fault("controller") == ""
    assert report.verified(LOG).result is report.verified(archive.EVIDENCE).result is Result.INTACT
    row = report.about("a")
    assert (row["file"], row["present"], row["size"]) == (LOG, COUNT, COUNT)
    assert (row["key_bound"], row["whole"]) == (True, True)
    # Also the one whose JSON has line ends in it was read.
    assert row["records"]["a"] == [1, COUNT]


def test_a_device_that_signed_nothing_is_named_with_the_reason(told: Told) -> None:
    report = made(told)
    assert report.fault() == "the device a has signed no checkpoint of its log yet"
    assert (report.about("a")["file"], LOG in report.files) == ("", False)


def change(told: Told, **values: object) -> None:
    with told.world.database.transaction() as session:
        device = session.get_one(Device, "a")
        for name, value in values.items():
            setattr(device, name, value)


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"audit_checkpoint": "nonsense"}, "what is kept of the log of a is not what "),
        ({"audit_key": "nonsense"}, "what is kept of the log of a is not what "),
    ],
)
def test_a_device_whose_checkpoint_cannot_be_read_is_named(
    told: Told, values: dict[str, object], why: str
) -> None:
    told.tell()
    change(told, **values)
    report = made(told)
    assert report.fault().startswith(why)
    assert LOG not in report.files


def test_a_device_whose_enrolment_is_not_signed_yet_is_named(told: Told) -> None:
    told.tell()
    before = signed(told)
    told.enrol({})
    assert "is in no checkpoint yet" in made(told, before).fault()


def test_a_log_that_was_changed_is_said_to_be_and_is_there_as_it_is(told: Told) -> None:
    told.tell()
    with told.world.database.transaction() as session:
        record = session.get_one(DeviceAuditRecord, ("a", 7))
        record.body = record.body.replace(b"made", b"fake")
    report = made(told)
    assert report.fault().startswith("record 7: this record was changed")
    assert report.verified(LOG).message == report.fault()
    # All of it, and not only what is before the fault.
    assert report.files[LOG].endswith(b'{"end":%d}\n' % COUNT)
    assert report.about("a")["present"] == COUNT


def test_a_record_that_cannot_be_read_does_not_keep_the_report_from_being_made(told: Told) -> None:
    told.tell()
    with told.world.database.transaction() as session:
        session.get_one(DeviceAuditRecord, ("a", 7)).body = b"\xff{"
    report = made(told)
    assert report.fault().startswith("record 7: ")
    assert report.about("a")["present"] == COUNT - 1


def test_a_checkpoint_by_another_key_is_said_to_be(told: Told) -> None:
    told.tell()
    with told.world.database.reading() as session:
        checkpoint = session.get_one(Device, "a").audit_checkpoint
    assert checkpoint is not None
    head, _, signature = checkpoint.rstrip("\n").rpartition(" ")
    change(told, audit_checkpoint=f"{head} {signature[:8]}{'A' * len(signature[8:])}\n")
    report = made(told)
    assert report.fault().startswith("expected the first line of an export of a device's log: ")
    assert report.verified(LOG).message == report.fault()


def test_a_record_of_the_controller_that_was_changed_is_said_to_be(told: Told) -> None:
    told.tell()
    by = signed(told)
    with told.world.database.transaction() as session:
        record = session.get_one(AuditRecord, 1)
        record.body = record.body.replace(b"success", b"failure")
    report = made(told, by)
    assert report.fault("controller").startswith("record 1: it was changed")
    assert report.files[archive.EVIDENCE].endswith(b'{"end":%d}\n' % by.checkpoint.size)


def test_whatever_a_device_puts_on_record_the_report_is_made(told: Told) -> None:
    deep: object = []
    for _ in range(50):
        deep = [deep]
    odd = (1.5, (1 << 64) - 1, -(1 << 63), deep, "<script>\u202e\u0000", None, True)
    tags = ("agent:configuration:changed", "agent:execution:entered", "agent:model:loaded")
    detail = ("phase", "alias", "digest", "signer", "changed", "to")
    told.tell(
        *(
            {
                "tag": tag,
                "ts": one,
                "actor": one,
                "subject": one if isinstance(one, str) else "execution/e",
                "outcome": one,
                "detail": dict.fromkeys(detail, one),
            }
            for one in odd
            for tag in (*tags, "application:inference:answered")
        )
    )
    report = made(told)
    assert report.fault() == ""
    assert report.about("a")["present"] == COUNT + 4 * len(odd)
    assert b"<script>" not in report.files["report.html"]


def test_what_expired_is_proved_to_who_may_see_all_and_said_to_be_unproved_elsewhere(
    told: Told,
) -> None:
    told.world.join("elsewhere")
    with told.world.database.transaction() as session:
        session.add(DeviceLabel(device_id="a", key="site", value="lyon"))
    told.tell()
    told.expire()
    whole = made(told)
    assert whole.fault() == ""
    assert whole.about("a")["expired"] == COUNT
    part = made(told, scope=read("site = lyon"))
    assert part.fault().startswith(f"{COUNT} records of a, the first of them 1, have no body")
    assert part.verified(LOG).result is Result.INCOMPLETE
    assert not any(b"controller:audit:expired" in data for data in part.files.values())
    assert not any(b"elsewhere" in data for data in part.files.values())
