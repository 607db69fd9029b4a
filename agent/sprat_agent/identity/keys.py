"""The device's TLS key (P-256), the request to certify it, and checking what came back.

The key and its certificate are one file, so that a power cut leaves an old pair or a new one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TypeAlias

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID
from sprat_proto.identity import serial_text

from sprat_agent.identity import files
from sprat_agent.identity.identity import IdentityError

PrivateKey: TypeAlias = ec.EllipticCurvePrivateKey


@dataclass(frozen=True)
class Tls:
    """What the device shows to the controller."""

    key: PrivateKey
    certificate: x509.Certificate

    @property
    def serial(self) -> str:
        """Of the certificate, as it stands in messages."""
        return serial_text(self.certificate.serial_number)


def open_key(path: Path) -> PrivateKey:
    """Return the key at `path`.

    Raises:
        FileNotFoundError: There is none.
        IdentityError: There is a file, but it is no key.
    """
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except (ValueError, TypeError) as error:
        raise IdentityError(f"expected a private key in {path}: {error}; remove it") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise IdentityError(
            f"expected a P-256 key in {path}, found {type(key).__name__}; remove it"
        )
    return key


def open_or_create(path: Path) -> PrivateKey:
    """Return the key at `path`; without one, make it and have it on disk (mode 0600) first.

    Raises:
        IdentityError: There is a file, but it is no key.
    """
    try:
        return open_key(path)
    except FileNotFoundError:
        key = ec.generate_private_key(ec.SECP256R1())
        files.write_atomically(path, _pem(key), mode=0o600)
        return key


def read_tls(path: Path) -> Tls:
    """Return what `write_tls` put at `path`.

    Raises:
        IdentityError: It is not there, or not whole.
    """
    try:
        return Tls(open_key(path), x509.load_pem_x509_certificate(path.read_bytes()))
    except (OSError, ValueError) as error:
        raise IdentityError(
            f"expected this device's TLS key and certificate in {path}: {error}"
        ) from error


def write_tls(path: Path, key: PrivateKey, chain_pem: str) -> None:
    """Put the key and its certificate at `path`, as one, durable when this returns."""
    files.write_atomically(path, _pem(key) + chain_pem.encode(), mode=0o600)


def serial_of(chain_pem: str) -> str:
    """Return the serial of the first certificate of a chain, as it stands in messages."""
    return serial_text(x509.load_pem_x509_certificate(chain_pem.encode()).serial_number)


def csr_pem(key: PrivateKey) -> str:
    """Return a request to certify the key; it carries no name, the controller knows it."""
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return request.sign(key, SHA256()).public_bytes(Encoding.PEM).decode()


def why_not_certified(chain_pem: str, device_id: str, key: PrivateKey, ca_pem: str) -> str | None:
    """Return what is wrong with a certificate for this device and key, or None if nothing is.

    Args:
        chain_pem: The certificate, and those between it and the authority's.
        device_id: Whom it must name.
        key: What it must certify.
        ca_pem: Certificates of the authority; any of them may have issued the chain.
    """
    try:
        chain = x509.load_pem_x509_certificates(chain_pem.encode())
        authorities = x509.load_pem_x509_certificates(ca_pem.encode())
        for issued, issuer in pairwise(chain):
            issued.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature) as error:
        said = str(error) or "its signature does not fit"
        return f"expected a certificate issued by the controller's authority: {said}"
    if not any(_has_issued(authority, chain[-1]) for authority in authorities):
        return "expected a certificate issued by the controller's authority, found another's"
    names = _names(chain)
    if names != [device_id]:
        return f"expected a certificate for {device_id!r}, found one for {names!r}"
    if chain[0].public_key() != key.public_key():
        return "expected a certificate for this device's key, found one for another key"
    return None


def _has_issued(authority: x509.Certificate, issued: x509.Certificate) -> bool:
    try:
        issued.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _names(chain: Sequence[x509.Certificate]) -> list[str | bytes]:
    return [name.value for name in chain[0].subject.get_attributes_for_oid(NameOID.COMMON_NAME)]


def _pem(key: PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
