"""Approvals that a device checks itself: what is approved, by whom, and whether it is enough. Pure.

A rollout's specification is frozen as canonical JSON, and approvers sign exactly those bytes as a
DSSE envelope, each with a key of their own. Who may, and how many it takes in which group of
devices, is a target that is signed offline (`trust.POLICY_PATH`). So a controller with every online
key in an attacker's hand cannot change what a device runs whose group is `device-enforced`.

An approval says what may run under an alias, not from which moment on: until its `not_after`, a
controller may return to it as often as it likes. The release counter still forbids going back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from sprat_proto import canonical
from sprat_proto.assignment import (
    AS_DEVICE_DECIDES,
    AT_ANY_TIME,
    ServingTerms,
    Windows,
    policy_of,
    terms_of,
    windows_of,
)
from sprat_proto.manifest import Name, Sha256
from sprat_proto.policy import FitPolicy
from sprat_proto.signing import (
    KeyFileError,
    SignatureRefusedError,
    TrustedKey,
    Verified,
    check_public_pem,
    verify,
)

SCHEMA: Final = 1
PAYLOAD_TYPE: Final = "application/vnd.sprat.rollout-spec+json"
MAX_POLICY_BYTES: Final = 256 << 10

_Person = Annotated[str, Meta(min_length=1, max_length=128)]
_Moment = Annotated[int, Meta(ge=0, le=1 << 40)]  # unix seconds


class RolloutSpec(Struct, frozen=True, forbid_unknown_fields=True):
    """What approvers sign: a rollout as it was frozen when it was started."""

    schema: Literal[1]
    rollout_id: Annotated[str, Meta(min_length=1, max_length=64)]
    alias: Name
    # The variants it may bring, by the digests of their manifests; none: the alias is removed.
    digests: Annotated[list[Sha256], Meta(max_length=64)]
    groups: Annotated[list[Name], Meta(min_length=1, max_length=64)]
    context: Annotated[int, Meta(ge=64, le=1 << 20)]  # tokens
    max_in_progress: Annotated[int, Meta(ge=0, le=1 << 40)]  # devices at a time; 0: no limit
    run_until: _Moment  # after which it no longer runs; 0: for ever
    requested_by: _Person
    # The requester's key, if the requester is an approver too; else empty.
    requester_key_id: Annotated[str, Meta(max_length=64)]
    not_after: _Moment
    # How it is to be served; unset: as each device decides.
    serving: ServingTerms | UnsetType = UNSET
    # What fit is to keep to; unset: to what the release says.
    policy: FitPolicy | UnsetType = UNSET
    # When devices may bring it in; unset: at any time. It never says `is_way_back`.
    windows: Windows | UnsetType = UNSET
    # Of the canonical document of how it proceeds: groups, gates, abort criteria and all the rest.
    # Unset: it asks nothing beside what stands here. Devices obey what stands here.
    strategy_sha256: Sha256 | UnsetType = UNSET


class Approver(Struct, frozen=True, forbid_unknown_fields=True):
    """Somebody who may approve, and their Ed25519 public key."""

    name: Name
    public_pem: str

    @property
    def key(self) -> TrustedKey:
        """The key as envelopes are checked with it."""
        return TrustedKey(self.name, self.public_pem)


class GroupPolicy(Struct, frozen=True, forbid_unknown_fields=True):
    """What it takes to change a device of a group.

    `controller`: the controller asks for `threshold` other people; `device-enforced`: each device
    asks for the signatures of `threshold` approvers as well.
    """

    group: Name
    approval: Literal["none", "controller", "device-enforced"]
    threshold: Annotated[int, Meta(ge=1, le=16)] = 1


class ApproverPolicy(Struct, frozen=True, forbid_unknown_fields=True):
    """The content of `trust.POLICY_PATH`; a group that it does not name asks for nothing."""

    schema: Literal[1]
    approvers: Annotated[list[Approver], Meta(max_length=256)]
    groups: Annotated[list[GroupPolicy], Meta(max_length=1024)]

    def of(self, group: str) -> GroupPolicy | None:
        """Return what it takes in a group; None if nothing."""
        found = (one for one in self.groups if one.group == group and one.approval != "none")
        return next(found, None)


NOBODY: Final = ApproverPolicy(schema=SCHEMA, approvers=[], groups=[])


class PolicyError(ValueError):
    """The policy does not say what a policy must say."""


@dataclass(frozen=True)
class Change:
    """What would become different under one alias of a device.

    Attributes:
        alias: The name that applications ask for.
        digest: Of the manifest of what is to answer; empty: nothing any more.
        context: Tokens that it is to run with.
        run_until: As in the assignment.
        held_context: The largest context that another alias of the device is approved for: all
            run with the largest, so `context` may be that one instead of the approved.
        terms: How it is to be served.
        policy: What fit is to keep to; None: the release's own.
        windows: When it may be brought in. Going back is approved with what is gone back to.
    """

    alias: str
    digest: str
    context: int
    run_until: int = 0
    held_context: int = 0
    terms: ServingTerms = AS_DEVICE_DECIDES
    policy: FitPolicy | None = None
    windows: Windows = AT_ANY_TIME


def encode(spec: RolloutSpec) -> bytes:
    """Return the canonical bytes that approvers sign."""
    return canonical.encode(spec)


def decode(data: bytes) -> RolloutSpec:
    """Read a specification from its canonical bytes.

    Raises:
        canonical.NotCanonicalError: Wrong structure or spelling.
    """
    return canonical.decode(data, RolloutSpec, "rollout specification")


def encode_policy(policy: ApproverPolicy) -> bytes:
    """Return the canonical bytes of a policy.

    Raises:
        PolicyError: It contradicts itself.
    """
    check_policy(policy)
    return canonical.encode(policy)


def decode_policy(data: bytes) -> ApproverPolicy:
    """Read a policy from its canonical bytes.

    Raises:
        PolicyError: Wrong structure or spelling, or it contradicts itself.
    """
    try:
        policy = canonical.decode(data, ApproverPolicy, "approver policy")
    except canonical.NotCanonicalError as error:
        raise PolicyError(str(error)) from error
    check_policy(policy)
    return policy


def check_policy(policy: ApproverPolicy) -> None:
    """Check what types cannot say.

    A key or a name that stands there twice would let one person count as two.

    Raises:
        PolicyError: The first contradiction found.
    """
    keys: set[str] = set()
    for approver in policy.approvers:
        try:
            check_public_pem(approver.public_pem)
        except KeyFileError as error:
            raise PolicyError(f"approver {approver.name}: {error}") from error
        keys.add(approver.key.key_id)
    names = {approver.name for approver in policy.approvers}
    if not len(keys) == len(names) == len(policy.approvers):
        raise PolicyError("expected each approver and each key once, found one of them again")
    if len({one.group for one in policy.groups}) != len(policy.groups):
        raise PolicyError("expected each group once, found one of them again")
    for one in policy.groups:
        if one.approval == "device-enforced" and one.threshold > len(keys):
            raise PolicyError(
                f"expected at least {one.threshold} approvers for the group {one.group},"
                f" found {len(keys)}: nothing could ever be approved there"
            )


def why_not_approved(
    policy: ApproverPolicy,
    group: str,
    changes: Sequence[Change],
    approvals: Sequence[str],
    now: int,
) -> str | None:
    """Return why a device must not make the changes; None if it may.

    Args:
        policy: Who may approve; verified.
        group: The device's group, as it was told at enrolment.
        changes: All that would become different.
        approvals: DSSE envelopes as JSON text, from whomever.
        now: Unix seconds.
    """
    rule = policy.of(group)
    if rule is None or rule.approval != "device-enforced":
        return None
    for change in changes:
        refusals = [_refusal(policy, rule, change, approval, now) for approval in approvals]
        if None not in refusals:
            found = "; ".join(text for text in refusals if text) or "no approval"
            return (
                f"expected an approval of {change.alias} for the group {group} by"
                f" {rule.threshold} of its approvers, found {found}"
            )
    return None


def signed_by(
    policy: ApproverPolicy, approval: str, threshold: int = 1
) -> tuple[RolloutSpec, tuple[str, ...]]:
    """Return what an envelope approves, and the names of those who signed it.

    Raises:
        SignatureRefusedError: Fewer than `threshold` listed approvers signed it, or not as this.
        canonical.NotCanonicalError: What they signed is no specification.
    """
    verified = _verified(policy, approval, threshold)
    return decode(verified.payload), tuple(signer.name for signer in verified.signers)


def is_requester(spec: RolloutSpec, approver: Approver) -> bool:
    """Tell whether an approver is the one who asked for it."""
    return approver.key.key_id == spec.requester_key_id or approver.name == spec.requested_by


def _refusal(
    policy: ApproverPolicy, rule: GroupPolicy, change: Change, approval: str, now: int
) -> str | None:
    """Return why this envelope does not let this change happen; None if it does."""
    try:
        spec, names = signed_by(policy, approval, rule.threshold)
    except SignatureRefusedError as error:
        return error.found
    except canonical.NotCanonicalError as error:
        return f"a signed text that is no specification ({error})"
    what = f"that of rollout {spec.rollout_id}"
    signers = [one for one in policy.approvers if one.name in names]
    if any(is_requester(spec, one) for one in signers):
        return f"{what}, which {spec.requested_by} asked for and signed"
    if rule.group not in spec.groups:
        return f"{what}, which is for {', '.join(spec.groups)}"
    if spec.not_after < now:
        return f"{what}, which was good until {spec.not_after} and now it is {now}"
    return None if _covers(spec, change) else f"{what}, which is for something else"


def _covers(spec: RolloutSpec, change: Change) -> bool:
    digests = spec.digests or [""]
    return (
        spec.alias == change.alias
        and change.digest in digests
        and spec.run_until == change.run_until
        and terms_of(spec.serving) == change.terms
        and policy_of(spec.policy) == change.policy
        and windows_of(spec.windows) == msgspec.structs.replace(change.windows, is_way_back=False)
        and spec.context <= change.context <= max(spec.context, change.held_context)
    )


def _verified(policy: ApproverPolicy, approval: str, threshold: int) -> Verified:
    keys = [approver.key for approver in policy.approvers]
    return verify(approval.encode(), PAYLOAD_TYPE, keys, threshold)
