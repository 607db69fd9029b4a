"""Keys of an image repository and its first files, for tests of what the controller does to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

# The names below are the libraries' documented API; they re-export them without saying so.
# pyright: reportPrivateImportUsage=false
from securesystemslib.signer import CryptoSigner, Signer
from sprat_controller.signer.port import (
    IssuedPlan,
    PlannedTarget,
    SignedTimestamp,
    SignerUnavailableError,
)
from sprat_controller.trust.founding import found_director, found_image
from sprat_controller.trust.words import seal
from sprat_proto.assignment import Assignment, to_custom
from tuf.api.metadata import MetaFile, Root, Snapshot, Targets, Timestamp

from simulators.plain_signer import PlainSigner

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)


def three(prefix: str) -> dict[str, Signer]:
    """Return three new keys by name."""
    return {f"{prefix}-{number}": CryptoSigner.generate_ed25519() for number in (1, 2, 3)}


@dataclass
class ImageKeys:
    """Every key of one image repository and of its director."""

    root: dict[str, Signer] = field(default_factory=lambda: three("image-root"))
    targets: dict[str, Signer] = field(default_factory=lambda: three("image-targets"))
    online: Signer = field(default_factory=CryptoSigner.generate_ed25519)
    director_root: dict[str, Signer] = field(default_factory=lambda: three("director-root"))
    director: Signer = field(default_factory=CryptoSigner.generate_ed25519)

    def found(self, now: datetime = NOW) -> dict[str, bytes]:
        """Return the image repository's first files, published."""
        made = found_image(self.root, self.targets, ("image-online", self.online.public_key), now)
        return made | self.snapshot({"targets": 1}, now=now)

    def found_director(self, now: datetime = NOW) -> dict[str, bytes]:
        online = ("director-online", self.director.public_key)
        return found_director(self.director_root, online, now)

    def snapshot(
        self, roles: Mapping[str, int], *, version: int = 1, now: datetime = NOW
    ) -> dict[str, bytes]:
        """Return a snapshot and a timestamp that name these versions."""
        meta = {f"{role}.json": MetaFile(number) for role, number in roles.items()}
        snapshot = Snapshot(version=version, expires=now + timedelta(days=30), meta=meta)
        timestamp = Timestamp(
            version=version, expires=now + timedelta(days=7), snapshot_meta=MetaFile(version)
        )
        return {
            f"{version}.snapshot.json": seal(snapshot, [self.online]),
            "timestamp.json": seal(timestamp, [self.online]),
        }


def write_key(path: Path, signer: Signer) -> None:
    """Write a key as `init` does: encrypted, with the passphrase `open sesame`."""
    assert isinstance(signer, CryptoSigner)
    path.write_bytes(
        load_pem_private_key(signer.private_bytes, None).private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"open sesame")
        )
    )
    path.chmod(0o600)


def root_file(root: Root, signers: Iterable[Signer]) -> dict[str, bytes]:
    """Return a signed root by its file name."""
    return {f"{root.version}.root.json": seal(root, signers)}


def targets_file(role: str, targets: Targets, signers: Iterable[Signer]) -> dict[str, bytes]:
    """Return signed targets of a role by their file name."""
    return {f"{targets.version}.{role}.json": seal(targets, signers)}


class ImageSigner(PlainSigner):
    """Signs with keys that a test may exchange, as after a rotation; plans name no models."""

    def __init__(
        self, key: Signer, director: Signer, clock: Callable[[], datetime] = lambda: NOW
    ) -> None:
        super().__init__(clock)
        self.key, self.director = key, director
        self.snapshot_version = self.timestamp_version = 0
        self._clock = clock

    def issue_plan(self, assignment: Assignment, targets: Sequence[PlannedTarget]) -> IssuedPlan:
        plan = super().issue_plan(assignment, targets)
        custom = {"custom": to_custom(assignment)}
        expires, version, by = plan.expires_at.replace(microsecond=0), plan.version, [self.director]
        named = Targets(version=version, expires=expires, unrecognized_fields=custom)
        snapshot = Snapshot(
            version=version, expires=expires, meta={"targets.json": MetaFile(version)}
        )
        timestamp = Timestamp(version=version, expires=expires, snapshot_meta=MetaFile(version))
        signed = (seal(named, by), seal(snapshot, by), seal(timestamp, by))
        return IssuedPlan(version, expires, *signed)

    def sign_timestamp(self, roles: Mapping[str, int]) -> SignedTimestamp:
        if self.is_away:
            raise SignerUnavailableError("signer_unavailable", "the signer is away")
        now = self._clock()
        self.snapshot_version += 1
        self.timestamp_version += 1
        meta = {f"{role}.json": MetaFile(number) for role, number in roles.items()}
        snapshot = Snapshot(
            version=self.snapshot_version, expires=now + timedelta(days=30), meta=meta
        )
        timestamp = Timestamp(
            version=self.timestamp_version,
            expires=now + timedelta(days=7),
            snapshot_meta=MetaFile(self.snapshot_version),
        )
        return SignedTimestamp(
            self.snapshot_version,
            seal(snapshot, [self.key]),
            self.timestamp_version,
            seal(timestamp, [self.key]),
        )
