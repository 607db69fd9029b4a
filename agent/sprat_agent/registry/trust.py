"""Whether a manifest may be obeyed: the publisher's signature, the digest, the names.

The one seam between "signed by a pinned publisher" and a fuller trust design: everything else in
the agent gets its manifests from `trusted_manifest`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sprat_proto import canonical, manifest
from sprat_proto.assignment import AssignedModel
from sprat_proto.manifest import Manifest, ManifestError
from sprat_proto.signing import SignatureRefusedError, TrustedKey, verify
from sprat_proto.states import ReasonCode

from sprat_agent.sync.ports import ExecutionError


@dataclass(frozen=True)
class SignedManifest:
    """A manifest that a trusted publisher signed."""

    manifest: Manifest
    signer: str  # "name (key id prefix)"


def trusted_manifest(
    envelope: bytes, wanted: AssignedModel, publishers: Sequence[TrustedKey]
) -> SignedManifest:
    """Return the manifest in the envelope, if it is the wanted one and a publisher signed it.

    Raises:
        ExecutionError: SIGNER_UNKNOWN, SIGNATURE_INVALID, DIGEST_MISMATCH (another manifest than
            the assigned one), MANIFEST_INVALID (malformed, or it names another variant).
    """
    name = f"{wanted.model}@{wanted.release}+{wanted.variant}"
    try:
        verified = verify(envelope, manifest.PAYLOAD_TYPE, publishers)
    except SignatureRefusedError as error:
        raise ExecutionError(
            error.code,
            f"the manifest of {name} is refused: expected {error.expected}, found {error.found}",
            expected=error.expected,
            found=error.found,
        ) from error
    found = canonical.sha256_hex(verified.payload)
    if found != wanted.digest:
        raise ExecutionError(
            ReasonCode.DIGEST_MISMATCH,
            f"the manifest of {name} is to have digest {wanted.digest[:12]} and has {found[:12]}",
            expected=wanted.digest,
            found=found,
        )
    by = verified.signers[0]
    return SignedManifest(_decoded(verified.payload, name), f"{by.name} ({by.key_id[:12]})")


def _decoded(payload: bytes, name: str) -> Manifest:
    try:
        decoded = manifest.decode(payload)
    except ManifestError as error:
        raise ExecutionError(
            ReasonCode.MANIFEST_INVALID, f"the manifest of {name} is not valid: {error}"
        ) from error
    if decoded.name != name:
        raise ExecutionError(
            ReasonCode.MANIFEST_INVALID,
            f"the assignment says {name} and the signed manifest says {decoded.name}",
            expected=name,
            found=decoded.name,
        )
    return decoded
