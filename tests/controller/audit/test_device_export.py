"""A device's own log is checked without the controller, from its export and the fleet's key."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
from simulators.controlled import World
from simulators.sealed import KEY
from simulators.telling import COUNT, Told, telling
from sprat_controller.audit.device_export import KEY_FIELD, is_one, record_line, verify
from sprat_controller.audit.export import MAX_LINE_BYTES, Result
from sprat_controller.audit.verify import verify_device
from sprat_controller.errors import NotFoundError
from sprat_controller.store.tables import Device
from sprat_proto import device_log, notes
from sprat_proto.merkle import leaf_hash


@pytest.fixture
def told(world: World, tmp_path: Path) -> Generator[Told]:
    with telling(world, tmp_path) as made:
        yield made


def test_an_export_of_a_devices_log_is_intact_and_anchored_in_the_controllers(told: Told) -> None:
    told.tell()
    lines = told.export()
    assert is_one(lines[0])
    assert len(lines) == 1 + 3 + COUNT + 1
    found = told.verified(lines)
    assert (found.result, found.records) == (Result.INTACT, COUNT)
    assert "its key is that of its enrolment" in found.message
    assert json.loads(lines[8])["bytes"]


def test_a_device_that_signed_nothing_has_no_export(told: Told) -> None:
    with pytest.raises(NotFoundError, match="a has signed no checkpoint"):
        told.export()


def at(lines: list[bytes], seq: int) -> int:
    del lines
    return 3 + seq


def flipped(lines: list[bytes], seq: int) -> list[bytes]:
    lines[at(lines, seq)] = lines[at(lines, seq)].replace(b"made", b"fake")
    return lines


def removed(lines: list[bytes], seq: int) -> list[bytes]:
    del lines[at(lines, seq)]
    return lines


def repeated(lines: list[bytes], seq: int) -> list[bytes]:
    lines.insert(at(lines, seq), lines[at(lines, seq)])
    return lines


def erased(lines: list[bytes], seq: int) -> list[bytes]:
    said = json.loads(lines[at(lines, seq)])
    kept = {"hash": said["hash"], "seal": said["seal"], "expired": seq}
    lines[at(lines, seq)] = json.dumps(kept).encode() + b"\n"
    return lines


def shortened(lines: list[bytes], seq: int) -> list[bytes]:
    return [*lines[: at(lines, seq)], b'{"end":%d}\n' % (seq - 1)]


def cut(lines: list[bytes], seq: int) -> list[bytes]:
    return lines[: at(lines, seq)]


def another_key(lines: list[bytes], _: int) -> list[bytes]:
    key = notes.read_key(json.loads(lines[0])["key"])
    other = notes.VerifierKey(key.name, bytes(32))
    lines[0] = lines[0].replace(str(key).encode(), str(other).encode())
    return lines


@pytest.mark.parametrize(
    ("do", "result", "seq"),
    [
        (flipped, Result.TAMPERED, 7),
        (removed, Result.TAMPERED, 7),
        (repeated, Result.TAMPERED, 8),
        (erased, Result.TAMPERED, 7),
        (shortened, Result.TAMPERED, 7),
        (cut, Result.INCOMPLETE, None),
        (another_key, Result.TAMPERED, None),
    ],
)
def test_what_was_done_to_it_is_found_and_named(
    told: Told, do: Callable[[list[bytes], int], list[bytes]], result: Result, seq: int | None
) -> None:
    told.tell()
    found = told.verified(do(told.export(), 7))
    assert (found.result, found.seq) == (result, seq), found


def test_a_log_by_a_key_that_was_not_enrolled_is_another_devices(told: Told) -> None:
    told.tell()
    told.enrol({KEY_FIELD: "0" * 64})
    found = told.verified()
    assert found.result is Result.UNKNOWN_KEY
    other = notes.verifier_key(told.desk.keys.log, "elsewhere/audit")
    assert verify(told.export(), [other]).result is Result.UNKNOWN_KEY


def test_an_enrolment_of_before_is_said_to_name_no_key(told: Told) -> None:
    told.tell()
    told.enrol({})
    assert "of before" in told.verified().message


def test_what_expired_is_vouched_for_by_the_controllers_log(told: Told) -> None:
    told.tell()
    told.expire()
    lines = told.export()
    found = told.verified(lines)
    assert (found.result, found.expired) == (Result.INTACT, COUNT), found
    assert set(json.loads(lines[-2])) == {"hash", "seal", "expired"}
    # Without the controller's word for it, they were taken out.
    without = [line for line in lines if b"controller:audit:expired" not in line]
    without = [line.replace(b'{"end":2}', b'{"end":1}') for line in without]
    found = told.verified(without)
    assert (found.result, found.seq) == (Result.TAMPERED, 1)


def in_line(lines: list[bytes], seq: int) -> int:
    """Return where a record of the device stands."""
    return next(n for n, one in enumerate(lines) if b'"seal"' in one and b'"seq": %d,' % seq in one)


def test_a_forger_who_makes_the_hash_anew_is_found_by_what_the_device_signed(told: Told) -> None:
    told.tell()
    lines = told.export()
    body = json.dumps({"seq": 7, "tag": "agent:test:forged"}).encode()
    lines[in_line(lines, 7)] = record_line(body, leaf_hash(body).hex(), bytes(32), 7)
    found = told.verified(lines)
    assert (found.result, found.seq) == (Result.TAMPERED, 1)
    assert "not those that the device signed" in found.message


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b'{"hash":"%b","seal":"","expired":7,"record":{}}\n', "found 7 as expired"),
        (b'{"hash":"%b","seal":"","expired":7,"bytes":""}\n', "found 7 as expired"),
        (b'{"hash":"%b","seal":"","expired":8}\n', "found 8 as expired"),
        (b'{"hash":"%b","seal":"","record":{},"more":1}\n', "expected a line"),
        (b'{"hash":"%b","seal":"","record":' + b"[" * 100_000 + b"}\n", "recursion depth"),
        (b'{"hash":"%b","seal":"","bytes":"%%"}\n', "expected a line"),
        (b'{"hash":"%b"', "cut off"),
        (b'{"hash":"%b' + b" " * MAX_LINE_BYTES, "at most 16 MiB"),
    ],
)
def test_a_line_that_is_none_is_named(told: Told, line: bytes, said: str) -> None:
    told.tell()
    lines = told.export()
    lines[in_line(lines, 7)] = line % (b"0" * 64)
    found = told.verified(lines)
    assert found.result is (Result.INCOMPLETE if said == "cut off" else Result.TAMPERED)
    assert found.records == 6
    assert said in found.message


@pytest.mark.parametrize(
    ("part", "instead", "said"),
    [
        (b"\n", b"\r\n", "another spelling"),
        (b'{"hash"', b' {"hash"', "another spelling"),
        (b'"record":', b'"record": ', "another spelling"),
        (b'{"hash"', b'{"hash":"00","hash"', "another spelling"),
        (b'"seal":"', b'"seal":"AB', "another spelling"),
        (b'"seal":"', b'"seal":"zz', "non-hexadecimal"),
    ],
)
def test_a_line_has_one_spelling(told: Told, part: bytes, instead: bytes, said: str) -> None:
    told.tell()
    lines = told.export()
    number = in_line(lines, 7)
    lines[number] = lines[number].replace(part, instead)
    found = told.verified(lines)
    assert (found.result, found.seq, found.records) == (Result.TAMPERED, 7, 6)
    assert said in found.message


def test_a_line_of_what_expired_has_one_spelling(told: Told) -> None:
    told.tell()
    told.expire()
    lines = told.export()
    lines[-2] = lines[-2].replace(b'"expired":', b'"expired": ')
    found = told.verified(lines)
    assert (found.result, found.seq) == (Result.TAMPERED, COUNT)
    assert "another spelling" in found.message


@pytest.mark.parametrize("seq", [5, 7])
def test_bytes_that_are_written_another_way_are_another_spelling(told: Told, seq: int) -> None:
    """Record 5 has a line end in it, and is the only one that is written as bytes."""
    told.tell()
    lines = told.export()
    number = next(n for n, one in enumerate(lines) if b'"seal"' in one) + seq - 1
    said = json.loads(lines[number])
    if seq == 7:
        body = json.dumps(said.pop("record")).encode()
        said["bytes"] = base64.b64encode(body).decode()
    lines[number] = json.dumps(said).encode() + b"\n"
    found = told.verified(lines)
    assert (found.result, found.seq) == (Result.TAMPERED, seq)
    assert "another spelling" in found.message


@pytest.mark.parametrize(
    ("end", "said"),
    [
        (b'{"end":-1}\n', "the last line counts -1 records, found 70"),
        (b'{"end":69}\n', "the last line counts 69 records, found 70"),
        (b'{"end":70 }\n', "another spelling"),
        (b'{"end":70}\r\n', "another spelling"),
    ],
)
def test_a_last_line_that_counts_wrongly_or_is_spelled_otherwise_is_said(
    told: Told, end: bytes, said: str
) -> None:
    told.tell()
    found = told.verified([*told.export()[:-1], end])
    assert (found.result, found.seq, found.records) == (Result.TAMPERED, COUNT + 1, COUNT)
    assert said in found.message


def test_a_first_line_with_other_line_ends_is_of_a_file_that_was_changed(told: Told) -> None:
    told.tell()
    lines = told.export()
    lines[0] = lines[0].replace(b"\n", b"\r\n")
    found = told.verified(lines)
    assert found.result is Result.TAMPERED
    assert "found CR LF" in found.message


def test_what_follows_the_end_and_another_version_are_refused(told: Told) -> None:
    told.tell()
    lines = told.export()
    found = told.verified([*lines, lines[-2]])
    assert (found.result, found.message) == (Result.TAMPERED, "something follows the last line")
    lines[0] = lines[0].replace(b'"sprat_device_log":1', b'"sprat_device_log":2')
    assert told.verified(lines).message == "expected version 1, found 2"


def test_a_log_that_arrived_as_another_than_the_device_signed_is_found(told: Told) -> None:
    told.tell()
    database = told.world.database
    with database.reading() as session:
        assert verify_device(session, "a").ok
    with database.transaction() as session:
        device = session.get_one(Device, "a")
        device.audit_checkpoint = device_log.sign(KEY, "a", COUNT, bytes(32))
        session.add(device)
    with database.reading() as session:
        report = verify_device(session, "a")
    assert (report.ok, report.message) == (
        False,
        "the device's last checkpoint is of another log",
    )
