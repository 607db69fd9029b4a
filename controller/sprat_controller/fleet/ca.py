"""The controller's certificate authority: who may speak TLS here, and as whom.

Names come from the caller (for a device: from its enrolment token), never from a CSR. A device's
certificate is good for a client only, a server's for a server only, so that neither can play the
other. All keys are P-256. Certificates begin a day early, for devices whose clock is slow.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from sprat_proto import topics

from sprat_controller.errors import RequestError, StartupError

# The controller's own name at a broker; no device may have it.
CONTROLLER_NAME: Final = "controller"
CA_LIFETIME: Final = timedelta(days=3650)
# What browsers and load balancers accept at most; renewal on the device comes before it.
LEAF_LIFETIME: Final = timedelta(days=397)
_EARLY: Final = timedelta(days=1)
_CERTIFICATE_FILE: Final = "ca.pem"
_KEY_FILE: Final = "ca.key"
_MAX_CSR_BYTES: Final = 16_384


@dataclass(frozen=True)
class KeyPair:
    """A certificate and its private key, both PEM."""

    certificate_pem: bytes
    key_pem: bytes


class CertificateAuthority:
    """Signs for servers, clients and devices; holds the one key that all of them trust."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self._certificate = certificate
        self._key = key

    @classmethod
    def create(cls, folder: Path, now: datetime) -> CertificateAuthority:
        """Make a new authority in `folder` (`ca.pem`, and `ca.key` with mode 0600).

        Raises:
            StartupError: There is one already: to replace it would cut off every device.
        """
        if (folder / _CERTIFICATE_FILE).exists():
            raise StartupError(
                "ca_exists",
                f"{folder} holds a certificate authority already: use it, or choose another"
                " folder (a new authority would cut off every enrolled device)",
            )
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _self_signed(key, now)
        folder.mkdir(parents=True, exist_ok=True)
        # The certificate last: a key alone is an interrupted start, and is made anew.
        _write(folder / _KEY_FILE, _private_pem(key), mode=0o600)
        _write(folder / _CERTIFICATE_FILE, _pem(certificate), mode=0o644)
        return cls(certificate, key)

    @classmethod
    def load(cls, folder: Path) -> CertificateAuthority:
        """Open the authority that `create` made in `folder`.

        Raises:
            StartupError: It is not there, or its files are not what they must be.
        """
        try:
            certificate = x509.load_pem_x509_certificate((folder / _CERTIFICATE_FILE).read_bytes())
            key = load_pem_private_key((folder / _KEY_FILE).read_bytes(), None)
        except (OSError, ValueError, TypeError) as error:
            raise StartupError(
                "ca_unreadable",
                f"expected {_CERTIFICATE_FILE} and {_KEY_FILE} in {folder} as"
                f" `sprat-controller init` makes them: {error}",
            ) from error
        if not isinstance(key, ec.EllipticCurvePrivateKey) or (
            key.public_key() != certificate.public_key()
        ):
            raise StartupError(
                "ca_unreadable",
                f"{folder / _KEY_FILE} is not the private key of {folder / _CERTIFICATE_FILE}",
            )
        return cls(certificate, key)

    @property
    def certificate_pem(self) -> bytes:
        """The authority's own certificate."""
        return _pem(self._certificate)

    @property
    def fingerprint(self) -> str:
        """Hex SHA-256 of the certificate's DER form, as it stands in claim tokens."""
        return hashlib.sha256(self._certificate.public_bytes(Encoding.DER)).hexdigest()

    def issue_server(self, names: Sequence[str], now: datetime) -> KeyPair:
        """Return a new certificate for a server that is reached by these host names or addresses.

        Raises:
            ValueError: No name at all.
        """
        if not names:
            raise ValueError("expected at least one host name or address for a server certificate")
        alternatives = x509.SubjectAlternativeName([_general_name(name) for name in names])
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._leaf(names[0][:64], key.public_key(), now).add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False
        )
        certificate = self._sign(builder.add_extension(alternatives, critical=False))
        return KeyPair(_pem(certificate), _private_pem(key))

    def issue_client(self, common_name: str, now: datetime) -> KeyPair:
        """Return a new certificate for a client of ours, such as the controller at its broker."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(self._client(common_name, key.public_key(), now))
        return KeyPair(_pem(certificate), _private_pem(key))

    def sign_device(self, csr_pem: bytes, device_id: str, now: datetime) -> bytes:
        """Return a device's certificate in PEM; of the CSR only the public key is taken.

        Args:
            csr_pem: PKCS#10 request, signed by the key it holds.
            device_id: The name that the enrolment token gave.
            now: The caller's clock, timezone-aware.

        Raises:
            RequestError: `bad_csr`, `weak_key` or `bad_device_id`.
        """
        if not topics.is_device_id(device_id) or device_id == CONTROLLER_NAME:
            raise RequestError(
                "bad_device_id",
                "expected a device id of 1-64 characters a-z, 0-9 and inner hyphens that is not"
                f" {CONTROLLER_NAME!r}, found {device_id[:80]!r}",
            )
        public_key = _read_csr(csr_pem).public_key()
        if not isinstance(public_key, ec.EllipticCurvePublicKey) or not isinstance(
            public_key.curve, ec.SECP256R1
        ):
            raise RequestError(
                "weak_key",
                f"expected a CSR with a P-256 key, found {_describe(public_key)}: enrol with"
                " `sprat-agent enrol`, which makes one",
            )
        return _pem(self._sign(self._client(device_id, public_key, now)))

    def _client(
        self, common_name: str, public_key: ec.EllipticCurvePublicKey, now: datetime
    ) -> x509.CertificateBuilder:
        return self._leaf(common_name, public_key, now).add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )

    def _leaf(
        self, common_name: str, public_key: ec.EllipticCurvePublicKey, now: datetime
    ) -> x509.CertificateBuilder:
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return (
            _dated(common_name, now, LEAF_LIFETIME)
            .issuer_name(self._certificate.subject)
            .public_key(public_key)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(authority, critical=False)
        )

    def _sign(self, builder: x509.CertificateBuilder) -> x509.Certificate:
        return builder.sign(self._key, SHA256())


def key_sha256(holder: x509.Certificate | x509.CertificateSigningRequest) -> str:
    """Return the hex SHA-256 of the public key (SubjectPublicKeyInfo, DER) it holds.

    It is equal for a device's CSR and for every certificate made from it.
    """
    public = holder.public_key()
    return hashlib.sha256(
        public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    ).hexdigest()


def key_sha256_of_certificate(pem: bytes) -> str:
    """Return `key_sha256` of a certificate in PEM."""
    return key_sha256(x509.load_pem_x509_certificate(pem))


def key_sha256_of_csr(pem: bytes) -> str:
    """Return `key_sha256` of a CSR in PEM.

    Raises:
        RequestError: `bad_csr`.
    """
    return key_sha256(_read_csr(pem))


def _self_signed(key: ec.EllipticCurvePrivateKey, now: datetime) -> x509.Certificate:
    public = key.public_key()
    subject_key = x509.SubjectKeyIdentifier.from_public_key(public)
    # The name carries a part of the key, so that two controllers' authorities are told apart.
    name = f"Sprat CA {subject_key.digest.hex()[:8]}"
    return (
        _dated(name, now, CA_LIFETIME)
        .issuer_name(_common_name(name))
        .public_key(public)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(subject_key, critical=False)
        .sign(key, SHA256())
    )


def _dated(common_name: str, now: datetime, lifetime: timedelta) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_common_name(common_name))
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _EARLY)
        .not_valid_after(now + lifetime)
    )


def _common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _read_csr(csr_pem: bytes) -> x509.CertificateSigningRequest:
    if len(csr_pem) > _MAX_CSR_BYTES:
        raise RequestError(
            "bad_csr", f"expected a CSR of at most {_MAX_CSR_BYTES} bytes, found {len(csr_pem)}"
        )
    try:
        csr = x509.load_pem_x509_csr(csr_pem)
        signed = csr.is_signature_valid
    except Exception as error:
        # cryptography raises ValueError, UnsupportedAlgorithm, TypeError and more for foreign keys
        # and malformed bytes; whatever it is, this is not a CSR to be signed.
        raise RequestError("bad_csr", f"expected a CSR in PEM form: {error}") from error
    if not signed:
        raise RequestError(
            "bad_csr", "expected a CSR signed by the key it holds, found another signature"
        )
    return csr


def _describe(key: object) -> str:
    if isinstance(key, ec.EllipticCurvePublicKey):
        return key.curve.name
    return type(key).__name__.removesuffix("PublicKey")


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _write(path: Path, data: bytes, *, mode: int) -> None:
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
