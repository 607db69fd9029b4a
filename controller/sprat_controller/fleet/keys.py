"""The keys that devices bring: which kinds are taken, and whether a statement is theirs."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final, TypeAlias

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)
from sprat_proto.identity import MAX_CSR_BYTES, MAX_KEY_BYTES

from sprat_controller.errors import RequestError

_CURVES: Final = (ec.SECP256R1, ec.SECP384R1)
_Key: TypeAlias = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


@dataclass(frozen=True)
class Csr:
    """A request to certify a key, signed by that key; nothing else in it counts."""

    pem: bytes
    key_sha256: str


@dataclass(frozen=True)
class IdentityKey:
    """What vouches for a device's TLS keys."""

    pem: str
    sha256: str  # of the SubjectPublicKeyInfo, hex
    _key: _Key

    def has_signed(self, statement: bytes, signature: bytes) -> bool:
        """Tell whether the signature is this key's over the statement (ECDSA with SHA-256)."""
        try:
            if isinstance(self._key, ed25519.Ed25519PublicKey):
                self._key.verify(signature, statement)
            else:
                self._key.verify(signature, statement, ec.ECDSA(SHA256()))
        except InvalidSignature:
            return False
        return True


def read_csr(pem: str) -> Csr:
    """Read a request to certify a TLS key.

    Raises:
        RequestError: `bad_csr` or `weak_key`.
    """
    data = pem.encode()
    if len(data) > MAX_CSR_BYTES:
        raise RequestError(
            "bad_csr", f"expected a CSR of at most {MAX_CSR_BYTES} bytes, found {len(data)}"
        )
    try:
        csr = x509.load_pem_x509_csr(data)
        key = csr.public_key()
    except Exception as error:
        # cryptography raises ValueError, UnsupportedAlgorithm, TypeError and more for foreign keys
        # and malformed bytes; whatever it is, this is not a CSR to be signed.
        raise RequestError("bad_csr", f"expected a CSR in PEM form: {error}") from error
    taken = _taken(key, "a CSR")
    # After the kind of key is known: checking an enormous RSA key would take seconds.
    if not csr.is_signature_valid:
        raise RequestError(
            "bad_csr", "expected a CSR signed by the key it holds, found another signature"
        )
    return Csr(data, _sha256(taken))


def read_identity_key(pem: str) -> IdentityKey:
    """Read the public half of an identity key.

    Raises:
        RequestError: `bad_identity_key` or `weak_key`.
    """
    data = pem.encode()
    if len(data) > MAX_KEY_BYTES:
        raise RequestError(
            "bad_identity_key",
            f"expected an identity key of at most {MAX_KEY_BYTES} bytes, found {len(data)}",
        )
    try:
        key = load_pem_public_key(data)
    except Exception as error:
        # As for a CSR.
        raise RequestError(
            "bad_identity_key", f"expected a public key in PEM form: {error}"
        ) from error
    taken = _taken(key, "an identity key")
    return IdentityKey(pem, _sha256(taken), taken)


def read_audit_key(pem: str) -> str:
    """Check the public half of the key that signs a device's audit checkpoints.

    Returns:
        SHA-256 of its SubjectPublicKeyInfo, in hex.

    Raises:
        RequestError: `bad_audit_key`: not an Ed25519 key in PEM form.
    """
    try:
        key: object = load_pem_public_key(pem.encode()[:MAX_KEY_BYTES])
    except Exception as error:
        # As for a CSR.
        raise RequestError(
            "bad_audit_key", f"expected a public key in PEM form: {error}"
        ) from error
    if not isinstance(key, ed25519.Ed25519PublicKey):
        found = type(key).__name__.removesuffix("PublicKey")
        raise RequestError("bad_audit_key", f"expected an Ed25519 key for audit, found {found}")
    return _sha256(key)


def _taken(key: object, what: str) -> _Key:
    """Return the key if it is of a kind that is taken."""
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, _CURVES):
        return key
    found = (
        key.curve.name
        if isinstance(key, ec.EllipticCurvePublicKey)
        else type(key).__name__.removesuffix("PublicKey")
    )
    raise RequestError(
        "weak_key",
        f"expected {what} with a P-256, P-384 or Ed25519 key, found {found}: enrol with"
        " `sprat-agent enrol`, which makes one",
    )


def _sha256(key: _Key) -> str:
    encoded = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(encoded).hexdigest()
