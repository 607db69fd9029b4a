"""The assignment: the signed desired state of one device, the only thing that is sent downward.

It is the `custom` field of the device's director targets (`sprat_proto.trust`), signed online and
carried with its snapshot and timestamp in one message. It can pick only among variants that the
image repository releases for this hardware. `version` rises with every change (signing it anew, to
keep it from expiring, does not); a device obeys only a higher one than it has.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from sprat_proto import canonical, fit, trust
from sprat_proto.manifest import Name, Sha256, Size, Text, Version
from sprat_proto.policy import FitPolicy
from sprat_proto.windows import WindowSpec

SCHEMA: Final = 2


class ServingTerms(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How a model is served; each term that is left out has the device decide as it always did.

    Slots and KV type count for fit, by the same rule on both sides.
    """

    # Requests answered at once, neither more nor less; 0: as many as the device's memory allows.
    slots: Annotated[int, Meta(ge=0, le=fit.MAX_SLOTS)] = 0
    kv_type: Literal["f16", "q8_0"] = "f16"  # of keys and values: `fit.KV_BLOCKS`
    is_pinned: bool = False  # never evicted for another model


AS_DEVICE_DECIDES: Final = ServingTerms()

_Moment = Annotated[int, Meta(ge=0, le=1 << 40)]  # unix seconds; 0: none


class Windows(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """When a device may bring a model in, by its own clock, also while nobody can be asked."""

    download: WindowSpec | None = None  # bytes move only while it is open
    activate: WindowSpec | None = None  # and installing, probing and activating begin only then
    not_before: _Moment = 0  # nothing begins earlier
    deadline: _Moment = 0  # from then on what has not begun to be installed has failed
    override: bool = False  # in an emergency: nothing of the above counts
    # The rollout was rolled back. What was committed on this device before is not held by windows;
    # anything else is.
    is_way_back: bool = False


AT_ANY_TIME: Final = Windows()


class AssignedModel(Struct, frozen=True, forbid_unknown_fields=True):
    """One alias bound to one variant, and the execution that brings it there."""

    alias: Name
    publisher: Name
    model: Name
    release: Version
    variant: Name
    # SHA-256 and bytes of the manifest: the variant's identity, and the running digest.
    digest: Sha256
    size: Size
    execution_id: Text
    rollout_id: Text
    # Unix seconds after which it no longer runs; 0: for ever, also when the plan has expired.
    run_until: Annotated[int, Meta(ge=0, le=1 << 40)] = 0
    # Unset where the device decides: what was assigned before these terms is spelled as ever.
    serving: ServingTerms | UnsetType = UNSET
    # What the device holds the variant to, by its own facts; unset: the release's own policy.
    policy: FitPolicy | UnsetType = UNSET
    # Unset: at any time.
    windows: Windows | UnsetType = UNSET

    @property
    def terms(self) -> ServingTerms:
        """How it is served."""
        return terms_of(self.serving)

    @property
    def fit_policy(self) -> FitPolicy | None:
        """What fit is to keep to; None: the release's own policy."""
        return policy_of(self.policy)

    @property
    def times(self) -> Windows:
        """When it may be brought in."""
        return windows_of(self.windows)

    @property
    def name(self) -> str:
        """`model@release+variant`, as people say it."""
        return f"{self.model}@{self.release}+{self.variant}"

    @property
    def path(self) -> str:
        """The manifest's target path in both repositories."""
        return trust.manifest_path(self.publisher, self.model, self.release, self.variant)


class Policy(Struct, frozen=True, forbid_unknown_fields=True):
    """How the device runs what it is assigned."""

    # Tokens of context that the engine reserves memory for.
    context: Annotated[int, Meta(ge=64, le=1 << 20)] = 2048


class Assignment(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole desired state of one device."""

    schema: Literal[2]
    device_id: Name
    version: Annotated[int, Meta(ge=1, le=1 << 53)]
    issued: Text
    models: list[AssignedModel]
    policy: Policy
    # DSSE envelopes (JSON text) over `sprat_proto.approval.RolloutSpec`.
    approvals: Annotated[list[Text], Meta(max_length=64)] = []


def terms_of(said: ServingTerms | UnsetType) -> ServingTerms:
    """Return the terms that were written."""
    return AS_DEVICE_DECIDES if isinstance(said, UnsetType) else said


def spelled(terms: ServingTerms) -> ServingTerms | UnsetType:
    """Return the terms as they are written: nothing where the device decides."""
    return UNSET if terms == AS_DEVICE_DECIDES else terms


def policy_of(said: FitPolicy | UnsetType) -> FitPolicy | None:
    """Return the policy that was written; None: the release's own."""
    return None if isinstance(said, UnsetType) else said


def spelled_policy(policy: FitPolicy | None) -> FitPolicy | UnsetType:
    """Return the policy as it is written: nothing where it is the release's own.

    One that asks for nothing is written too: it takes the place of the release's.
    """
    return UNSET if policy is None else policy


def windows_of(said: Windows | UnsetType) -> Windows:
    """Return the windows that were written."""
    return AT_ANY_TIME if isinstance(said, UnsetType) else said


def spelled_windows(windows: Windows) -> Windows | UnsetType:
    """Return the windows as they are written: nothing where nothing is asked."""
    return UNSET if windows == AT_ANY_TIME else windows


def to_custom(assignment: Assignment) -> dict[str, object]:
    """Return the assignment as the `custom` field of the device's director targets."""
    return msgspec.to_builtins(assignment)


def from_custom(custom: object) -> Assignment:
    """Read an assignment out of verified director targets.

    Raises:
        canonical.NotCanonicalError: It is not one; a field that is not known here is refused.
    """
    try:
        return msgspec.convert(custom, Assignment)
    except msgspec.ValidationError as error:
        raise canonical.NotCanonicalError(f"assignment: {error}") from error


def encode(assignment: Assignment) -> bytes:
    """Return the canonical bytes, as they are kept on the device."""
    return canonical.encode(assignment)


def decode(data: bytes) -> Assignment:
    """Read an assignment from its canonical bytes.

    Raises:
        canonical.NotCanonicalError: Wrong structure or spelling.
    """
    return canonical.decode(data, Assignment, "assignment")
