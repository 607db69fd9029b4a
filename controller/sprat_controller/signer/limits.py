"""What the signer refuses whoever asks: rates, directions, names, sizes. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from sprat_proto import topics
from sprat_proto.acknowledgement import CONTROLLER_NAME
from sprat_proto.assignment import Assignment
from sprat_proto.merkle import HASH_SIZE, MAX_SIZE, ProofError, verify_consistency
from sprat_proto.trust import MAX_TARGETS_BYTES, publisher_of_role

from sprat_controller.fleet.rate import Rate
from sprat_controller.signer.port import CertificateRequest, PlannedTarget

PLAN: Final = "plan"
TIMESTAMP: Final = "timestamp"
CERTIFICATE: Final = "certificate"
CHECKPOINT: Final = "checkpoint"
MAX_MODELS: Final = 64
MAX_ROLES: Final = 10_000
MAX_ALTERNATIVES: Final = 32


def _default_rates() -> dict[str, Rate]:
    # A rollout to 10,000 devices is signed in one go; a stolen controller does not sign for a
    # million of them unseen. Timestamps are due daily and at each publication.
    return {
        PLAN: Rate(burst=20_000, per_s=1000.0),
        TIMESTAMP: Rate(burst=200, per_s=0.1),
        CERTIFICATE: Rate(burst=20_000, per_s=100.0),
        CHECKPOINT: Rate(burst=100, per_s=1.0),
    }


@dataclass(frozen=True)
class Limits:
    """The signer's settings.

    Attributes:
        rates: By verb.
        server_names: Host names and addresses that a server's certificate may hold; None: any.
    """

    rates: Mapping[str, Rate] = field(default_factory=_default_rates)
    server_names: frozenset[str] | None = None


def why_no_plan(
    assignment: Assignment,
    targets: tuple[PlannedTarget, ...],
    *,
    signed_before: int,
    is_revoked: bool,
) -> str | None:
    """Return why a plan is not signed, or None.

    Args:
        assignment: What is to be signed.
        targets: The manifests that it assigns.
        signed_before: Highest assignment version that was signed for the device; 0 if none.
        is_revoked: The device was revoked.
    """
    device_id = assignment.device_id
    if not topics.is_device_id(device_id) or device_id == CONTROLLER_NAME:
        return f"expected a device id, found {device_id[:80]!r}"
    if is_revoked:
        return f"the device {device_id} was revoked: nothing is signed for it any more"
    if assignment.version < signed_before:
        return (
            f"expected assignment {signed_before} of {device_id} or a later one, found"
            f" {assignment.version}: a plan never goes back"
        )
    if len(assignment.models) > MAX_MODELS:
        return f"expected at most {MAX_MODELS} models, found {len(assignment.models)}"
    assigned = {(one.path, one.size, one.digest) for one in assignment.models}
    named = {(one.path, one.length, one.sha256) for one in targets}
    if assigned != named or len(named) != len(targets):
        return "expected each assigned manifest once among the targets, and no others"
    return None


def why_no_timestamp(roles: Mapping[str, int], signed_before: Mapping[str, int]) -> str | None:
    """Return why these versions are not signed as the newest, or None."""
    if "targets" not in roles or len(roles) > MAX_ROLES:
        return f"expected `targets` and at most {MAX_ROLES} roles, found {len(roles)} roles"
    for role, version in roles.items():
        if role != "targets" and publisher_of_role(role) is None:
            return f"expected targets or a publisher's role, found {role[:80]!r}"
        if version < 1:
            return f"expected versions from 1, found {version} of {role}"
    for role, before in signed_before.items():
        now = roles.get(role)
        if now is None:
            return f"the role {role} was named before: it may be emptied, but never leave"
        if now < before:
            return f"expected {role} {before} or a later one, found {now}: nothing goes back"
    return None


def why_no_issuer(ends_at: datetime, now: datetime) -> str | None:
    """Return why the issuer certifies nobody, or None."""
    if now < ends_at:
        return None
    return (
        f"the issuer's certificate ended on {ends_at:%Y-%m-%d}: make the next one with"
        f" `sprat-signer new-key ca-issuer` (docs/runbook-trust.md)"
    )


def why_no_certificate(
    request: CertificateRequest, limits: Limits, *, is_revoked: bool
) -> str | None:
    """Return why a certificate is not issued, or None."""
    name = request.name
    match request.kind:
        case "device" if not topics.is_device_id(name) or name == CONTROLLER_NAME:
            return f"expected a device id that is not {CONTROLLER_NAME!r}, found {name[:80]!r}"
        case "device" if is_revoked:
            return f"the device {name} was revoked: it gets no certificate any more"
        case "client" if name != CONTROLLER_NAME:
            return f"expected the client's name {CONTROLLER_NAME!r}, found {name[:80]!r}"
        case "server":
            return _why_no_server(request, limits)
        case _:
            pass
    if request.alternatives:
        return f"expected no alternative names for a {request.kind}"
    return None


def _why_no_server(request: CertificateRequest, limits: Limits) -> str | None:
    names = {request.name, *request.alternatives}
    if not request.alternatives or len(request.alternatives) > MAX_ALTERNATIVES:
        return f"expected 1 to {MAX_ALTERNATIVES} names for a server"
    if limits.server_names is None:
        return None
    strange = sorted(names - limits.server_names)
    if strange:
        return (
            f"expected names that this signer was set up for, found {strange[0][:80]!r}: run"
            " `sprat-controller init` with --host, or add it to signer.json"
        )
    return None


def why_no_checkpoint(
    signed: tuple[int, bytes] | None, size: int, root: bytes, proof: Sequence[bytes]
) -> str | None:
    """Return why a checkpoint of the audit log is not signed, or None.

    Args:
        signed: Size and root of the last that was signed; None: there is none.
        size: How many records the log has.
        root: Their root.
        proof: That it begins with what was signed.
    """
    if not 0 < size <= MAX_SIZE or len(root) != HASH_SIZE:
        return f"expected a size from 1 and a root of {HASH_SIZE} bytes, found {size}, {len(root)}"
    # A log that was restored to nothing begins anew: nothing proves that, nor need it.
    if signed is None or signed[0] == 0:
        return None
    before, old_root = signed
    if size < before:
        return (
            f"the audit log had {before} records when it was signed, and has {size}: it lost some"
        )
    try:
        verify_consistency(before, size, proof, old_root, root)
    except ProofError as error:
        return f"the audit log of {size} does not begin with the {before} that were signed: {error}"
    return None


def why_too_large(size: int) -> str | None:
    """Return why metadata of this many bytes is not signed, or None."""
    if size > MAX_TARGETS_BYTES:
        return f"expected at most {MAX_TARGETS_BYTES} bytes of metadata, found {size}"
    return None
