"""Which assignments are obeyed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from simulators.device import Device, Disk
from simulators.signed import Signer, assigned, release, sign_assignment
from sprat_agent.sync.intake import Intake
from sprat_proto.assignment import Assignment

CONTROLLER, STRANGER = Signer("controller"), Signer("stranger")
RELEASE = release(Signer())
GOOD = assigned(5, [RELEASE.wanted("e1")])


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    made = Device(tmp_path, Disk())
    yield made
    made.close()


@pytest.fixture
def intake(device: Device) -> Intake:
    return Intake("gw-1", CONTROLLER.trusted, device.ledger, device.journal)


def refusals(device: Device) -> list[str]:
    audit = [json.loads(one.body) for one in device.journal.batch(99, 10**6)]
    return [one["detail"]["code"] for one in audit if one["tag"] == "agent:assignment:refused"]


def test_a_signed_newer_one_for_this_device_is_kept(device: Device, intake: Intake) -> None:
    assert intake.take(sign_assignment(CONTROLLER, GOOD))
    assert device.ledger.assignment() == GOOD


def test_a_repeated_or_older_one_changes_nothing_and_is_not_spoken_of(
    device: Device, intake: Intake
) -> None:
    intake.take(sign_assignment(CONTROLLER, GOOD))
    for version in (5, 4):
        older = assigned(version, [])
        assert not intake.take(sign_assignment(CONTROLLER, older))
    assert device.ledger.assignment() == GOOD
    assert refusals(device) == []


@pytest.mark.parametrize(
    ("signer", "assignment", "code"),
    [
        (STRANGER, GOOD, "SIGNER_UNKNOWN"),
        (CONTROLLER, assigned(5, [], device_id="gw-2"), "OTHER_DEVICE"),
        (
            CONTROLLER,
            assigned(5, [RELEASE.wanted("e1"), RELEASE.wanted("e2")]),
            "ASSIGNMENT_INVALID",
        ),
    ],
)
def test_anything_else_is_refused_and_audited_once(
    device: Device, intake: Intake, signer: Signer, assignment: Assignment, code: str
) -> None:
    envelope = sign_assignment(signer, assignment)
    for _ in range(3):
        assert not intake.take(envelope)
    assert device.ledger.assignment() is None
    assert refusals(device) == [code]


@pytest.mark.parametrize("envelope", [b"", b"{}", b"\xff", b"[" * 10_000])
def test_bytes_that_are_no_envelope_are_refused(
    device: Device, intake: Intake, envelope: bytes
) -> None:
    assert not intake.take(envelope)
    assert refusals(device) == ["SIGNATURE_INVALID"]


def test_a_manifest_signed_by_the_same_key_is_no_assignment(device: Device, intake: Intake) -> None:
    assert not intake.take(release(CONTROLLER).envelope)
    assert refusals(device) == ["SIGNATURE_INVALID"]


def test_one_changed_byte_is_refused(device: Device, intake: Intake) -> None:
    envelope = bytearray(sign_assignment(CONTROLLER, GOOD))
    envelope[envelope.index(b'"payload": "') + 20] ^= 1
    assert not intake.take(bytes(envelope))
    assert refusals(device) == ["SIGNATURE_INVALID"]
