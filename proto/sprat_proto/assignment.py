"""The assignment: the signed desired state of one device, the only thing that is sent downward.

Signed by the controller's assignment key and carried as a DSSE envelope. It can pick only among
variants that a publisher signed: the device checks the publisher's signature on each manifest
itself. `version` rises with every change; a device obeys only a higher one than it has.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from sprat_proto import canonical
from sprat_proto.manifest import Name, Sha256, Size, Text, Version

SCHEMA: Final = 1
PAYLOAD_TYPE: Final = "application/vnd.sprat.assignment.v1+json"


class EnvelopeRef(Struct, frozen=True, forbid_unknown_fields=True):
    """The blob that holds the signed manifest."""

    sha256: Sha256
    size: Size


class AssignedModel(Struct, frozen=True, forbid_unknown_fields=True):
    """One alias bound to one variant, and the execution that brings it there."""

    alias: Name
    model: Name
    release: Version
    variant: Name
    # SHA-256 of the manifest's canonical bytes: the variant's identity, and the running digest.
    digest: Sha256
    envelope: EnvelopeRef
    execution_id: Text
    rollout_id: Text


class Policy(Struct, frozen=True, forbid_unknown_fields=True):
    """How the device runs what it is assigned."""

    # Tokens of context that the engine reserves memory for.
    context: Annotated[int, Meta(ge=64, le=1 << 20)] = 2048


class Assignment(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole desired state of one device."""

    schema: Literal[1]
    device_id: Name
    version: Annotated[int, Meta(ge=1, le=1 << 53)]
    issued: Text
    models: list[AssignedModel]
    policy: Policy


def encode(assignment: Assignment) -> bytes:
    """Return the canonical bytes to sign."""
    return canonical.encode(assignment)


def decode(data: bytes) -> Assignment:
    """Read an assignment from its canonical bytes.

    Raises:
        canonical.NotCanonicalError: Wrong structure or spelling.
    """
    return canonical.decode(data, Assignment, "assignment")
