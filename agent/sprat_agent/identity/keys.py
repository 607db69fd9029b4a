"""The device's key (P-256), the request to certify it, and checking what came back."""

from __future__ import annotations

from pathlib import Path
from typing import Final, TypeAlias

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

from sprat_agent.identity import files
from sprat_agent.identity.identity import IdentityError

KEY_FILE: Final = "key.pem"
PrivateKey: TypeAlias = ec.EllipticCurvePrivateKey


def open_or_create(path: Path) -> PrivateKey:
    """Return the key at `path`; without one, make it and have it on disk (mode 0600) first.

    Raises:
        IdentityError: There is a file, but it is no key.
    """
    try:
        return _read(path)
    except FileNotFoundError:
        key = ec.generate_private_key(ec.SECP256R1())
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        files.write_atomically(path, pem, mode=0o600)
        return key


def csr_pem(key: PrivateKey) -> str:
    """Return a request to certify the key; it carries no name, the token does."""
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return request.sign(key, SHA256()).public_bytes(Encoding.PEM).decode()


def why_not_certified(
    certificate_pem: str, device_id: str, key: PrivateKey, ca_pem: str
) -> str | None:
    """Return what is wrong with a certificate for this device and key, or None if nothing is."""
    try:
        certificate = x509.load_pem_x509_certificate(certificate_pem.encode())
        authority = x509.load_pem_x509_certificate(ca_pem.encode())
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature) as error:
        said = str(error) or "its signature does not fit"
        return f"expected a certificate issued by the controller's authority: {said}"
    names = [name.value for name in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if names != [device_id]:
        return f"expected a certificate for {device_id!r}, found one for {names!r}"
    if certificate.public_key() != key.public_key():
        return "expected a certificate for this device's key, found one for another key"
    return None


def _read(path: Path) -> PrivateKey:
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except (ValueError, TypeError) as error:
        raise IdentityError(f"expected a private key in {path}: {error}; remove it") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise IdentityError(
            f"expected a P-256 key in {path}, found {type(key).__name__}; remove it"
        )
    return key
