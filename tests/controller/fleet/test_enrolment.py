from __future__ import annotations

import base64
import dataclasses
import hashlib
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from simulators.device_keys import (
    DeviceKeys,
    certificate_of,
    csr_of,
    name_in,
    new_key,
    public_pem,
)
from simulators.enrolment_desk import Desk
from sprat_controller.errors import ConflictError, DeniedError, RequestError, UnavailableError
from sprat_controller.fleet import enrolment, inventory
from sprat_controller.fleet.certificates import Given
from sprat_controller.ids import new_secret
from sprat_controller.store.session import Database
from sprat_controller.store.tables import DeviceLabel, EnrolmentToken
from sprat_proto import claim
from sqlalchemy import event
from sqlmodel import select

REFUSED, CONTESTED = "device:identity:refused", "device:enrolment:contested"
RACERS = 64
LONG = timedelta(days=30)


@pytest.fixture
def desk(database: Database) -> Desk:
    return Desk(database)


def refusal(desk: Desk, token: str, keys: DeviceKeys | None = None) -> RequestError:
    with pytest.raises(RequestError) as caught:
        desk.enrol(token, keys or DeviceKeys())
    return caught.value


def remove(desk: Desk, device_id: str) -> None:
    with desk.database.transaction() as session:
        inventory.remove(session, device_id, actor="token:op", now=desk.now)


def test_a_device_has_the_name_the_group_and_the_labels_of_its_token(desk: Desk) -> None:
    keys = DeviceKeys()
    given = desk.enrol(desk.token(group="shop", grace_days=30), keys)
    assert (given.device_id, given.group, name_in(given.chain_pem)) == ("gw-1", "shop", "gw-1")
    device = desk.device()
    assert (device.group, device.grace_days, device.hardware_id) == ("shop", 30, "cpu-x86_64")
    assert device.identity_key == public_pem(keys.identity)
    with desk.database.reading() as session:
        label = session.exec(select(DeviceLabel)).one()
    assert (label.key, label.value) == ("site", "lyon")


def test_the_record_names_the_key_of_the_devices_audit_log(desk: Desk) -> None:
    keys = DeviceKeys()
    desk.enrol(desk.token(), keys)
    encoded = keys.audit.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    (record,) = desk.audited("device:identity:enrolled")
    detail = msgspec.json.decode(record.body)["detail"]
    assert detail["audit_key_sha256"] == hashlib.sha256(encoded).hexdigest()


def test_the_secret_is_not_kept(desk: Desk) -> None:
    secret = claim.parse(desk.token()).secret
    with desk.database.reading() as session:
        row = session.exec(select(EnrolmentToken)).one()
    assert secret not in str(row.model_dump())


def test_t23_of_64_racers_with_one_token_one_wins_and_the_others_are_alarms(desk: Desk) -> None:
    token = desk.token()
    requests = [DeviceKeys().enrolment(token) for _ in range(RACERS)]
    together = threading.Barrier(RACERS)
    won: list[Given] = []
    lost: list[str] = []

    def race(request: enrolment.Request) -> None:
        together.wait()
        try:
            won.append(desk.send(request))
        except ConflictError as error:
            lost.append(error.code)

    threads = [threading.Thread(target=race, args=(request,)) for request in requests]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert lost == ["token_used"] * (RACERS - 1)
    assert desk.devices() == ["gw-1"]
    assert len(desk.audited(CONTESTED)) == RACERS - 1
    assert desk.device().chain_pem == won[0].chain_pem


