"""The grammar of audit: all tags of both sides, and the one shape of their records. Pure.

A tag is `source:subject:action`: who or what made it happen, to what kind of thing, what was done.
It is a format: never renamed, only added. A new one is given its class for other systems, too:
`sprat_controller.audit.views.ocsf_classes`.

A record is one JSON object in canonical form (RFC 8785), of integers, strings, booleans, and lists
and objects of them; its bytes are what the log's tree is made of. Fields that say nothing are left
out:

    v        2; records of version 1 have the actor as a text, and fewer fields
    log      whose log: `controller`, or a device's id
    seq      position in that log, from 1
    ts       when, as the log's clock had it; tsq: how far to trust that clock, where it says so
    mono     nanoseconds of a clock that never goes back, since `boot`
    actor    who: type, id, and, if someone signed in, authn (how) and session
    tag      what happened
    subject  to which thing: `device/gw-1`, `rollout/<id>`
    scope    the target filter within which the actor may do it, if not everything
    request  id of the request that led to it
    before   after: state or digest of what was changed
    outcome  success, failure or denied; reason: why, in a word that programs read
    detail   what else there is to say about this kind of event
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Final

from sprat_proto import canonical

VERSION: Final = 2
GRAMMAR: Final = re.compile(r"[a-z]+:[a-z]+:[a-z]+(?:[_-][a-z]+)*")
OUTCOMES: Final = frozenset({"success", "failure", "denied"})
# Actors without a name of their own, and what kind they are.
_NOBODY: Final = frozenset({"anonymous", "stranger"})
_SYSTEM: Final = "system"
_UNKNOWN: Final = "unknown"


class Tag(StrEnum):
    """What happened."""

    AUTH_DENIED = "api:request:denied"
    TOKEN_CREATED = "operator:token:created"
    TOKEN_REVOKED = "operator:token:revoked"
    SESSION_BEGUN = "operator:session:begun"
    SESSION_ENDED = "operator:session:ended"
    LOGIN_FAILED = "operator:login:failed"
    LOGIN_LOCKED = "operator:login:locked"
    PASSWORD_SET = "operator:password:set"
    PROVIDER_LOGIN_REFUSED = "provider:login:refused"
    PROVIDER_LOGOUT_REFUSED = "provider:logout:refused"
    ROLES_PROVIDED = "provider:role:given"
    USER_CREATED = "operator:user:created"
    USER_DISABLED = "operator:user:disabled"
    USER_ENABLED = "operator:user:enabled"
    ROLE_CREATED = "operator:role:created"
    ROLE_CHANGED = "operator:role:changed"
    ROLE_REMOVED = "operator:role:removed"
    ROLE_GRANTED = "operator:role:granted"
    ROLE_TAKEN = "operator:role:taken"
    ENROLMENT_CREATED = "operator:enrolment:created"
    ENROLMENT_REVOKED = "operator:enrolment:revoked"
    DEVICE_ENROLLED = "device:identity:enrolled"
    DEVICE_ENROLMENT_REFUSED = "device:identity:refused"
    DEVICE_ENROLMENT_CONTESTED = "device:enrolment:contested"
    DEVICE_RENEWED = "device:certificate:renewed"
    DEVICE_RENEWAL_REFUSED = "device:certificate:refused"
    DEVICE_COPY_SUSPECTED = "device:certificate:copied"
    DEVICE_CERTIFICATE_USED = "device:certificate:used"
    DEVICE_QUARANTINED = "device:identity:quarantined"
    DEVICE_RELEASED = "operator:device:released"
    DEVICE_LABELLED = "operator:device:labelled"
    DEVICE_REMOVED = "operator:device:removed"
    METADATA_PUBLISHED = "operator:trust:published"
    METADATA_REFUSED = "operator:trust:refused"
    TIMESTAMP_RENEWED = "controller:timestamp:renewed"
    TIMESTAMP_LATE = "controller:timestamp:late"
    RELEASE_PUBLISHED = "publisher:release:published"
    RELEASE_REFUSED = "publisher:release:refused"
    RELEASE_RETIRED = "publisher:release:retired"
    BLOB_KEPT = "publisher:blob:kept"
    CHANNEL_PUT = "publisher:channel:put"
    CHANNEL_TAKEN_OUT = "publisher:channel:taken-out"
    BUNDLE_EXPORTED = "operator:bundle:exported"
    PLAN_SAVED = "operator:plan:saved"
    ROLLOUT_CREATED = "operator:rollout:created"
    ROLLOUT_EDITED = "operator:rollout:edited"
    ROLLOUT_SUBMITTED = "operator:rollout:submitted"
    ROLLOUT_APPROVED = "operator:rollout:approved"
    ROLLOUT_DENIED = "operator:rollout:denied"
    APPROVAL_OVERRIDDEN = "operator:approval:overridden"
    OVERRIDE_REVIEWED = "operator:override:reviewed"
    ROLLOUT_ADMITTED = "planner:rollout:approved"
    ROLLOUT_STARTED = "operator:rollout:started"
    ROLLOUT_PAUSED = "operator:rollout:paused"
    ROLLOUT_RESUMED = "operator:rollout:resumed"
    ROLLOUT_STOPPED = "operator:rollout:stopped"
    ROLLOUT_OVERRIDDEN = "operator:rollout:overridden"
    ROLLOUT_PROMOTED = "operator:rollout:promoted"
    ROLLOUT_RETRIED = "operator:rollout:retried"
    ROLLOUT_ROLLED_BACK = "operator:rollout:rolled_back"
    RECURRENCE_ADDED = "operator:recurrence:added"
    RECURRENCE_EDITED = "operator:recurrence:edited"
    RECURRENCE_PAUSED = "operator:recurrence:paused"
    RECURRENCE_RESUMED = "operator:recurrence:resumed"
    RECURRENCE_REMOVED = "operator:recurrence:removed"
    RECURRENCE_DUE = "schedule:recurrence:created-rollout"
    RECURRENCE_SKIPPED = "schedule:recurrence:skipped"
    ROLLOUT_DUE = "schedule:rollout:started"
    ROLLOUT_HELD_BACK = "planner:rollout:held-back"
    ROLLOUT_RUNNING = "planner:rollout:running"
    ROLLOUT_FINISHED = "planner:rollout:finished"
    ROLLOUT_ENDED = "planner:rollout:stopped"
    ROLLOUT_ABORTED = "planner:rollout:aborted"
    ROLLOUT_GROUP_MOVED = "planner:rollout:group"
    ROLLOUT_JOINED = "planner:rollout:joined"
    ASSIGNMENT_ISSUED = "planner:assignment:issued"
    ASSIGNMENT_RENEWED = "planner:assignment:renewed"
    EXECUTION_DECIDED = "planner:execution:changed"
    EXECUTION_EXCUSED = "planner:execution:excused"
    EXECUTION_READMITTED = "planner:execution:readmitted"
    EXECUTION_REPLANNED = "planner:execution:replanned"
    EXECUTION_CHANGED = "device:execution:changed"
    EXECUTION_REPORTED_LATE = "device:execution:late"
    DEVICE_MESSAGE_REFUSED = "device:message:refused"
    DEVICE_REPORTS_LOST = "device:report:lost"
    DEVICE_FELL_BACK = "device:model:fell-back"
    DEVICE_RECOVERED = "device:model:recovered"
    DEVICE_AUDIT_BROKEN = "device:audit:broken"
    DEVICE_AUDIT_REWOUND = "device:audit:rewound"
    DEVICE_AUDIT_SILENT = "device:audit:silent"
    DEVICE_AUDIT_COPIED = "device:audit:copied"
    REVOCATIONS_LATE = "controller:revocations:late"
    CHECKPOINT_LATE = "controller:checkpoint:late"
    LOG_REKEYED = "controller:log:rekeyed"
    FORWARDING_LATE = "controller:forwarding:late"
    AUDIT_RESTORED = "controller:audit:restored"
    AUDIT_EXPIRED = "controller:audit:expired"
    RETENTION_SET = "operator:retention:set"
    HOLD_ADDED = "operator:hold:added"
    HOLD_RELEASED = "operator:hold:released"
    CHECKPOINT_COSIGNED = "witness:checkpoint:cosigned"
    CONTROLLER_STARTED = "controller:process:started"
    CONTROLLER_STOPPED = "controller:process:stopped"

    # On a device: what its agent did, and what applications asked of it.
    AGENT_STARTED = "agent:process:started"
    AGENT_STOPPED = "agent:process:stopped"
    MODEL_LOADED = "agent:model:loaded"
    MODEL_REFUSED = "agent:model:refused"
    MODEL_UNLOADED = "agent:model:unloaded"
    MODEL_CRASHED = "agent:model:crashed"
    MODEL_QUARANTINED = "agent:model:quarantined"
    MODEL_ENDED = "agent:model:ended"
    CONFIGURATION_CHANGED = "agent:configuration:changed"
    CAPTURE_CHANGED = "agent:capture:changed"
    INFERENCE_ANSWERED = "application:inference:answered"
    INFERENCE_FAILED = "application:inference:failed"
    INFERENCE_CANCELED = "application:inference:canceled"
    INFERENCE_SUMMED = "application:inference:summed"
    ACCESS_SUMMED = "application:access:summed"
    BUNDLE_IMPORTED = "agent:bundle:imported"
    ASSIGNMENT_ACCEPTED = "agent:assignment:accepted"
    ASSIGNMENT_REFUSED = "agent:assignment:refused"
    ASSIGNMENT_STALE = "agent:assignment:stale"
    EXECUTION_ENTERED = "agent:execution:entered"
    EXECUTION_RESUMED = "agent:execution:resumed"
    EXECUTION_WAITS = "agent:execution:waits"
    EXECUTION_PROBED = "agent:execution:probed"
    ALIAS_FORGOTTEN = "agent:alias:forgotten"
    ALIAS_RETURNED = "agent:alias:returned"
    AUDIT_DIVERGED = "agent:audit:diverged"
    JOURNAL_ALIVE = "agent:journal:alive"
    JOURNAL_SUMMED = "agent:journal:summed"
    JOURNAL_FULL = "agent:journal:full"
    JOURNAL_FREED = "agent:journal:freed"
    RESERVE_GIVEN = "agent:reserve:given"
    RESERVE_RESTORED = "agent:reserve:restored"
    # What it changes itself: before, and how it came out.
    ACTIVATION_INTENDED = "agent:activation:intended"
    ACTIVATION_ENDED = "agent:activation:ended"
    ROLLBACK_INTENDED = "agent:rollback:intended"
    ROLLBACK_ENDED = "agent:rollback:ended"
    REMOVAL_INTENDED = "agent:removal:intended"
    REMOVAL_ENDED = "agent:removal:ended"
    ROOT_INTENDED = "agent:root:intended"
    ROOT_ENDED = "agent:root:ended"
    CERTIFICATE_INTENDED = "agent:certificate:intended"
    CERTIFICATE_ENDED = "agent:certificate:ended"
    CONFIGURATION_INTENDED = "agent:configuration:intended"
    CONFIGURATION_ENDED = "agent:configuration:ended"

    # Of the signer, in its own log.
    SIGNER_KEYS_REPLACED = "signer:keys:replaced"
    SIGNER_PLAN_ISSUED = "signer:plan:issued"
    SIGNER_PLAN_REFUSED = "signer:plan:refused"
    SIGNER_TIMESTAMP_SIGNED = "signer:timestamp:signed"
    SIGNER_TIMESTAMP_REFUSED = "signer:timestamp:refused"
    SIGNER_CERTIFICATE_ISSUED = "signer:certificate:issued"
    SIGNER_CERTIFICATE_REFUSED = "signer:certificate:refused"
    SIGNER_DEVICE_REVOKED = "signer:device:revoked"
    SIGNER_REVOCATIONS_SIGNED = "signer:revocations:signed"
    SIGNER_CHECKPOINT_SIGNED = "signer:checkpoint:signed"
    SIGNER_CHECKPOINT_REFUSED = "signer:checkpoint:refused"
    SIGNER_LOG_RESTORED = "signer:log:restored"

    @property
    def source(self) -> str:
        """Who or what made it happen."""
        return self.value.split(":")[0]

    @property
    def subject(self) -> str:
        """What kind of thing it happened to."""
        return self.value.split(":")[1]

    @property
    def action(self) -> str:
        """What was done."""
        return self.value.split(":")[2]


def encode(
    *,
    log: str,
    seq: int,
    at: datetime,
    actor: Mapping[str, str],
    tag: str,
    subject: str,
    outcome: str,
    detail: Mapping[str, object],
    more: Mapping[str, object | None],
) -> bytes:
    """Return a record in canonical form.

    Args:
        log: Whose log.
        seq: Its position.
        at: When, timezone-aware.
        actor: Who; see `actor_of`.
        tag: What happened.
        subject: To which thing.
        outcome: success, failure or denied.
        detail: What else there is to say.
        more: Other fields of a record; None and "" are left out.
    """
    return canonical.encode(
        {
            "v": VERSION,
            "log": log,
            "seq": seq,
            "ts": at.isoformat(timespec="milliseconds"),
            "actor": actor,
            "tag": tag,
            "subject": subject,
            "outcome": outcome,
            "detail": detail,
            **{name: value for name, value in more.items() if value not in (None, "")},
        }
    )


def actor_of(name: str) -> dict[str, str]:
    """Return a name such as `user:ann` or `planner` as it stands in a record."""
    kind, colon, id_ = name.partition(":")
    if colon:
        return {"type": kind, "id": id_}
    return {"type": _UNKNOWN if name in _NOBODY else _SYSTEM, "id": name}


def actor_name(actor: object) -> str | None:
    """Return the name of a record's actor, of either version; None: there is none."""
    match actor:
        case str():
            return actor
        case {"type": "system" | "unknown", "id": str() as id_}:
            return id_
        case {"type": str() as kind, "id": str() as id_}:
            return f"{kind}:{id_}"
        case _:
            return None
