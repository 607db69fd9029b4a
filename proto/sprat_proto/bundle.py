"""A bundle: one file that brings to devices without a network what the network would. Pure.

It is an uncompressed tar of regular files, in this order and no other (`rank`):

    sprat-bundle.json                    who it is for; nothing that matters is believed of it
    director/<version>.root.json         the director's roots, from version 1 on
    plans/<device>/{targets,snapshot,timestamp}.json    for a named device: its ordinary plan
    offline.json                         for a group: an envelope over an `OfflineStatement`
    image/timestamp.json, image/<version>.<role>.json   what proves the manifests
    blobs/<sha256>                       manifests and model files, under their hash

Nothing in it is trusted for where it lies: a device verifies each part as if it came over the
network, so whoever holds the stick can withhold and nothing else.

What keeps an old stick from taking a device back. A named device's plan is director metadata with
its 7 days, its version floor and its assignment version. A group's statement is signed by the
director's `offline` keys (named in its root's custom field, offline, a threshold of them), and is
refused when it is past `not_after` (at most 90 days), when its `counter` is not above the last one
taken under these keys, or when it was `issued` before the newest plan that the device obeyed. In
turn, a plan that was issued before the newest statement is refused: the later word counts.
Image metadata may not go below its floors, and no release below its counter, either way.
"""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from sprat_proto import canonical, trust
from sprat_proto.approval import Approver
from sprat_proto.assignment import AssignedModel, Policy
from sprat_proto.manifest import Name, Text
from sprat_proto.signing import KeyFileError, check_public_pem

SCHEMA: Final = 1
SUFFIX: Final = ".sprat"
HEADER: Final = "sprat-bundle.json"
OFFLINE: Final = "offline.json"
STATEMENT_TYPE: Final = "application/vnd.sprat.offline-statement+json"
# Where the director's root names the keys for groups: in its custom field, under this name.
ROLE_FIELD: Final = "offline"
MAX_LIFE_S: Final = 90 * 86400
MAX_SMALL_BYTES: Final = 1 << 20  # header, statement
MAX_BLOB_BYTES: Final = 1 << 40
MAX_MEMBERS: Final = 100_000

_Moment = Annotated[int, Meta(ge=0, le=1 << 40)]  # unix seconds
_DEVICE: Final = r"[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?"
_ROLE: Final = r"[1-9][0-9]{0,9}\.(?:root|snapshot|targets|pub-[a-z0-9][a-z0-9._-]{0,63})"
# In order: what a member's name may be, and how many bytes it may have.
_KINDS: Final[tuple[tuple[re.Pattern[str], int], ...]] = tuple(
    (re.compile(pattern), limit)
    for pattern, limit in (
        (re.escape(HEADER), MAX_SMALL_BYTES),
        (r"director/[1-9][0-9]{0,9}\.root\.json", trust.MAX_ROOT_BYTES),
        (rf"plans/{_DEVICE}/(?:targets|snapshot|timestamp)\.json", MAX_SMALL_BYTES),
        (re.escape(OFFLINE), MAX_SMALL_BYTES),
        (rf"image/(?:timestamp|{_ROLE})\.json", trust.MAX_TARGETS_BYTES),
        (r"blobs/[0-9a-f]{64}", MAX_BLOB_BYTES),
    )
)


class Header(Struct, frozen=True, forbid_unknown_fields=True):
    """Who the bundle is for, so that a person with the wrong stick is told so."""

    schema: Literal[1]
    made: Text
    devices: list[Name]
    group: str = ""


class OfflineRole(Struct, frozen=True, forbid_unknown_fields=True):
    """Whose word counts for a group: in the director's root, so changed only by a ceremony."""

    keys: Annotated[list[Approver], Meta(min_length=1, max_length=16)]
    threshold: Annotated[int, Meta(ge=1, le=16)] = 2


class RoleError(ValueError):
    """The director's root does not say clearly whose word counts for groups."""


class OfflineStatement(Struct, frozen=True, forbid_unknown_fields=True):
    """What the devices of a group are to run from now on, signed offline."""

    schema: Literal[1]
    group: Name
    # Rises with each statement for the group; a device reports it as its assignment's version, so
    # that a controller that hears of it issues one above.
    counter: Annotated[int, Meta(ge=1, le=1 << 52)]
    issued: _Moment
    not_after: _Moment
    models: Annotated[list[AssignedModel], Meta(max_length=64)]
    policy: Policy
    approvals: Annotated[list[Text], Meta(max_length=64)] = []


def plan_name(device_id: str, role: str) -> str:
    """Return where a named device's targets, snapshot or timestamp is."""
    return f"plans/{device_id}/{role}.json"


def director_root_name(version: int) -> str:
    """Return where a root of the director is."""
    return f"director/{version}.root.json"


def image_name(file: str) -> str:
    """Return where a metadata file of the image repository is."""
    return f"image/{file}"


def blob_name(sha256: str) -> str:
    """Return where a blob is."""
    return f"blobs/{sha256}"


def rank(name: str) -> tuple[int, int] | None:
    """Return a member's place in the order and its limit in bytes; None if it has no business."""
    for place, (pattern, limit) in enumerate(_KINDS):
        if pattern.fullmatch(name):
            return place, limit
    return None


def role_to_custom(role: OfflineRole) -> object:
    """Return the role as it stands in the root's custom field."""
    return msgspec.to_builtins(role)


def role_of(custom: object) -> OfflineRole | None:
    """Return whose word counts for groups, out of a root's custom field; None: nobody's.

    Raises:
        RoleError: It cannot be read, a key or a name stands there twice, which would let one person
            count as two, or the keys cannot meet the threshold.
    """
    try:
        role = msgspec.convert(custom or {}, _RootCustom).offline
        keys = [check_public_pem(one.public_pem) for one in role.keys] if role else []
    except (msgspec.ValidationError, KeyFileError) as error:
        raise RoleError(f"the director's root and its offline keys: {error}") from error
    if role is None:
        return None
    names = {one.name for one in role.keys}
    if not len(set(keys)) == len(names) == len(keys) or role.threshold > len(keys):
        raise RoleError(
            "the director's root: expected each offline key and each name once, and no higher"
            f" threshold than keys, found {len(set(keys))} keys, {len(names)} names and a"
            f" threshold of {role.threshold}"
        )
    return role


def encode_statement(statement: OfflineStatement) -> bytes:
    """Return the canonical bytes that are signed."""
    return canonical.encode(statement)


def decode_statement(data: bytes) -> OfflineStatement:
    """Read a statement from its canonical bytes.

    Raises:
        canonical.NotCanonicalError: Wrong structure or spelling.
    """
    return canonical.decode(data, OfflineStatement, "offline statement")


class _RootCustom(Struct, frozen=True):
    offline: OfflineRole | None = None
