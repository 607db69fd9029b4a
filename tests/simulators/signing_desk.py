"""A signer with real keys in this process, for tests of what is signed and what is refused."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from sprat_controller.fleet.ca import KeyPair
from sprat_controller.signer.authority import make_issuer, make_root
from sprat_controller.signer.core import Keys, SignerCore
from sprat_controller.signer.limits import Limits
from sprat_controller.signer.port import CertificateRequest, PlannedTarget
from sprat_controller.signer.records import Records
from sprat_proto.assignment import SCHEMA, AssignedModel, Assignment, Policy
from sprat_proto.trust import TargetCustom

from simulators.device_keys import csr_of, new_key

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
DIGEST = "a" * 64


@dataclass
class Desk:
    """Keys, records in a folder, and a clock that a test turns."""

    folder: Path
    limits: Limits = field(default_factory=Limits)
    now: datetime = NOW

    def __post_init__(self) -> None:
        root_key = ec.generate_private_key(ec.SECP256R1())
        issuer_key = ec.generate_private_key(ec.SECP256R1())
        self.root = make_root(root_key, self.now)
        self.keys = Keys(
            director=ed25519.Ed25519PrivateKey.generate(),
            image=ed25519.Ed25519PrivateKey.generate(),
            issuer=issuer_key,
            issuer_certificate=make_issuer(self.root, root_key, issuer_key.public_key(), self.now),
        )
        self.root_file.write_bytes(self.root_pem)
        self.open()

    @property
    def root_file(self) -> Path:
        """The root's certificate."""
        return self.folder / "ca.pem"

    def open(self) -> None:
        """Open the records as a start of the process does."""
        self.records = Records(self.folder / "signer.db")
        self.core = SignerCore(self.keys, self.records, lambda: self.now, self.limits)

    def reopen(self) -> None:
        self.records.close()
        self.open()

    def audited(self) -> list[str]:
        """Return the records of the signer's own audit."""
        return [body.decode() for _, body, _ in self.records.audit()]

    def later(self, **delta: float) -> None:
        self.now += timedelta(**delta)

    @property
    def root_pem(self) -> bytes:
        return self.root.public_bytes(Encoding.PEM)

    def server(self, *names: str) -> KeyPair:
        """Return what a server of these names shows."""
        key = new_key()
        request = CertificateRequest("server", names[0], csr_of(key).encode(), names)
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return KeyPair(self.core.issue_certificate(request).chain_pem, private)


def model(alias: str = "assistant", release: str = "1.0.0", digest: str = DIGEST) -> AssignedModel:
    """Return an assigned model."""
    return AssignedModel(
        alias=alias,
        publisher="acme",
        model="talk",
        release=release,
        variant="q4_0",
        digest=digest,
        size=1234,
        execution_id="0190-execution",
        rollout_id="0190-rollout",
    )


def assigned(version: int = 1, *models: AssignedModel, device_id: str = "gw-1") -> Assignment:
    """Return an assignment."""
    return Assignment(
        schema=SCHEMA,
        device_id=device_id,
        version=version,
        issued=NOW.isoformat(timespec="milliseconds"),
        models=list(models or (model(),)),
        policy=Policy(),
    )


def targets(assignment: Assignment) -> list[PlannedTarget]:
    """Return what the image repository says of the assigned models."""
    return [
        PlannedTarget(
            one.path,
            one.size,
            one.digest,
            TargetCustom("acme/talk", 1, ["cpu-aarch64", "cpu-x86_64"]),
        )
        for one in assignment.models
    ]
