"""A removal that the signer never heard of reaches it at the next start."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography import x509
from simulators.device_keys import DeviceKeys, csr_of, new_key, serial_in
from simulators.enrolment_desk import Desk as Enrolments
from simulators.plain_signer import PlainSigner
from simulators.signing_desk import Desk as Signing
from sprat_controller.fleet import inventory
from sprat_controller.fleet.reconcile import tell_of_removed
from sprat_controller.signer.port import CertificateRequest, SignerRefusedError
from sprat_controller.store.session import Database


@pytest.fixture
def desk(database: Database) -> Enrolments:
    return Enrolments(database)


@pytest.fixture
def signing(tmp_path: Path) -> Signing:
    return Signing(tmp_path)


def enrolled(desk: Enrolments, device_id: str) -> str:
    """Enrol a device and return its certificate's serial."""
    return serial_in(desk.enrol(desk.token(device_id), DeviceKeys()).chain_pem)


def remove_and_be_killed(desk: Enrolments, device_id: str) -> None:
    """Remove the device as the API does, up to the commit."""
    with desk.database.transaction() as session:
        inventory.remove(session, device_id, actor="token:op", now=desk.now)


def test_the_signer_revokes_who_was_removed_while_it_was_not_told(
    desk: Enrolments, signing: Signing
) -> None:
    serial = enrolled(desk, "gw-1")
    enrolled(desk, "gw-2")
    remove_and_be_killed(desk, "gw-1")
    asked = csr_of(new_key()).encode()
    signing.core.issue_certificate(CertificateRequest("device", "gw-1", asked))
    assert tell_of_removed(desk.database, signing.core, desk.now) == []
    with pytest.raises(SignerRefusedError, match="gw-1 was revoked"):
        signing.core.issue_certificate(CertificateRequest("device", "gw-1", asked))
    signing.core.issue_certificate(CertificateRequest("device", "gw-2", asked))
    crl = x509.load_pem_x509_crl(signing.core.revocation_list())
    assert [f"{one.serial_number:x}" for one in crl] == [serial]


def test_telling_it_at_each_start_changes_nothing_more(desk: Enrolments, signing: Signing) -> None:
    enrolled(desk, "gw-1")
    remove_and_be_killed(desk, "gw-1")
    for _ in range(3):
        tell_of_removed(desk.database, signing.core, desk.now)
        desk.later(days=3)
        signing.later(days=3)
    tags = [json.loads(body)["tag"] for _, body, _ in signing.records.audit()]
    assert tags == ["signer:device:revoked"]


def test_a_signer_that_is_away_stops_no_start_and_the_untold_are_named(
    desk: Enrolments, caplog: pytest.LogCaptureFixture
) -> None:
    for device_id in ("gw-1", "gw-2"):
        enrolled(desk, device_id)
        remove_and_be_killed(desk, device_id)
    signer = PlainSigner(lambda: desk.now)
    signer.is_away = True
    assert tell_of_removed(desk.database, signer, desk.now) == ["gw-1", "gw-2"]
    assert "not told that gw-1, gw-2 were removed" in caplog.text
    signer.is_away = False
    assert tell_of_removed(desk.database, signer, desk.now) == []
    assert signer.revoked == ["gw-1", "gw-2"]
