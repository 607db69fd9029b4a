from __future__ import annotations

import json
import sqlite3
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

# pyright: reportPrivateImportUsage=false
from simulators.device_keys import csr_of, new_key
from simulators.signing_desk import NOW, Desk, assigned, model, targets
from sprat_controller.fleet.rate import Rate
from sprat_controller.signer.keys import tuf_signer
from sprat_controller.signer.limits import CERTIFICATE, PLAN, TIMESTAMP, Limits
from sprat_controller.signer.port import CertificateRequest, SignerRefusedError
from sprat_controller.trust.words import read
from sprat_proto.assignment import from_custom
from tuf.api.metadata import Snapshot, Targets, Timestamp


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def tag_and_outcome(desk: Desk) -> list[tuple[str, str]]:
    bodies = [json.loads(body) for _, body, _ in desk.records.audit()]
    assert desk.records.first_broken() is None
    return [(body["tag"], body["outcome"]) for body in bodies]


def test_a_plan_is_the_devices_assignment_and_names_each_manifest(desk: Desk) -> None:
    wanted = assigned(3, model(), model("helper", "2.0.0", "b" * 64))
    plan = desk.core.issue_plan(wanted, targets(wanted))
    named = read(plan.targets, Targets, "targets").signed
    assert from_custom(named.unrecognized_fields["custom"]) == wanted
    assert sorted(named.targets) == sorted(one.path for one in wanted.models)
    assert named.targets[wanted.models[0].path].custom == {
        "name": "acme/talk",
        "release_counter": 1,
        "hardware_ids": ["cpu-aarch64", "cpu-x86_64"],
    }
    assert named.delegations is None
    snapshot = read(plan.snapshot, Snapshot, "snapshot").signed
    timestamp = read(plan.timestamp, Timestamp, "timestamp").signed
    assert {named.version, snapshot.version, timestamp.version} == {plan.version}
    assert snapshot.meta["targets.json"].version == plan.version
    assert plan.expires_at == NOW + timedelta(days=7)
    assert tag_and_outcome(desk) == [("signer:plan:issued", "success")]


def test_a_plan_of_one_model_is_below_two_kilobytes(desk: Desk) -> None:
    plan = desk.core.issue_plan(assigned(), targets(assigned()))
    assert len(plan.targets) + len(plan.snapshot) + len(plan.timestamp) <= 2000


def test_each_plan_of_a_device_has_a_higher_version_whatever_the_clock_does(desk: Desk) -> None:
    versions: list[int] = []
    for step in (0, 0, 10, -100_000, 0, 200_000):
        desk.later(seconds=step)
        versions.append(desk.core.issue_plan(assigned(), targets(assigned())).version)
        desk.reopen()
    assert versions == sorted(set(versions))
    assert versions[0] == int(NOW.timestamp())


def test_an_assignment_never_goes_back(desk: Desk) -> None:
    desk.core.issue_plan(assigned(5), targets(assigned(5)))
    with pytest.raises(SignerRefusedError, match="a plan never goes back"):
        desk.core.issue_plan(assigned(4), targets(assigned(4)))
    desk.core.issue_plan(assigned(5), targets(assigned(5)))
    other = assigned(1, device_id="gw-2")
    desk.core.issue_plan(other, targets(other))
    assert tag_and_outcome(desk)[1] == ("signer:plan:refused", "denied")


def test_targets_and_assignment_must_say_the_same(desk: Desk) -> None:
    wanted = assigned()
    for wrong in (
        [],
        [replace(targets(wanted)[0], length=1)],
        [replace(targets(wanted)[0], sha256="b" * 64)],
        [*targets(wanted), replace(targets(wanted)[0], path="m/acme/talk/9.0.0+q4_0.json")],
        targets(wanted) * 2,
    ):
        with pytest.raises(SignerRefusedError, match="each assigned manifest once"):
            desk.core.issue_plan(wanted, wrong)


