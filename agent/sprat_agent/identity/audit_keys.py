"""What seals this device's audit log: an Ed25519 key for checkpoints, a seed for records.

Both are made before enrolment and told to the controller in it, so that it can check what comes
later; a repeated request tells the same.
"""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from sprat_proto.audit_seal import KEY_BYTES

from sprat_agent.identity import files
from sprat_agent.identity.identity import AUDIT_KEY_FILE, AUDIT_SEED_FILE, IdentityError


def open_key(folder: Path) -> Ed25519PrivateKey:
    """Return the key of a device that is enrolled.

    Raises:
        IdentityError: It is not there, or not whole.
    """
    path = folder / AUDIT_KEY_FILE
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise IdentityError(
            f"expected this device's audit key in {path}: {error}; remove {folder} and enrol anew"
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise IdentityError(
            f"expected an Ed25519 key in {path}, found {type(key).__name__}; remove it"
        )
    return key


def open_or_create(folder: Path) -> tuple[Ed25519PrivateKey, bytes]:
    """Return key and seed for enrolment; what is not there yet is made, and on disk before.

    Raises:
        IdentityError: There are files, but they are no key, or no seed.
    """
    if not (folder / AUDIT_KEY_FILE).exists():
        pem = Ed25519PrivateKey.generate().private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        )
        files.write_atomically(folder / AUDIT_KEY_FILE, pem, mode=0o600)
    seed = read_seed(folder)
    if seed is None:
        seed = os.urandom(KEY_BYTES)
        files.write_atomically(folder / AUDIT_SEED_FILE, seed, mode=0o600)
    return open_key(folder), seed


def read_seed(folder: Path) -> bytes | None:
    """Return the seed, or None once it was erased.

    Raises:
        IdentityError: There is a file, but it is no seed.
    """
    path = folder / AUDIT_SEED_FILE
    try:
        seed = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise IdentityError(f"{path} cannot be read: {error}") from error
    if len(seed) != KEY_BYTES:
        raise IdentityError(
            f"expected {KEY_BYTES} bytes in {path}, found {len(seed)}; remove it and enrol anew"
        )
    return seed


def erase_seed(folder: Path) -> None:
    """Have no way back to the first key, once the journal keeps it.

    The bytes are written over first; the wear levelling of flash may keep a copy all the same.
    """
    path = folder / AUDIT_SEED_FILE
    try:
        with path.open("r+b") as file:
            file.write(bytes(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except FileNotFoundError:
        return
    path.unlink()
    files.sync_folder(folder)


def public_pem(key: Ed25519PrivateKey) -> str:
    """Return the public half, SubjectPublicKeyInfo in PEM."""
    public = key.public_key()
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
