"""The certificate authority: names from the caller, roles kept apart, keys kept private."""

from __future__ import annotations

import hashlib
import ssl
import stat
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError
from hypothesis import given
from hypothesis import strategies as st
from sprat_controller.errors import RequestError, StartupError
from sprat_controller.fleet import ca as ca_module
from sprat_controller.fleet.ca import CertificateAuthority

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    return CertificateAuthority.create(tmp_path_factory.mktemp("ca"), NOW)


def csr(name: str = "anything", curve: ec.EllipticCurve | None = None) -> bytes:
    key = ec.generate_private_key(curve or ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, SHA256())
    return request.public_bytes(Encoding.PEM)


def read(pem: bytes) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem)


def policy(authority: CertificateAuthority) -> PolicyBuilder:
    return PolicyBuilder().store(Store([read(authority.certificate_pem)])).time(NOW)


def usages(certificate: x509.Certificate) -> list[x509.ObjectIdentifier]:
    return list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)


def common_name(certificate: x509.Certificate) -> object:
    return certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value


def test_the_device_is_named_by_the_caller_and_not_by_its_request(
    authority: CertificateAuthority,
) -> None:
    certificate = read(authority.sign_device(csr("somebody-else"), "device-7", NOW))
    assert common_name(certificate) == "device-7"


def test_a_device_certificate_is_good_for_a_client_only(authority: CertificateAuthority) -> None:
    certificate = read(authority.sign_device(csr(), "device-7", NOW))
    assert usages(certificate) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    certificate.verify_directly_issued_by(read(authority.certificate_pem))


def test_a_server_certificate_holds_for_its_names_and_no_others(
    authority: CertificateAuthority,
) -> None:
    issued = read(authority.issue_server(["localhost", "127.0.0.1"], NOW).certificate_pem)
    assert usages(issued) == [ExtendedKeyUsageOID.SERVER_AUTH]
    policy(authority).build_server_verifier(x509.DNSName("localhost")).verify(issued, [])
    with pytest.raises(VerificationError):
        policy(authority).build_server_verifier(x509.DNSName("elsewhere")).verify(issued, [])


def test_a_device_cannot_play_the_server(authority: CertificateAuthority) -> None:
    certificate = read(authority.sign_device(csr(), "localhost", NOW))
    with pytest.raises(VerificationError):
        policy(authority).build_server_verifier(x509.DNSName("localhost")).verify(certificate, [])


def test_a_server_certificate_without_a_name_is_a_bug(authority: CertificateAuthority) -> None:
    with pytest.raises(ValueError, match="at least one host name"):
        authority.issue_server([], NOW)


def test_certificates_begin_a_day_early_and_last_397_days(authority: CertificateAuthority) -> None:
    certificate = read(authority.sign_device(csr(), "device-7", NOW))
    assert certificate.not_valid_before_utc == NOW - timedelta(days=1)
    assert certificate.not_valid_after_utc == NOW + timedelta(days=397)


@pytest.mark.parametrize("name", ["controller", "", "A", "+", "#", "dev/x", "-a", "a" * 65, "a\n"])
def test_no_device_has_a_name_that_means_something_elsewhere(
    authority: CertificateAuthority, name: str
) -> None:
    with pytest.raises(RequestError) as caught:
        authority.sign_device(csr(), name, NOW)
    assert caught.value.code == "bad_device_id"


def _rsa_csr() -> bytes:
    key = rsa.generate_private_key(65537, 2048)
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return request.sign(key, SHA256()).public_bytes(Encoding.PEM)


def _ed25519_csr() -> bytes:
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return request.sign(ed25519.Ed25519PrivateKey.generate(), None).public_bytes(Encoding.PEM)


@pytest.mark.parametrize(
    "make", [_rsa_csr, _ed25519_csr, lambda: csr(curve=ec.SECP256K1())], ids=["rsa", "ed", "k1"]
)
def test_another_kind_of_key_is_refused(
    authority: CertificateAuthority, make: Callable[[], bytes]
) -> None:
    with pytest.raises(RequestError) as caught:
        authority.sign_device(make(), "device-7", NOW)
    assert caught.value.code == "weak_key"


def test_a_request_whose_signature_does_not_fit_is_refused(authority: CertificateAuthority) -> None:
    der = bytearray(x509.load_pem_x509_csr(csr()).public_bytes(Encoding.DER))
    der[-1] ^= 1
    body = ssl.DER_cert_to_PEM_cert(bytes(der)).replace("CERTIFICATE", "CERTIFICATE REQUEST")
    with pytest.raises(RequestError) as caught:
        authority.sign_device(body.encode(), "device-7", NOW)
    assert caught.value.code == "bad_csr"


@given(st.binary(max_size=300) | st.just(b"x" * 20_000))
def test_bytes_that_are_no_request_are_refused_with_a_reason(
    authority: CertificateAuthority, data: bytes
) -> None:
    with pytest.raises(RequestError) as caught:
        authority.sign_device(data, "device-7", NOW)
    assert caught.value.code == "bad_csr"


def test_the_key_of_a_request_and_of_its_certificate_hash_the_same(
    authority: CertificateAuthority,
) -> None:
    request = csr()
    certificate = authority.sign_device(request, "device-7", NOW)
    of_request = ca_module.key_sha256_of_csr(request)
    assert ca_module.key_sha256_of_certificate(certificate) == of_request
    assert ca_module.key_sha256_of_csr(csr()) != of_request


def test_the_fingerprint_is_the_hash_of_the_certificate(authority: CertificateAuthority) -> None:
    der = ssl.PEM_cert_to_DER_cert(authority.certificate_pem.decode())
    assert authority.fingerprint == hashlib.sha256(der).hexdigest()


def test_the_authority_opens_again_as_itself(tmp_path: Path) -> None:
    made = CertificateAuthority.create(tmp_path, NOW)
    opened = CertificateAuthority.load(tmp_path)
    assert opened.fingerprint == made.fingerprint
    device = read(opened.sign_device(csr(), "device-7", NOW))
    device.verify_directly_issued_by(read(made.certificate_pem))


def test_its_key_is_for_its_owner_only(tmp_path: Path) -> None:
    CertificateAuthority.create(tmp_path, NOW)
    assert stat.S_IMODE((tmp_path / "ca.key").stat().st_mode) == 0o600


def test_an_authority_is_never_replaced(tmp_path: Path) -> None:
    made = CertificateAuthority.create(tmp_path, NOW)
    with pytest.raises(StartupError) as caught:
        CertificateAuthority.create(tmp_path, NOW)
    assert caught.value.code == "ca_exists"
    assert CertificateAuthority.load(tmp_path).fingerprint == made.fingerprint


def test_an_interrupted_creation_is_begun_again(tmp_path: Path) -> None:
    CertificateAuthority.create(tmp_path, NOW)
    (tmp_path / "ca.pem").unlink()
    made = CertificateAuthority.create(tmp_path, NOW)
    assert CertificateAuthority.load(tmp_path).fingerprint == made.fingerprint


def test_a_folder_without_an_authority_is_said_to_be_one(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="sprat-controller init"):
        CertificateAuthority.load(tmp_path)


def test_a_key_of_another_authority_is_refused(tmp_path: Path) -> None:
    CertificateAuthority.create(tmp_path / "a", NOW)
    CertificateAuthority.create(tmp_path / "b", NOW)
    (tmp_path / "a" / "ca.key").write_bytes((tmp_path / "b" / "ca.key").read_bytes())
    with pytest.raises(StartupError, match="not the private key"):
        CertificateAuthority.load(tmp_path / "a")
