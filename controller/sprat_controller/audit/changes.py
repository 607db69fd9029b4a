"""What a record must say of what was changed, by its tag. Pure.

`before` and `after` are what a thing was and is: a word, if it has states; else the SHA-256 of what
it says of itself in canonical JSON (`digest`), so that who has a copy can tell whether it is that
one. No secret and no hash of a secret is ever part of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from sprat_proto import canonical
from sprat_proto.audit_events import Tag


class Change(StrEnum):
    """What was done to the thing that a record is about; and so which fields the record has."""

    CREATED = "created"  # after
    CHANGED = "changed"  # before and after
    REMOVED = "removed"  # before
    NOTED = "noted"  # neither: it tells of something, and nothing that is kept here changed by it


FIELDS: Final[Mapping[Change, frozenset[str]]] = {
    Change.CREATED: frozenset({"after"}),
    Change.CHANGED: frozenset({"before", "after"}),
    Change.REMOVED: frozenset({"before"}),
    Change.NOTED: frozenset(),
}

# Tags of the controller's log that tell of a success. Others tell of refusals, failures and alarms:
# they say `reason`, and may say more.
CHANGES: Final[Mapping[Tag, Change]] = {
    Tag.TOKEN_CREATED: Change.CREATED,
    Tag.TOKEN_REVOKED: Change.CHANGED,
    Tag.SESSION_BEGUN: Change.CREATED,
    Tag.SESSION_ENDED: Change.CHANGED,
    Tag.PASSWORD_SET: Change.CHANGED,
    Tag.ROLES_PROVIDED: Change.CHANGED,
    Tag.USER_CREATED: Change.CREATED,
    Tag.USER_DISABLED: Change.CHANGED,
    Tag.USER_ENABLED: Change.CHANGED,
    Tag.ROLE_CREATED: Change.CREATED,
    Tag.ROLE_CHANGED: Change.CHANGED,
    Tag.ROLE_REMOVED: Change.REMOVED,
    Tag.ROLE_GRANTED: Change.CREATED,
    Tag.ROLE_TAKEN: Change.REMOVED,
    Tag.ENROLMENT_CREATED: Change.CREATED,
    Tag.ENROLMENT_REVOKED: Change.CHANGED,
    Tag.DEVICE_ENROLLED: Change.CREATED,
    Tag.DEVICE_RENEWED: Change.CHANGED,
    Tag.DEVICE_CERTIFICATE_USED: Change.CHANGED,
    Tag.DEVICE_QUARANTINED: Change.CHANGED,
    Tag.DEVICE_RELEASED: Change.CHANGED,
    Tag.DEVICE_LABELLED: Change.CHANGED,
    Tag.DEVICE_REMOVED: Change.REMOVED,
    Tag.METADATA_PUBLISHED: Change.CHANGED,
    Tag.TIMESTAMP_RENEWED: Change.CHANGED,
    Tag.RELEASE_PUBLISHED: Change.CREATED,
    Tag.RELEASE_RETIRED: Change.CHANGED,
    Tag.BLOB_KEPT: Change.CREATED,
    Tag.CHANNEL_PUT: Change.CREATED,
    Tag.CHANNEL_TAKEN_OUT: Change.REMOVED,
    Tag.BUNDLE_EXPORTED: Change.CREATED,
    Tag.PLAN_SAVED: Change.CREATED,
    Tag.ROLLOUT_CREATED: Change.CREATED,
    Tag.ROLLOUT_EDITED: Change.CHANGED,
    Tag.ROLLOUT_SUBMITTED: Change.CHANGED,
    Tag.ROLLOUT_APPROVED: Change.CREATED,
    Tag.ROLLOUT_DENIED: Change.CHANGED,
    Tag.APPROVAL_OVERRIDDEN: Change.CREATED,
    Tag.OVERRIDE_REVIEWED: Change.CHANGED,
    Tag.ROLLOUT_ADMITTED: Change.CHANGED,
    Tag.ROLLOUT_STARTED: Change.CHANGED,
    Tag.ROLLOUT_PAUSED: Change.CHANGED,
    Tag.ROLLOUT_RESUMED: Change.CHANGED,
    Tag.ROLLOUT_STOPPED: Change.CHANGED,
    Tag.ROLLOUT_OVERRIDDEN: Change.NOTED,
    Tag.ROLLOUT_PROMOTED: Change.CHANGED,
    Tag.ROLLOUT_RETRIED: Change.CHANGED,
    Tag.ROLLOUT_ROLLED_BACK: Change.CHANGED,
    Tag.RECURRENCE_ADDED: Change.CREATED,
    Tag.RECURRENCE_EDITED: Change.CHANGED,
    Tag.RECURRENCE_PAUSED: Change.CHANGED,
    Tag.RECURRENCE_RESUMED: Change.CHANGED,
    Tag.RECURRENCE_REMOVED: Change.REMOVED,
    Tag.RECURRENCE_DUE: Change.NOTED,
    Tag.RECURRENCE_SKIPPED: Change.NOTED,
    Tag.ROLLOUT_DUE: Change.CHANGED,
    Tag.ROLLOUT_HELD_BACK: Change.CHANGED,
    Tag.ROLLOUT_RUNNING: Change.CHANGED,
    Tag.ROLLOUT_FINISHED: Change.CHANGED,
    Tag.ROLLOUT_ENDED: Change.CHANGED,
    Tag.ROLLOUT_ABORTED: Change.CHANGED,
    Tag.ROLLOUT_GROUP_MOVED: Change.CHANGED,
    Tag.ROLLOUT_JOINED: Change.CREATED,
    Tag.ASSIGNMENT_ISSUED: Change.CREATED,
    Tag.ASSIGNMENT_RENEWED: Change.CHANGED,
    Tag.EXECUTION_DECIDED: Change.CHANGED,
    Tag.EXECUTION_EXCUSED: Change.CHANGED,
    Tag.EXECUTION_READMITTED: Change.CHANGED,
    Tag.EXECUTION_REPLANNED: Change.CHANGED,
    Tag.EXECUTION_CHANGED: Change.CHANGED,
    Tag.RETENTION_SET: Change.CHANGED,
    Tag.HOLD_ADDED: Change.CREATED,
    Tag.HOLD_RELEASED: Change.CHANGED,
    Tag.CHECKPOINT_COSIGNED: Change.CREATED,
    Tag.LOG_REKEYED: Change.CHANGED,
}


def digest(value: object) -> str:
    """Return the SHA-256 of a value's canonical JSON, in hex.

    Args:
        value: Integers, strings, booleans, and lists and mappings of them.
    """
    return canonical.sha256_hex(canonical.encode(value))


def fault(record: Mapping[str, object]) -> str:
    """Return what a record of the controller's log does not say that it must; empty: nothing."""
    tag = str(record.get("tag", ""))
    if record.get("outcome") != "success":
        needed, why = {"reason"}, str(record.get("outcome"))
    else:
        change = CHANGES.get(Tag(tag), Change.NOTED)
        needed, why = set(FIELDS[change]), change.value
    missing = ", ".join(sorted(needed - record.keys()))
    return f"a record {tag} ({why}) has no {missing}" if missing else ""