@pytest.mark.parametrize("name", ["controller", "Gw", "", "+", "a/b", "x" * 65])
def test_a_plan_is_for_a_device(desk: Desk, name: str) -> None:
    wanted = msgspec.structs.replace(assigned(), device_id=name)
    with pytest.raises(SignerRefusedError, match="expected a device id"):
        desk.core.issue_plan(wanted, targets(wanted))


def test_too_many_models_are_refused(desk: Desk) -> None:
    many = [model(f"a{n}", f"1.0.{n}", f"{n:064x}") for n in range(65)]
    wanted = assigned(1, *many)
    with pytest.raises(SignerRefusedError, match="at most 64 models, found 65"):
        desk.core.issue_plan(wanted, targets(wanted))


def test_a_revoked_device_gets_nothing_for_ever(desk: Desk) -> None:
    issued = desk.core.issue_certificate(device())
    desk.core.revoke("gw-1", [issued.serial])
    desk.later(days=400)
    desk.reopen()
    with pytest.raises(SignerRefusedError, match="gw-1 was revoked"):
        desk.core.issue_plan(assigned(), targets(assigned()))
    with pytest.raises(SignerRefusedError, match="gw-1 was revoked"):
        desk.core.issue_certificate(device())


def test_more_than_the_rate_is_refused_until_time_has_passed(tmp_path: Path) -> None:
    rates = {PLAN: Rate(3, 1.0), TIMESTAMP: Rate(1, 0.01), CERTIFICATE: Rate(1, 0.01)}
    desk = Desk(tmp_path, Limits(rates=rates))
    for _ in range(3):
        desk.core.issue_plan(assigned(), targets(assigned()))
    with pytest.raises(SignerRefusedError, match="more plans were asked for"):
        desk.core.issue_plan(assigned(), targets(assigned()))
    desk.later(seconds=2)
    desk.core.issue_plan(assigned(), targets(assigned()))
    desk.core.sign_timestamp({"targets": 1})
    with pytest.raises(SignerRefusedError, match="more timestamps"):
        desk.core.sign_timestamp({"targets": 1})


def test_a_snapshot_names_the_roles_and_a_timestamp_the_snapshot(desk: Desk) -> None:
    first = desk.core.sign_timestamp({"targets": 1})
    second = desk.core.sign_timestamp({"targets": 2, "pub-acme": 1})
    again = desk.core.sign_timestamp({"targets": 2, "pub-acme": 1})
    assert (first.snapshot_version, first.timestamp_version) == (1, 1)
    assert (second.snapshot_version, second.timestamp_version) == (2, 2)
    assert (again.snapshot_version, again.timestamp_version) == (3, 3)
    meta = read(second.snapshot, Snapshot, "snapshot").signed.meta
    assert {name: one.version for name, one in meta.items()} == {
        "targets.json": 2,
        "pub-acme.json": 1,
    }
    assert read(again.timestamp, Timestamp, "timestamp").signed.snapshot_meta.version == 3


def test_a_snapshot_is_signed_by_the_new_key(desk: Desk) -> None:
    desk.core.sign_timestamp({"targets": 1})
    desk.keys = replace(desk.keys, image=ed25519.Ed25519PrivateKey.generate())
    desk.reopen()
    renewed = desk.core.sign_timestamp({"targets": 1})
    by = tuf_signer(desk.keys.image).public_key.keyid
    assert list(read(renewed.snapshot, Snapshot, "snapshot").signatures) == [by]


@pytest.mark.parametrize(
    ("roles", "words"),
    [
        ({"targets": 2}, "pub-acme was named before"),
        ({"targets": 1, "pub-acme": 1}, "expected targets 2 or a later one"),
        ({"pub-acme": 1}, "expected `targets`"),
        ({"targets": 2, "pub-acme": 1, "snapshot": 9}, "expected targets or a publisher's role"),
        ({"targets": 2, "pub-acme": 0}, "expected versions from 1"),
    ],
)
def test_roles_neither_leave_nor_go_back(desk: Desk, roles: dict[str, int], words: str) -> None:
    desk.core.sign_timestamp({"targets": 2, "pub-acme": 1})
    with pytest.raises(SignerRefusedError, match=words):
        desk.core.sign_timestamp(roles)
    assert desk.records.roles() == {"targets": 2, "pub-acme": 1}


