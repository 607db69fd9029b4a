from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest
from simulators.http_world import new_csr
from sprat_controller.audit.denials import Denials
from sprat_controller.audit.verify import verify_controller
from sprat_controller.errors import ConflictError, DeniedError, RequestError
from sprat_controller.fleet import enrolment
from sprat_controller.fleet.ca import CertificateAuthority, key_sha256_of_csr
from sprat_controller.fleet.enrolment import Enrolled
from sprat_controller.ids import new_secret
from sprat_controller.store.session import Database
from sprat_controller.store.tables import AuditRecord, Device
from sprat_proto import claim
from sqlmodel import select

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


@dataclass
class Desk:
    """Makes tokens and redeems them."""

    database: Database
    authority: CertificateAuthority
    new_id: Callable[[], str]

    def token(self, device_id: str = "gw-1", lifetime: timedelta = timedelta(hours=1)) -> str:
        with self.database.transaction() as session:
            _, made = enrolment.create_token(
                session,
                device_id=device_id,
                labels={"site": "lyon"},
                lifetime=lifetime,
                actor="token:op",
                now=NOW,
                ca_fingerprint=self.authority.fingerprint,
                new_id=self.new_id,
                new_secret=new_secret,
            )
        return str(made)

    def enrol(self, token: str, csr: bytes, now: datetime = NOW) -> Enrolled:
        denials = Denials(self.database)
        return enrolment.enrol(
            self.database, self.authority, denials, token=token, csr_pem=csr, now=now
        )

    def refused(self) -> list[AuditRecord]:
        with self.database.reading() as session:
            records = session.exec(select(AuditRecord)).all()
            assert verify_controller(session).ok
        return [record for record in records if record.tag == "device:identity:refused"]

    def devices(self) -> list[str]:
        with self.database.reading() as session:
            return list(session.exec(select(Device.id)))


@pytest.fixture
def desk(database: Database, tmp_path: Path) -> Desk:
    numbers = count(1)
    authority = CertificateAuthority.create(tmp_path / "ca", NOW)
    return Desk(database, authority, lambda: f"id-{next(numbers)}")


def test_a_lost_answer_is_asked_for_again_with_the_same_key(desk: Desk) -> None:
    token, csr = desk.token(), new_csr()
    first = desk.enrol(token, csr)
    # The token has ended by then: it was used in time.
    second = desk.enrol(token, csr, NOW + timedelta(days=3))
    assert second == first
    assert desk.devices() == ["gw-1"]
    with desk.database.reading() as session:
        device = session.get(Device, "gw-1")
    assert device is not None
    assert device.key_sha256 == key_sha256_of_csr(csr)


def test_another_key_cannot_use_the_token_again(desk: Desk) -> None:
    token = desk.token()
    desk.enrol(token, new_csr())
    with pytest.raises(ConflictError, match="was used already") as refusal:
        desk.enrol(token, new_csr())
    assert refusal.value.code == "token_used"
    assert b'"code":"token_used"' in desk.refused()[-1].body


def test_the_name_in_the_csr_counts_for_nothing(desk: Desk) -> None:
    assert desk.enrol(desk.token("gw-1"), new_csr("gw-2")).device_id == "gw-1"


def test_an_expired_token_says_until_when_it_was_good(desk: Desk) -> None:
    token = desk.token(lifetime=timedelta(hours=1))
    with pytest.raises(DeniedError, match="2026-11-23T13:00:00") as refusal:
        desk.enrol(token, new_csr(), NOW + timedelta(hours=1))
    assert refusal.value.code == "token_expired"
    assert desk.devices() == []


def test_a_revoked_token_looks_like_one_that_never_was(desk: Desk) -> None:
    token = desk.token()
    with desk.database.transaction() as session:
        enrolment.revoke_token(session, "id-1", actor="token:op", now=NOW)
    never = str(claim.Claim(new_secret(), desk.authority.fingerprint))
    with pytest.raises(DeniedError) as revoked:
        desk.enrol(token, new_csr())
    with pytest.raises(DeniedError) as unknown:
        desk.enrol(never, new_csr())
    assert (revoked.value.code, revoked.value.message, revoked.value.details) == (
        unknown.value.code,
        unknown.value.message,
        unknown.value.details,
    )
    assert [record.actor for record in desk.refused()] == ["stranger", "stranger"]


def test_a_used_token_cannot_be_revoked(desk: Desk) -> None:
    desk.enrol(desk.token(), new_csr())
    with pytest.raises(ConflictError, match="remove the device"), desk.database.transaction() as s:
        enrolment.revoke_token(s, "id-1", actor="token:op", now=NOW)


@pytest.mark.parametrize("csr", [b"", b"text", b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n"])
def test_a_bad_csr_leaves_the_token_good(desk: Desk, csr: bytes) -> None:
    token = desk.token()
    with pytest.raises(RequestError) as refusal:
        desk.enrol(token, csr)
    assert refusal.value.code == "bad_csr"
    assert desk.enrol(token, new_csr()).device_id == "gw-1"


def test_text_that_is_no_token_is_not_repeated(desk: Desk) -> None:
    with pytest.raises(RequestError) as refusal:
        desk.enrol("sprat1.secret", new_csr())
    assert "secret" not in refusal.value.message.replace("<secret>", "")


def test_of_two_tokens_for_one_name_one_is_used(desk: Desk) -> None:
    first, second = desk.token(), desk.token()
    desk.enrol(first, new_csr())
    with pytest.raises(ConflictError) as refusal:
        desk.enrol(second, new_csr())
    assert refusal.value.code == "device_exists"
    assert desk.devices() == ["gw-1"]


def test_a_failure_while_signing_changes_nothing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    token, csr = desk.token(), new_csr()
    with monkeypatch.context() as patch:
        patch.setattr(enrolment, "_register", None)
        with pytest.raises(TypeError):
            desk.enrol(token, csr)
    assert desk.devices() == []
    assert desk.enrol(token, csr).device_id == "gw-1"