def test_t23_a_token_that_was_used_is_refused_to_other_keys_and_that_is_an_alarm(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    token, keys = desk.token(), DeviceKeys()
    desk.enrol(token, keys)
    for other in (DeviceKeys(), DeviceKeys(identity=keys.identity), DeviceKeys(tls=keys.tls)):
        refused = refusal(desk, token, other)
        assert (refused.code, refused.status) == ("token_used", 409)
    assert len(desk.audited(CONTESTED)) == 3
    assert "was shown with other keys" in caplog.text


def test_t24_a_lost_answer_is_given_again_to_the_same_keys(desk: Desk) -> None:
    token, keys = desk.token(), DeviceKeys()
    first = desk.enrol(token, keys)
    # The token has ended by then: it was used in time. The device signs anew, and so differently.
    desk.later(days=3)
    assert desk.enrol(token, keys) == first
    assert desk.devices() == ["gw-1"]
    assert len(desk.audited("device:identity:enrolled")) == 1


def test_t24_an_answer_lost_before_it_was_kept_leaves_the_token_good(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    token, keys = desk.token(), DeviceKeys()
    for step in ("_next_name", "_register"):
        with monkeypatch.context() as patch:
            patch.setattr(enrolment, step, None)
            with pytest.raises(TypeError):
                desk.enrol(token, keys)
        assert desk.devices() == []
    desk.signer.is_away = True
    with pytest.raises(UnavailableError, match="try again"):
        desk.enrol(token, keys)
    desk.signer.is_away = False
    assert desk.enrol(token, keys).device_id == "gw-1"


@pytest.mark.parametrize("name", ["controller", "+", "../../etc", "admin", "gw-2", "#"])
def test_t25_the_name_in_the_csr_counts_for_nothing(desk: Desk, name: str) -> None:
    keys = DeviceKeys()
    given = desk.enrol(desk.token(), keys, csr_of(keys.tls, name))
    assert (given.device_id, name_in(given.chain_pem)) == ("gw-1", "gw-1")


def test_t25_an_authority_asked_for_in_the_csr_is_not_given(desk: Desk) -> None:
    keys = DeviceKeys()
    csr = csr_of(keys.tls, "gw-1", x509.BasicConstraints(ca=True, path_length=9))
    certificate = certificate_of(desk.enrol(desk.token(), keys, csr).chain_pem)
    granted = [one.value for one in certificate.extensions]
    assert not any(isinstance(one, x509.BasicConstraints) and one.ca for one in granted)


def _with_key_of(csr: str, victim: str) -> str:
    """Return a request in which the victim's key stands in the place of its own."""
    encodings = [x509.load_pem_x509_csr(one.encode()).public_key() for one in (csr, victim)]
    own, other = (
        key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) for key in encodings
    )
    der = x509.load_pem_x509_csr(csr.encode()).public_bytes(Encoding.DER).replace(own, other)
    what, body = "CERTIFICATE REQUEST", base64.encodebytes(der).decode()
    return f"-----BEGIN {what}-----\n{body}-----END {what}-----\n"


@pytest.mark.parametrize(
    ("key", "code"),
    [
        (lambda: rsa.generate_private_key(65537, 1024), "weak_key"),  # noqa: S505 - the case
        (lambda: rsa.generate_private_key(65537, 2048), "weak_key"),
        (lambda: ec.generate_private_key(ec.SECP256K1()), "weak_key"),
        (lambda: ec.generate_private_key(ec.SECP521R1()), "weak_key"),
    ],
)
def test_t25_a_key_of_another_kind_is_refused(
    desk: Desk, key: Callable[[], rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey], code: str
) -> None:
    token = desk.token()
    assert refusal(desk, token, DeviceKeys(tls=key())).code == code
    assert desk.enrol(token, DeviceKeys()).device_id == "gw-1"


@pytest.mark.parametrize(
    "tls", [lambda: ec.generate_private_key(ec.SECP384R1()), ed25519.Ed25519PrivateKey.generate]
)
def test_t25_the_good_kinds_of_key_are_taken(
    desk: Desk, tls: Callable[[], ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey]
) -> None:
    assert desk.enrol(desk.token(), DeviceKeys(tls=tls())).device_id == "gw-1"


@pytest.mark.parametrize(
    "csr",
    [
        "text",
        "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
        f"{csr_of(new_key())}{'x' * (1 << 20)}",
    ],
)
def test_t25_a_csr_that_is_none_or_enormous_leaves_the_token_good(desk: Desk, csr: str) -> None:
    token, keys = desk.token(), DeviceKeys()
    with pytest.raises(RequestError) as caught:
        desk.enrol(token, keys, csr)
    assert caught.value.code == "bad_csr"
    assert desk.enrol(token, keys).device_id == "gw-1"


def test_t25_a_csr_of_somebody_elses_key_is_refused(desk: Desk) -> None:
    keys, victim = DeviceKeys(), new_key()
    csr = _with_key_of(csr_of(keys.tls), csr_of(victim))
    with pytest.raises(RequestError, match="signed by the key it holds"):
        desk.enrol(desk.token(), keys, csr)


def test_a_claim_without_the_identity_keys_signature_is_refused(desk: Desk) -> None:
    """Nobody can have his TLS key certified under another's identity, nor swap the CSR."""
    keys, token = DeviceKeys(), desk.token()
    good = keys.enrolment(token)
    for changed in (
        dataclasses.replace(good, csr_pem=csr_of(new_key())),
        dataclasses.replace(good, identity_key_pem=public_pem(new_key())),
        dataclasses.replace(good, audit_key_pem=DeviceKeys().enrolment(token).audit_key_pem),
        dataclasses.replace(good, audit_seed=bytes(32)),
        dataclasses.replace(good, token=desk.token("gw-2")),
        dataclasses.replace(good, signature=b""),
    ):
        with pytest.raises(RequestError) as caught:
            desk.send(changed)
        assert caught.value.code == "bad_signature"
    assert desk.devices() == []
    assert desk.send(good).device_id == "gw-1"


def test_what_seals_the_audit_log_must_be_a_key_and_a_whole_seed(desk: Desk) -> None:
    keys, token = DeviceKeys(), desk.token()
    good = keys.enrolment(token)
    for changed in (
        dataclasses.replace(good, audit_key_pem=public_pem(new_key())),
        dataclasses.replace(good, audit_key_pem="x"),
        dataclasses.replace(good, audit_seed=bytes(31)),
        dataclasses.replace(good, audit_seed=b""),
    ):
        with pytest.raises(RequestError) as caught:
            desk.send(changed)
        assert caught.value.code == "bad_audit_key"
    assert desk.send(good).device_id == "gw-1"


def test_who_asks_again_with_another_seed_is_somebody_else(desk: Desk) -> None:
    keys, token = DeviceKeys(), desk.token()
    desk.enrol(token, keys)
    keys.audit_seed = bytes(32)
    with pytest.raises(ConflictError) as caught:
        desk.enrol(token, keys)
    assert caught.value.code == "token_used"


def test_one_key_cannot_be_both_keys(desk: Desk) -> None:
    key = new_key()
    assert refusal(desk, desk.token(), DeviceKeys(key, key)).code == "weak_key"


def _refused_at_a_cost(desk: Desk, token: str, keys: DeviceKeys) -> tuple[RequestError, int]:
    """Return a refusal, and how many statements the database was given for it."""
    made: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        made.append(statement)

    event.listen(desk.database.engine, "before_cursor_execute", note)
    try:
        refused = refusal(desk, token, keys)
        return refused, len(made)
    finally:
        event.remove(desk.database.engine, "before_cursor_execute", note)


def test_t26_expired_guessed_revoked_and_deleted_look_the_same_and_cost_the_same(
    desk: Desk,
) -> None:
    keys = DeviceKeys()
    expired, revoked = desk.token("gw-1"), desk.token("gw-2")
    with desk.database.transaction() as session:
        enrolment.revoke_token(session, "id-2", actor="token:op", now=desk.now)
    deleted, unused = desk.token("gw-3", lifetime=LONG), desk.token("gw-3", lifetime=LONG)
    desk.enrol(deleted, keys)
    remove(desk, "gw-3")
    desk.later(days=1)
    guessed = str(claim.Claim(new_secret(), desk.signer.fingerprint))
    seen: set[tuple[str, int, str, str, int]] = set()
    for token in (expired, guessed, revoked, deleted, unused):
        error, cost = _refused_at_a_cost(desk, token, keys)
        seen.add((error.code, error.status, error.message, str(error.details), cost))
    assert [one[:2] for one in seen] == [("token_refused", 403)]
    assert {record.actor for record in desk.audited(REFUSED)} == {"stranger"}


def test_a_removed_device_never_comes_back_under_its_name(desk: Desk) -> None:
    token, keys = desk.token(), DeviceKeys()
    desk.enrol(token, keys)
    remove(desk, "gw-1")
    assert refusal(desk, token, keys).code == "token_refused"
    with pytest.raises(ConflictError, match="has or had the name gw-1"):
        desk.token()


def test_of_two_tokens_for_one_name_one_is_used(desk: Desk) -> None:
    first, second = desk.token(), desk.token()
    desk.enrol(first, DeviceKeys())
    assert refusal(desk, second).code == "device_exists"
    assert desk.devices() == ["gw-1"]


def test_a_used_token_cannot_be_revoked(desk: Desk) -> None:
    desk.enrol(desk.token(), DeviceKeys())
    with pytest.raises(ConflictError, match="remove the device"), desk.database.transaction() as s:
        enrolment.revoke_token(s, "id-1", actor="token:op", now=desk.now)


def test_text_that_is_no_token_is_not_repeated(desk: Desk) -> None:
    request = dataclasses.replace(DeviceKeys().enrolment(desk.token()), token="sprat1.secret")
    with pytest.raises(RequestError) as caught:
        desk.send(request)
    assert "secret" not in caught.value.message.replace("<secret>", "")


def test_a_batch_names_its_devices_one_after_the_other_and_passes_over_taken_names(
    desk: Desk,
) -> None:
    desk.enrol(desk.token("kiosk-2"), DeviceKeys())
    token = desk.token(prefix="kiosk", count=3)
    names = [desk.enrol(token, DeviceKeys()).device_id for _ in range(3)]
    assert names == ["kiosk-1", "kiosk-3", "kiosk-4"]


def test_a_batch_gives_each_device_its_own_name_again_and_no_more_than_its_count(
    desk: Desk,
) -> None:
    token, devices = desk.token(prefix="kiosk", count=2), [DeviceKeys(), DeviceKeys()]
    first = [desk.enrol(token, keys) for keys in devices]
    assert [desk.enrol(token, keys) for keys in devices] == first
    assert refusal(desk, token).code == "token_used"
    assert desk.devices() == ["kiosk-1", "kiosk-2"]


def test_racers_with_a_batch_get_different_names(desk: Desk) -> None:
    token = desk.token(prefix="kiosk", count=8)
    got: list[str] = []
    together = threading.Barrier(8)

    def race() -> None:
        request = DeviceKeys().enrolment(token)
        together.wait()
        got.append(desk.send(request).device_id)

    threads = [threading.Thread(target=race) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == [f"kiosk-{number}" for number in range(1, 9)]


def test_a_batch_that_is_revoked_takes_no_more_and_keeps_those_it_has(desk: Desk) -> None:
    token, keys = desk.token(prefix="kiosk", count=9), DeviceKeys()
    given = desk.enrol(token, keys)
    with desk.database.transaction() as session:
        enrolment.revoke_token(session, "id-1", actor="token:op", now=desk.now)
    assert refusal(desk, token).code == "token_refused"
    assert desk.enrol(token, keys) == given


def test_a_device_of_other_hardware_is_refused_and_the_token_stays_good(desk: Desk) -> None:
    token = desk.token(hardware_id="cpu-aarch64")
    refused = refusal(desk, token, DeviceKeys(hardware_id="cpu-x86_64"))
    assert isinstance(refused, DeniedError)
    assert refused.code == "wrong_hardware"
    assert desk.enrol(token, DeviceKeys(hardware_id="cpu-aarch64")).device_id == "gw-1"


@pytest.mark.parametrize(
    ("wanted", "code"),
    [
        ({"device_id": "Not A Name"}, "bad_device_id"),
        ({"device_id": "controller"}, "bad_device_id"),
        ({"device_id": "a", "count": 2}, "bad_batch"),
        ({"prefix": "-a"}, "bad_device_id"),
        ({"prefix": "a" * 60}, "bad_device_id"),
        ({"prefix": "a", "count": 0}, "bad_batch"),
        ({"prefix": "a", "count": 10_001}, "bad_batch"),
        ({"device_id": "a", "group": "No Group"}, "bad_group"),
        ({"device_id": "a", "hardware_id": "abacus"}, "bad_hardware"),
    ],
)
def test_a_token_for_what_cannot_be_is_not_made(
    desk: Desk, wanted: dict[str, Any], code: str
) -> None:
    with pytest.raises(RequestError) as caught:
        desk.token(**wanted)
    assert caught.value.code == code
