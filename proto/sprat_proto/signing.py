"""What is signed, and checking it: DSSE envelopes with Ed25519 keys, by securesystemslib.

DSSE (github.com/secure-systems-lab/dsse, protocol v1.0.2) signs the payload together with its type,
so a signature over an assignment can never pass for one over a manifest. A key is told by its key
id, which securesystemslib computes from the public key; a name is a convenience for people.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

# securesystemslib has no type stubs for its dicts; this file is the only one that imports it.
# pyright: reportPrivateImportUsage=false, reportUnknownMemberType=false
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import CryptoSigner, Key, SSlibKey

from sprat_proto.states import ReasonCode


class SignatureRefusedError(Exception):
    """The envelope is not signed as it must be.

    Attributes:
        code: SIGNATURE_INVALID or SIGNER_UNKNOWN.
        expected: Which signers would have been accepted.
        found: Which key ids signed, or what was wrong.
    """

    def __init__(self, code: ReasonCode, *, expected: str, found: str) -> None:
        super().__init__(f"expected {expected}, found {found}")
        self.code = code
        self.expected = expected
        self.found = found


class KeyFileError(ValueError):
    """The file is not an Ed25519 key in PEM form."""


@dataclass(frozen=True)
class TrustedKey:
    """A public key and the name people know its holder by."""

    name: str
    public_pem: str

    @property
    def key_id(self) -> str:
        """Hex key id as it stands in envelopes."""
        return _sslib_key(self.public_pem).keyid


@dataclass(frozen=True)
class Verified:
    """The payload of an envelope whose signatures were checked, and who signed it."""

    payload: bytes
    signers: tuple[TrustedKey, ...]


class SigningKey:
    """A private key that signs envelopes."""

    def __init__(self, private_pem: bytes, password: bytes | None = None) -> None:
        """Load a PKCS#8 Ed25519 key.

        Raises:
            KeyFileError: Another kind of key or file, or the wrong password.
        """
        try:
            key = load_pem_private_key(private_pem, password)
        except (ValueError, TypeError) as error:
            raise KeyFileError(f"expected an Ed25519 private key in PEM form: {error}") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise KeyFileError(f"expected an Ed25519 private key, found {type(key).__name__}")
        self._signer = CryptoSigner(key)
        self.public_pem = _public_pem(key.public_key())

    @property
    def key_id(self) -> str:
        """Hex key id as it stands in envelopes."""
        return self._signer.public_key.keyid

    def sign(self, payload: bytes, payload_type: str) -> bytes:
        """Return the JSON bytes of an envelope with one signature."""
        envelope = Envelope(payload, payload_type, {})
        envelope.sign(self._signer)
        return _encode(envelope)


def generate_private_pem(password: bytes | None = None) -> bytes:
    """Return a new Ed25519 private key in PKCS#8 PEM, encrypted if a password is given."""
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    key = Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


def check_public_pem(public_pem: str) -> str:
    """Return the public key in its one normal PEM form.

    Raises:
        KeyFileError: Not an Ed25519 public key.
    """
    try:
        key = load_pem_public_key(public_pem.encode())
    except (ValueError, TypeError) as error:
        raise KeyFileError(f"expected an Ed25519 public key in PEM form: {error}") from error
    if not isinstance(key, Ed25519PublicKey):
        raise KeyFileError(f"expected an Ed25519 public key, found {type(key).__name__}")
    return _public_pem(key)


def verify(
    envelope: bytes, payload_type: str, trusted: Sequence[TrustedKey], threshold: int = 1
) -> Verified:
    """Return the payload if enough trusted keys signed it as `payload_type`, and all who did.

    Args:
        envelope: JSON bytes as `SigningKey.sign` or `merge` made them.
        payload_type: The one type that is acceptable here.
        trusted: The keys to accept; one that stands there twice counts once.
        threshold: How many different ones it takes.

    Raises:
        SignatureRefusedError: Not an envelope, another type, too few trusted key ids among the
            signatures, or a signature that does not fit the bytes.
    """
    names = ", ".join(f"{key.name} ({key.key_id[:12]})" for key in trusted) or "nobody"
    expected = f"a signature of {names}" if threshold == 1 else f"{threshold} of {names}"
    parsed = _parse(envelope, expected)
    if parsed.payload_type != payload_type:
        raise SignatureRefusedError(
            ReasonCode.SIGNATURE_INVALID,
            expected=f"payload type {payload_type}",
            found=f"payload type {parsed.payload_type}",
        )
    by_id = {key.key_id: key for key in trusted}
    signing = [by_id[key_id] for key_id in parsed.signatures if key_id in by_id]
    accepted = tuple(key for key in signing if _has_signed(parsed, key))
    if len(accepted) >= threshold:
        return Verified(parsed.payload, accepted)
    false = [key.name for key in signing if key not in accepted]
    if false:
        raise SignatureRefusedError(
            ReasonCode.SIGNATURE_INVALID,
            expected=expected,
            found=f"bytes that the signature of {false[0]} does not cover",
        )
    ids = ", ".join(key_id[:12] for key_id in parsed.signatures) or "no signature"
    raise SignatureRefusedError(ReasonCode.SIGNER_UNKNOWN, expected=expected, found=f"key {ids}")


def unsigned(payload: bytes, payload_type: str) -> bytes:
    """Return an envelope that nobody has signed yet, to be merged with signatures."""
    return _encode(Envelope(payload, payload_type, {}))


def merge(envelopes: Sequence[bytes]) -> bytes:
    """Return one envelope with the signatures of all, which must hold the same payload and type.

    Nothing is verified here.

    Raises:
        SignatureRefusedError: No envelope, or they hold different things.
    """
    expected = "envelopes over one payload"
    parsed = [_parse(envelope, expected) for envelope in envelopes]
    if len({(one.payload, one.payload_type) for one in parsed}) != 1:
        raise SignatureRefusedError(
            ReasonCode.SIGNATURE_INVALID, expected=expected, found="none or different ones"
        )
    first = parsed[0]
    for one in parsed[1:]:
        first.signatures.update(one.signatures)
    return _encode(first)


def _has_signed(envelope: Envelope, key: TrustedKey) -> bool:
    """Tell whether the key's signature in the envelope fits its bytes."""
    keys: list[Key] = [_sslib_key(key.public_pem)]
    try:
        envelope.verify(keys, threshold=1)
    except VerificationError:
        return False
    return True


def _encode(envelope: Envelope) -> bytes:
    return json.dumps(envelope.to_dict(), sort_keys=True).encode()


def _parse(envelope: bytes, expected: str) -> Envelope:
    try:
        return Envelope.from_dict(json.loads(envelope))
    except Exception as error:
        # securesystemslib lets KeyError, TypeError, binascii.Error and more through; whatever it
        # is, these bytes are not an envelope.
        raise SignatureRefusedError(
            ReasonCode.SIGNATURE_INVALID, expected=expected, found="bytes that are no DSSE envelope"
        ) from error


def _sslib_key(public_pem: str) -> SSlibKey:
    key = load_pem_public_key(public_pem.encode())
    if not isinstance(key, Ed25519PublicKey):
        raise KeyFileError(f"expected an Ed25519 public key, found {type(key).__name__}")
    return SSlibKey.from_crypto(key)


def _public_pem(key: Ed25519PublicKey) -> str:
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
