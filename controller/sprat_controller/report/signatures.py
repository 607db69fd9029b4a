"""The signatures of approvals: whether what is kept of them is what the log says. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from sprat_proto import approval, canonical
from sprat_proto.signing import KeyFileError, SignatureRefusedError, TrustedKey, verify

NONE_ASKED: Final = "none: approved by who was signed in"
VERIFIED: Final = "verified"
NOT_KEPT: Final = "not kept any more"
NO_KEY: Final = "its key is no longer an approver's"


@dataclass(frozen=True)
class Kept:
    """An envelope as it is kept.

    Attributes:
        rollout: What it approves.
        actor: Who brought it.
        key_id: Whose key signed it.
        envelope: DSSE, as JSON.
    """

    rollout: str
    actor: str
    key_id: str
    envelope: str

    @property
    def file(self) -> str:
        """Where it is in the evidence."""
        return f"approvals/{self.rollout}/{self.key_id}.json"


def found(key_id: str, spec_sha256: str, kept: Kept | None, approvers: Mapping[str, str]) -> str:
    """Return what is found of the signature of an approval, in words.

    Args:
        key_id: Of the key that signed it, as the log says; empty: none did.
        spec_sha256: Of what was approved, as the log says.
        kept: What is kept of it.
        approvers: Public keys by key id, PEM.
    """
    if not key_id:
        return NONE_ASKED
    if kept is None or kept.key_id != key_id:
        return NOT_KEPT
    if key_id not in approvers:
        return NO_KEY
    key = TrustedKey(key_id, approvers[key_id])
    try:
        signed = verify(kept.envelope.encode(), approval.PAYLOAD_TYPE, [key])
    except (SignatureRefusedError, KeyFileError) as error:
        return f"wrong: {error}"
    if key.key_id != key_id or canonical.sha256_hex(signed.payload) != spec_sha256:
        return "wrong: it is of another specification, or of another key"
    return VERIFIED


def by_approval(kept: Iterable[Kept]) -> dict[tuple[str, str], Kept]:
    """Return envelopes by rollout and who brought them."""
    return {(one.rollout, one.actor): one for one in kept}