def device(name: str = "gw-1", csr: str | None = None) -> CertificateRequest:
    return CertificateRequest("device", name, (csr or csr_of(new_key())).encode())


def test_a_device_is_a_client_for_seven_days_under_the_root(desk: Desk) -> None:
    issued = desk.core.issue_certificate(device(csr=csr_of(new_key(), "admin")))
    leaf, issuer = x509.load_pem_x509_certificates(issued.chain_pem)
    leaf.verify_directly_issued_by(issuer)
    issuer.verify_directly_issued_by(desk.root)
    names = leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert [name.value for name in names] == ["gw-1"]
    usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert leaf.not_valid_after_utc == issued.not_after == NOW + timedelta(days=7)
    assert leaf.not_valid_before_utc == NOW - timedelta(days=1)
    assert issued.serial == f"{leaf.serial_number:x}"
    constraints = leaf.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert not constraints.ca


def test_ed25519_is_certified_and_weak_keys_are_not(desk: Desk) -> None:
    desk.core.issue_certificate(device(csr=csr_of(ed25519.Ed25519PrivateKey.generate())))
    weak = rsa.generate_private_key(65537, 1024)  # noqa: S505 - weak on purpose
    with pytest.raises(SignerRefusedError, match="P-256, P-384 or Ed25519"):
        desk.core.issue_certificate(device(csr=csr_of(weak)))
    with pytest.raises(SignerRefusedError, match="expected a CSR"):
        desk.core.issue_certificate(device(csr="no csr"))


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (device("controller"), "expected a device id"),
        (device("+"), "expected a device id"),
        (replace(device(), alternatives=("a.test",)), "no alternative names"),
        (replace(device("other"), kind="client"), "expected the client's name 'controller'"),
        (replace(device("c.test"), kind="server"), "expected 1 to 32 names"),
        (
            replace(device("c.test"), kind="server", alternatives=("evil.test",)),
            "names that this signer was set up for, found 'evil.test'",
        ),
    ],
)
def test_names_are_limited(tmp_path: Path, request_: CertificateRequest, words: str) -> None:
    desk = Desk(tmp_path, Limits(server_names=frozenset({"c.test"})))
    with pytest.raises(SignerRefusedError, match=words):
        desk.core.issue_certificate(request_)
    desk.server("c.test")


def test_the_list_of_the_revoked_is_the_issuers_and_lasts_a_week(desk: Desk) -> None:
    serial = desk.core.issue_certificate(device()).serial
    desk.core.revoke("gw-1", [serial])
    crl = x509.load_pem_x509_crl(desk.core.revocation_list())
    assert crl.is_signature_valid(desk.keys.issuer.public_key())
    assert [f"{one.serial_number:x}" for one in crl] == [serial]
    assert crl.next_update_utc == NOW + timedelta(days=7)
    desk.later(days=500)
    assert list(x509.load_pem_x509_crl(desk.core.revocation_list())) == []


def test_the_audit_cannot_be_rewritten(desk: Desk) -> None:
    desk.core.issue_plan(assigned(), targets(assigned()))
    other = sqlite3.connect(desk.folder / "signer.db")
    for statement in (
        "UPDATE audit SET body = x'00'",
        "DELETE FROM audit",
        "INSERT OR REPLACE INTO audit SELECT * FROM audit",
    ):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            other.execute(statement)
    other.execute("DROP TRIGGER audit_no_update")
    other.execute("UPDATE audit SET body = x'00' WHERE seq = 1")
    other.commit()
    other.close()
    assert desk.records.first_broken() == 1


