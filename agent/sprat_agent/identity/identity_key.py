"""The identity key: what this device is, for its whole life. It vouches for each new TLS key.

It is a file (mode 0600), or it is in a TPM or security token and never leaves it (PKCS#11).
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Protocol

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sprat_agent.identity import keys
from sprat_agent.identity.identity import IDENTITY_KEY_FILE, Identity, IdentityError

FILE: Final = "file"
_SCHEME: Final = "pkcs11:"


class IdentityKey(Protocol):
    """A P-256 key that signs."""

    @property
    def public_pem(self) -> str:
        """The public half: SubjectPublicKeyInfo in PEM."""
        ...

    def sign(self, statement: bytes) -> bytes:
        """Return the ECDSA signature (SHA-256, DER).

        Raises:
            IdentityError: The token is away or refuses.
        """
        ...


class FileKey:
    """An identity key that was read from a file."""

    def __init__(self, key: keys.PrivateKey) -> None:
        self._key = key

    @property
    def public_pem(self) -> str:
        """The public half."""
        public = self._key.public_key()
        return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    def sign(self, statement: bytes) -> bytes:
        """Return the signature."""
        return self._key.sign(statement, ec.ECDSA(SHA256()))


def open_or_create(where: str, folder: Path) -> IdentityKey:
    """Return the identity key for enrolment; one that is not there yet is made.

    Args:
        where: `file`, or a PKCS#11 URI.
        folder: Where the file is.

    Raises:
        IdentityError: It can neither be opened nor made.
    """
    if where.startswith(_SCHEME):
        return _in_token(where, is_new=True)
    return FileKey(keys.open_or_create(folder / IDENTITY_KEY_FILE))


def open_enrolled(identity: Identity) -> IdentityKey:
    """Return the identity key of an enrolled device.

    Raises:
        IdentityError: It is gone, or cannot be used: nothing can stand in its place.
    """
    if identity.identity_key.startswith(_SCHEME):
        return _in_token(identity.identity_key, is_new=False)
    try:
        return FileKey(keys.open_key(identity.identity_key_path))
    except FileNotFoundError as error:
        raise IdentityError(
            f"{identity.identity_key_path} is gone: this device can no longer prove who it is;"
            f" remove {identity.folder} and enrol it under a new name"
        ) from error


def _in_token(uri: str, *, is_new: bool) -> IdentityKey:
    # An extra: most devices have no token, and no library for one.
    from sprat_agent.identity.pkcs11_key import Pkcs11Key  # noqa: PLC0415 - see above

    return Pkcs11Key(uri, is_new=is_new)
