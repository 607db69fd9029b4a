"""A publisher's side of trust: key files, and the metadata of the publisher's own role.

The private key stays on the publisher's machine (0600, with a passphrase if wanted); the controller
gets, with each release, metadata that it cannot make itself. A publisher goes on from the newest
metadata that it has signed itself: a controller cannot slip a release into it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

# The names below are the libraries' documented API; they re-export them without saying so.
# pyright: reportPrivateImportUsage=false
from securesystemslib.signer import Signer
from sprat_proto.signing import KeyFileError, SigningKey, generate_private_pem
from sprat_proto.trust import custom_of, manifest_path, path_of
from tuf.api.metadata import TargetFile, Targets

from sprat_controller.publisher.manifests import BuiltVariant
from sprat_controller.trust.ceremony import TARGETS_LIFE, next_targets
from sprat_controller.trust.words import MetadataError, is_signed_by, read, seal

MAX_KEY_BYTES: Final = 64 << 10


def generate_key_files(base: Path, password: bytes | None) -> tuple[Path, Path, SigningKey]:
    """Write `BASE.pem` (private, 0600) and `BASE.pub`; never over an existing file.

    Raises:
        KeyFileError: A file is there already, or cannot be written.
    """
    private, public = base.with_name(f"{base.name}.pem"), base.with_name(f"{base.name}.pub")
    for path in (private, public):
        if path.exists():
            raise KeyFileError(f"{path} exists already: choose another name for the key")
    pem = generate_private_pem(password)
    key = SigningKey(pem, password)
    for path, data, mode in ((private, pem, 0o600), (public, key.public_pem.encode(), 0o644)):
        try:
            _write_new(path, data, mode)
        except OSError as error:
            raise KeyFileError(f"the key {path} cannot be written: {error.strerror}") from error
    return private, public, key


def load_key(path: Path, password: bytes | None) -> SigningKey:
    """Read a private key file.

    Raises:
        KeyFileError: Not there, readable by others, another kind of file, or a wrong passphrase.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            pem = file.read(MAX_KEY_BYTES)
    except OSError as error:
        raise KeyFileError(f"the key {path} cannot be read: {error.strerror}") from error
    if mode & 0o077:
        raise KeyFileError(
            f"the key {path} is open to others (mode {mode & 0o777:o}): run `chmod 600 {path}`"
        )
    if b"ENCRYPTED" in pem and password is None:
        raise KeyFileError(
            f"the key {path} needs its passphrase: give --passphrase-file or SPRAT_KEY_PASSPHRASE"
        )
    if b"ENCRYPTED" not in pem:
        password = None  # a passphrase set for another key does not stand in the way
    try:
        return SigningKey(pem, password)
    except KeyFileError as error:
        raise KeyFileError(f"the key {path}: {error}") from error


def with_release(
    newest: bytes | None, variants: Sequence[BuiltVariant], key: Signer, now: datetime
) -> bytes:
    """Return the next metadata of a publisher's role, with a new release in it, signed.

    Args:
        newest: The role's newest metadata, as the controller has it; None for a first release.
        variants: Of the release.
        key: The publisher's.
        now: From when it is good, for a year.

    Raises:
        MetadataError: `newest` was not signed by this key.
    """
    signed = _next(newest, key, now)
    for variant in variants:
        path = path_of(variant.manifest)
        target = TargetFile.from_data(path, variant.payload, ["sha256"])
        target.unrecognized_fields["custom"] = msgspec.to_builtins(custom_of(variant.manifest))
        signed.targets[path] = target
    return seal(signed, [key])


def without_release(newest: bytes, prefix: str, key: Signer, now: datetime) -> bytes:
    """Return the next metadata of a publisher's role, without a release, signed.

    Args:
        newest: As for `with_release`.
        prefix: What the paths of the release begin with: `release_prefix`.
        key: The publisher's.
        now: From when it is good, for a year.

    Raises:
        MetadataError: `newest` was not signed by this key, or does not name the release.
    """
    signed = _next(newest, key, now)
    leaving = [path for path in signed.targets if path.startswith(prefix)]
    if not leaving:
        raise MetadataError(f"expected targets {prefix}…, found none")
    for path in leaving:
        del signed.targets[path]
    return seal(signed, [key])


def release_prefix(publisher: str, model: str, release: str) -> str:
    """Return what the target paths of all variants of a release begin with."""
    return manifest_path(publisher, model, release, "").removesuffix(".json")


def _next(newest: bytes | None, key: Signer, now: datetime) -> Targets:
    expires = now.replace(microsecond=0) + TARGETS_LIFE
    if newest is None:
        return Targets(version=1, expires=expires)
    metadata = read(newest, Targets, "the publisher's newest metadata")
    if not is_signed_by(metadata, key.public_key):
        raise MetadataError(
            "expected the publisher's newest metadata to be signed by the key"
            f" {key.public_key.keyid[:12]}, found it signed by others: nothing is added to that"
        )
    return next_targets(metadata.signed, expires=expires)


def _write_new(path: Path, data: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