@pytest.mark.parametrize(
    ("change", "broken"),
    [
        ("UPDATE audit SET seq = 7 WHERE seq = 2", 2),
        ("DELETE FROM audit WHERE seq = 1", 1),
        ("DELETE FROM audit WHERE seq = 2", 2),
        ("UPDATE audit SET hash = zeroblob(32) WHERE seq = 2", 2),
    ],
)
def test_the_first_record_that_was_tampered_with_is_named(
    desk: Desk, change: str, broken: int
) -> None:
    for _ in range(3):
        desk.core.issue_plan(assigned(), targets(assigned()))
    assert desk.records.first_broken() is None
    other = sqlite3.connect(desk.folder / "signer.db")
    for trigger in ("update", "delete"):
        other.execute(f"DROP TRIGGER audit_no_{trigger}")
    if "seq = 7" in change:
        other.execute("DELETE FROM audit WHERE seq > 2")
    other.execute(change)
    other.commit()
    other.close()
    assert desk.records.first_broken() == broken


def test_the_issuer_and_the_director_may_be_replaced_and_versions_go_on(desk: Desk) -> None:
    before = desk.core.issue_plan(assigned(), targets(assigned()))
    desk.keys = replace(desk.keys, director=ed25519.Ed25519PrivateKey.generate())
    desk.reopen()
    after = desk.core.issue_plan(assigned(), targets(assigned()))
    assert after.version > before.version
    by = tuf_signer(desk.keys.director).public_key.keyid
    assert list(read(after.targets, Targets, "targets").signatures) == [by]


def test_t22_versions_that_a_thief_drove_up_go_with_the_key(desk: Desk) -> None:
    highest = 1 << 53
    desk.core.issue_plan(assigned(highest), targets(assigned(highest)))
    desk.core.sign_timestamp({"targets": 1 << 31, "pub-acme": 1 << 31, "pub-thief": 1})
    desk.reopen()  # to start anew is not enough
    with pytest.raises(SignerRefusedError, match="a plan never goes back"):
        desk.core.issue_plan(assigned(7), targets(assigned(7)))
    with pytest.raises(SignerRefusedError, match="nothing goes back"):
        desk.core.sign_timestamp({"targets": 3, "pub-acme": 2, "pub-thief": 1})
    desk.keys = replace(desk.keys, director=ed25519.Ed25519PrivateKey.generate())
    desk.reopen()
    desk.core.issue_plan(assigned(7), targets(assigned(7)))
    with pytest.raises(SignerRefusedError, match="nothing goes back"):
        desk.core.sign_timestamp({"targets": 3, "pub-acme": 2, "pub-thief": 1})
    desk.keys = replace(desk.keys, image=ed25519.Ed25519PrivateKey.generate())
    desk.reopen()
    desk.core.sign_timestamp({"targets": 3, "pub-acme": 2})
    assert [tag for tag, _ in tag_and_outcome(desk)].count("signer:keys:replaced") == 2
    desk.reopen()
    with pytest.raises(SignerRefusedError, match="a plan never goes back"):
        desk.core.issue_plan(assigned(6), targets(assigned(6)))


def test_a_csr_says_nothing_about_what_it_gets(desk: Desk) -> None:
    ca = x509.BasicConstraints(ca=True, path_length=None)
    hostile = csr_of(new_key(), "controller", ca)
    leaf = x509.load_pem_x509_certificate(
        desk.core.issue_certificate(device(csr=hostile)).chain_pem
    )
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert leaf.subject.rfc4514_string() == "CN=gw-1"
    forged = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    request = forged.sign(new_key(), SHA256()).public_bytes(Encoding.DER)
    broken = bytes([*request[:-1], request[-1] ^ 1])
    pem = x509.load_der_x509_csr(broken).public_bytes(Encoding.PEM).decode()
    with pytest.raises(SignerRefusedError, match="signed by the key it holds"):
        desk.core.issue_certificate(device(csr=pem))
