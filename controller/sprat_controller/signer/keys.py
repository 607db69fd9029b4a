"""Keys by their place: an encrypted file, or a PKCS#11 token (HSM, TPM, smart card).

    file:director.pem                      PKCS#8, encrypted with the passphrase; a relative name is
                                           of the signer's folder
    pkcs11:token=sprat;object=director     P-256, never leaves the token (RFC 7512); `module-path`
                                           and `pin-source` as query, as the RFC has them

Both give the same thing: a private key that cryptography's builders and TUF's signers take.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias
from urllib.parse import parse_qs, unquote

from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

# The names below are the library's documented API; it re-exports them without saying so.
# pyright: reportPrivateImportUsage=false
from securesystemslib.signer import CryptoSigner, Key, Signer, SSlibKey

PrivateKey: TypeAlias = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
FILE: Final = "file:"
PKCS11: Final = "pkcs11:"
MAX_KEY_BYTES: Final = 64 << 10


class KeyUnusableError(Exception):
    """A key cannot be had from its place; one sentence."""


@dataclass(frozen=True)
class Place:
    """Where a key is, and what is needed to use it."""

    uri: str
    folder: Path
    passphrase: bytes | None


def open_key(place: Place) -> PrivateKey:
    """Return the private key. Blocking.

    Raises:
        KeyUnusableError: It is not there, of another kind, or the passphrase or PIN is wrong.
    """
    if place.uri.startswith(FILE):
        return _from_file(place.folder / place.uri.removeprefix(FILE), place.passphrase)
    if place.uri.startswith(PKCS11):
        # An extra: who keeps keys in files does not need it.
        from sprat_controller.signer.hsm import HsmKey  # noqa: PLC0415 - see above

        return HsmKey.open(parse_pkcs11(place.uri))
    raise KeyUnusableError(f"expected a key's place as {FILE}… or {PKCS11}…, found {place.uri!r}")


def tuf_signer(key: PrivateKey) -> Signer:
    """Return what signs TUF metadata with the key."""
    return CryptoSigner(key)


def tuf_key(public_pem: str) -> Key:
    """Return a public key as it stands in TUF metadata.

    Raises:
        KeyUnusableError: No Ed25519 or P-256 key in PEM form.
    """
    try:
        key = load_pem_public_key(public_pem.encode())
    except (ValueError, TypeError) as error:
        raise KeyUnusableError(f"expected a public key in PEM form: {error}") from error
    if not isinstance(key, ed25519.Ed25519PublicKey) and not (
        isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1)
    ):
        raise KeyUnusableError(
            f"expected an Ed25519 or P-256 public key, found {type(key).__name__}"
        )
    return SSlibKey.from_crypto(key)


def new_ed25519(path: Path, passphrase: bytes) -> ed25519.Ed25519PrivateKey:
    """Make a key for TUF metadata and keep it, encrypted, at `path` (0600); never over another."""
    key = ed25519.Ed25519PrivateKey.generate()
    _keep(path, key, passphrase)
    return key


def new_p256(path: Path, passphrase: bytes) -> ec.EllipticCurvePrivateKey:
    """Make a key for certificates; as `new_ed25519`."""
    key = ec.generate_private_key(ec.SECP256R1())
    _keep(path, key, passphrase)
    return key


def public_pem(key: PrivateKey) -> bytes:
    """Return the public half in PEM."""
    public = key.public_key()
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@dataclass(frozen=True)
class Pkcs11Place:
    """A `pkcs11:` URI, taken apart."""

    token: str
    label: str
    module: str
    pin: str


def parse_pkcs11(uri: str) -> Pkcs11Place:
    """Take a `pkcs11:` URI apart (RFC 7512) and read its PIN.

    Raises:
        KeyUnusableError: `token` or `object` is missing, or the PIN cannot be read.
    """
    path, _, query = uri.removeprefix(PKCS11).partition("?")
    pairs = [part.partition("=") for part in path.split(";")]
    attributes = {name: value for name, _, value in pairs}
    asked = {name: values[-1] for name, values in parse_qs(query).items()}
    token, label = unquote(attributes.get("token", "")), unquote(attributes.get("object", ""))
    module = asked.get("module-path") or os.environ.get("PKCS11_MODULE_PATH", "")
    if not (token and label and module):
        raise KeyUnusableError(
            "expected pkcs11:token=NAME;object=NAME?module-path=FILE&pin-source=FILE (or the"
            f" module in PKCS11_MODULE_PATH), found {path!r}"
        )
    return Pkcs11Place(token, label, module, _pin(asked))


def _pin(asked: dict[str, str]) -> str:
    if "pin-value" in asked:
        return asked["pin-value"]
    if "pin-source" not in asked:
        return os.environ.get("PKCS11_PIN", "")
    source = Path(asked["pin-source"].removeprefix("file:"))
    try:
        return source.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise KeyUnusableError(f"the PIN in {source} cannot be read: {error}") from error


def _from_file(path: Path, passphrase: bytes | None) -> PrivateKey:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            pem = file.read(MAX_KEY_BYTES)
    except OSError as error:
        raise KeyUnusableError(f"the key {path} cannot be read: {error.strerror}") from error
    if mode & 0o077:
        raise KeyUnusableError(
            f"the key {path} is open to others (mode {mode & 0o777:o}): run `chmod 600 {path}`"
        )
    if b"ENCRYPTED" not in pem:
        passphrase = None  # one that is set for other keys does not stand in the way
    try:
        key = load_pem_private_key(pem, passphrase)
    except (ValueError, TypeError) as error:
        raise KeyUnusableError(
            f"expected a private key in {path} and its passphrase: {error}"
        ) from error
    if not isinstance(key, ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey):
        raise KeyUnusableError(
            f"expected an Ed25519 or P-256 key in {path}, found {type(key).__name__}"
        )
    return key


def _keep(path: Path, key: PrivateKey, passphrase: bytes) -> None:
    encryption = BestAvailableEncryption(passphrase)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
    partial = path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(pem)
        file.flush()
        os.fsync(file.fileno())
    # A link, not a rename: it fails where there is a key already. Whole, or not there at all.
    path.hardlink_to(partial)
    partial.unlink()
