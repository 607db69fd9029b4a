"""A signer whose plans have the right shape and no signature: for tests of what is planned."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from sprat_controller.signer.port import (
    CertificateRequest,
    IssuedCertificate,
    IssuedPlan,
    PlannedTarget,
    SignedTimestamp,
    SignerUnavailableError,
)
from sprat_proto import assignment
from sprat_proto.assignment import Assignment
from sprat_proto.v1 import link_pb2

LIFE = timedelta(days=7)


class PlainSigner:
    """Counts versions as the signer does; a test may take it away or revoke a device."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self.versions: dict[str, int] = {}
        self.revoked: list[str] = []
        self.is_away = False

    def issue_plan(self, assignment: Assignment, targets: Sequence[PlannedTarget]) -> IssuedPlan:
        if self.is_away:
            raise SignerUnavailableError("signer_unavailable", "the signer is away")
        device_id = assignment.device_id
        version = max(self.versions.get(device_id, 0) + 1, int(self._clock().timestamp()))
        self.versions[device_id] = version
        return IssuedPlan(
            version=version,
            expires_at=self._clock() + LIFE,
            targets=_encode({"custom": _custom(assignment), "targets": _targets(targets)}),
            snapshot=_encode({"version": version}),
            timestamp=_encode({"version": version}),
        )

    def sign_timestamp(self, roles: Mapping[str, int]) -> SignedTimestamp:
        return SignedTimestamp(1, _encode(dict(roles)), 1, _encode({"version": 1}))

    def issue_certificate(self, request: CertificateRequest) -> IssuedCertificate:
        return IssuedCertificate(request.csr_pem, "01", datetime.max.replace(tzinfo=UTC))

    def revoke(self, device_id: str, serials: Sequence[str]) -> None:
        del serials
        if self.is_away:
            raise SignerUnavailableError("signer_unavailable", "the signer is away")
        self.revoked.append(device_id)

    def revocation_list(self) -> bytes:
        return b""


def read_plan(message: link_pb2.Assignment) -> Assignment:
    """Return the assignment in a plan, whoever signed it."""
    return assignment.from_custom(json.loads(message.targets)["signed"]["custom"])


def plan_version(message: link_pb2.Assignment) -> int:
    """Return the TUF version of a plan."""
    return int(json.loads(message.timestamp)["signed"]["version"])


def _custom(made: Assignment) -> dict[str, object]:
    return assignment.to_custom(made)


def _targets(targets: Sequence[PlannedTarget]) -> dict[str, Any]:
    return {
        one.path: {
            "length": one.length,
            "hashes": {"sha256": one.sha256},
            "custom": msgspec.to_builtins(one.custom),
        }
        for one in targets
    }


def _encode(signed: Mapping[str, object]) -> bytes:
    return json.dumps({"signatures": [], "signed": dict(signed)}).encode()
