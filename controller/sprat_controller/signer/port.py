"""What the controller asks of its signer, whether it is a process or (in tests) an object.

Four verbs: issue a plan, sign a timestamp, issue a certificate (and the list of those revoked),
sign a checkpoint of the audit log.
The web process holds no key; what the signer refuses, nobody else can sign.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol, TypeAlias

from sprat_proto.assignment import Assignment
from sprat_proto.trust import TargetCustom


class SignerError(Exception):
    """The signer did not sign; one sentence says why."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class SignerRefusedError(SignerError):
    """It is against the signer's own rules (rate, versions going back, a revoked device, ...)."""


class SignerUnavailableError(SignerError):
    """The signer cannot be reached or failed: try again later."""


@dataclass(frozen=True)
class PlannedTarget:
    """A manifest as the image repository releases it; `length` in bytes, `sha256` in hex."""

    path: str
    length: int
    sha256: str
    custom: TargetCustom


@dataclass(frozen=True)
class IssuedPlan:
    """One device's director metadata, signed: TUF JSON. All three have the same version."""

    version: int
    expires_at: datetime
    targets: bytes
    snapshot: bytes
    timestamp: bytes


@dataclass(frozen=True)
class SignedTimestamp:
    """New online metadata of the image repository."""

    snapshot_version: int
    snapshot: bytes
    timestamp_version: int
    timestamp: bytes


CertificateKind: TypeAlias = Literal["device", "server", "client"]


@dataclass(frozen=True)
class CertificateRequest:
    """A certificate to issue.

    Attributes:
        kind: What it is good for: `device` and `client` as a TLS client, `server` as a server.
        name: The common name. For a device its id, which the caller took from its records.
        csr_pem: PKCS#10; only its public key is taken (P-256, P-384 or Ed25519).
        alternatives: Host names and addresses of a server.
    """

    kind: CertificateKind
    name: str
    csr_pem: bytes
    alternatives: tuple[str, ...] = ()


@dataclass(frozen=True)
class IssuedCertificate:
    """A certificate with its chain up to (not including) the root, PEM, leaf first."""

    chain_pem: bytes
    serial: str  # hex, lower case
    not_after: datetime


@dataclass(frozen=True)
class Revoked:
    """A certificate that must no longer be accepted before it expires."""

    serial: str  # hex
    at: datetime


@dataclass(frozen=True)
class LogState:
    """How far the audit log was signed.

    Attributes:
        vkey: The key that verifies its checkpoints, with the log's origin (C2SP vkey).
        size: How many records the newest checkpoint has; 0: none was signed.
    """

    vkey: str
    size: int


class Signer(Protocol):
    """The verbs; all block for about a millisecond and may be called from any thread.

    Each raises SignerRefusedError or SignerUnavailableError.
    """

    def issue_plan(self, assignment: Assignment, targets: Sequence[PlannedTarget]) -> IssuedPlan:
        """Return new director metadata for the assignment's device.

        Its version is above every earlier one for this device. `assignment.version` below one that
        was signed for the device before is refused, and so is a device that was revoked.
        """
        ...

    def sign_timestamp(self, roles: Mapping[str, int]) -> SignedTimestamp:
        """Return image metadata that names these versions of `targets` and the publishers' roles.

        Args:
            roles: Version by role name. A role that was named before may neither leave nor go back
                (a client would refuse it, and an attacker would want it); equal ones renew the
                expiries.
        """
        ...

    def issue_certificate(self, request: CertificateRequest) -> IssuedCertificate:
        """Return a new certificate."""
        ...

    def revoke(self, device_id: str, serials: Sequence[str]) -> None:
        """Never sign a plan or a certificate for the device again; list its certificates."""
        ...

    def revocation_list(self) -> bytes:
        """Return the list of revoked certificates (CRL, PEM), good for 7 days from now."""
        ...


class LogSigner(Protocol):
    """What the audit log asks of the signer; raises as `Signer` does."""

    def log_state(self) -> LogState:
        """Return how far the audit log was signed."""
        ...

    def sign_checkpoint(self, size: int, root: bytes, proof: Sequence[bytes]) -> str:
        """Return a checkpoint of the audit log, signed: a C2SP note.

        Args:
            size: How many records it has.
            root: Their root.
            proof: That it begins with what was signed last (`merkle.consistency_proof`); empty for
                the first, and for the same once more. Whatever does not is refused: a log that was
                rewritten, or shortened.
        """
        ...


class FullSigner(Signer, LogSigner, Protocol):
    """Everything that the signer's process does."""
