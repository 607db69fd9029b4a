"""A publisher's side of trust: key files, and the signed manifest of a variant.

The private key stays on the publisher's machine (0600, with a passphrase if wanted); the controller
gets the public half and, with each release, envelopes that it cannot make itself.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec
from sprat_proto import canonical, gguf
from sprat_proto.assignment import EnvelopeRef
from sprat_proto.manifest import (
    PAYLOAD_TYPE,
    PIECE_SIZE,
    SCHEMA,
    Activation,
    Manifest,
    Shard,
    Slot,
    Source,
    decode,
    encode,
)
from sprat_proto.signing import KeyFileError, SigningKey, generate_private_pem

RUNTIME: Final = "llama.cpp"
MIN_RUNTIME: Final = "0.3.36"  # llama-cpp-python
MAX_KEY_BYTES: Final = 64 << 10


@dataclass(frozen=True)
class ReleaseTerms:
    """What is the same for all variants of a release."""

    model: str
    release: str
    counter: int
    activation: Activation
    licence: str
    created: datetime


@dataclass(frozen=True)
class SignedVariant:
    """A variant ready to be uploaded: its file, its manifest, and the envelope around it."""

    path: Path
    manifest: Manifest
    envelope: bytes

    @property
    def digest(self) -> str:
        """The variant's identity."""
        return canonical.sha256_hex(encode(self.manifest))

    @property
    def envelope_ref(self) -> EnvelopeRef:
        """The envelope as a blob."""
        return EnvelopeRef(canonical.sha256_hex(self.envelope), len(self.envelope))

    @property
    def bits_per_weight(self) -> float:
        """Bits that the variant spends on one weight, on average."""
        facts = self.manifest.facts
        return facts.weights_bytes * 8 / max(facts.parameters, 1)


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


def sign_variant(path: Path, variant: str, terms: ReleaseTerms, key: SigningKey) -> SignedVariant:
    """Build the manifest of a model file and sign it.

    Raises:
        gguf.ModelFileError: The file is no model that Sprat runs.
    """
    manifest = build_manifest(path, variant, terms)
    return SignedVariant(path, manifest, key.sign(encode(manifest), PAYLOAD_TYPE))


def build_manifest(path: Path, variant: str, terms: ReleaseTerms) -> Manifest:
    """Read a model file once and return its manifest: one slot, one shard.

    Raises:
        gguf.ModelFileError: The file is no model that Sprat runs.
        ManifestError: The terms do not make a valid manifest.
    """
    facts = gguf.facts(path, variant)
    sha256, pieces, size = _hash(path)
    manifest = Manifest(
        schema=SCHEMA,
        model=terms.model,
        release=terms.release,
        release_counter=terms.counter,
        variant=variant,
        runtime=RUNTIME,
        min_runtime=MIN_RUNTIME,
        created=terms.created.isoformat(timespec="seconds"),
        source=Source(sha256, size),
        slots=[Slot(0, ["*"])],
        shards=[Shard(0, sha256, size, PIECE_SIZE, pieces)],
        deltas=[],
        adapters=[],
        encodings=["raw"],
        facts=msgspec.structs.replace(facts, licence=terms.licence or facts.licence),
        activation=terms.activation,
        disk_needed=size,
    )
    return decode(encode(manifest))  # what a device would not read is not signed


def _hash(path: Path) -> tuple[str, list[str], int]:
    whole = hashlib.sha256()
    pieces: list[str] = []
    size = 0
    with path.open("rb") as file:
        while piece := file.read(PIECE_SIZE):
            whole.update(piece)
            pieces.append(hashlib.sha256(piece).hexdigest())
            size += len(piece)
    return whole.hexdigest(), pieces, size


def _write_new(path: Path, data: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
