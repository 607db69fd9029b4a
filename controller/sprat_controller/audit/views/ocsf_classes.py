"""Which class of OCSF each tag is of, and which activity of it: a row for every tag. Pure.

A tag that has no row here is one of a newer agent: a Base Event. Which classes there are, what
their activities are called and which attributes they require is that of schema 1.6.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple

from sprat_proto.audit_events import Tag

SCHEMA: Final = "1.6.0"
OTHER: Final = 99


@dataclass(frozen=True)
class ClassOf:
    """A class, and the category that it belongs to."""

    uid: int
    name: str
    category_uid: int
    category_name: str
    activities: Mapping[int, str]


class Class(Enum):
    """The classes in use."""

    BASE = ClassOf(0, "Base Event", 0, "Uncategorized", {})
    AUTHENTICATION = ClassOf(
        3002, "Authentication", 3, "Identity & Access Management", {1: "Logon", 2: "Logoff"}
    )
    ENTITY = ClassOf(
        3004,
        "Entity Management",
        3,
        "Identity & Access Management",
        {
            1: "Create",
            2: "Read",
            3: "Update",
            4: "Delete",
            5: "Move",
            6: "Enroll",
            7: "Unenroll",
            8: "Enable",
            9: "Disable",
            10: "Activate",
            11: "Deactivate",
            12: "Suspend",
            13: "Resume",
        },
    )
    USER_ACCESS = ClassOf(
        3005,
        "User Access Management",
        3,
        "Identity & Access Management",
        {1: "Assign Privileges", 2: "Revoke Privileges"},
    )
    LIFECYCLE = ClassOf(
        6002,
        "Application Lifecycle",
        6,
        "Application Activity",
        {
            1: "Install",
            2: "Remove",
            3: "Start",
            4: "Stop",
            5: "Restart",
            6: "Enable",
            7: "Disable",
            8: "Update",
        },
    )
    API = ClassOf(
        6003,
        "API Activity",
        6,
        "Application Activity",
        {1: "Create", 2: "Read", 3: "Update", 4: "Delete"},
    )


class Row(NamedTuple):
    """A class, and one of its activities; `OTHER` is called as the tag's action is."""

    class_: Class
    activity: int


def of(tag: Tag | None) -> Row:
    """Return the class and activity of a tag; None: one that is not known."""
    return _UNKNOWN if tag is None else ROWS[tag]


_UNKNOWN: Final = Row(Class.BASE, OTHER)
_LOGON = Class.AUTHENTICATION
_ENTITY, _ACCESS, _LIFE, _API = Class.ENTITY, Class.USER_ACCESS, Class.LIFECYCLE, Class.API
_CREATE, _READ, _UPDATE, _DELETE = 1, 2, 3, 4  # of an entity, and of what the API is about
_ENROLL, _UNENROLL, _ENABLE, _DISABLE, _SUSPEND, _RESUME = 6, 7, 8, 9, 12, 13  # of an entity
_INSTALL, _REMOVE, _START, _STOP = 1, 2, 3, 4  # of an application
_TURN_OFF, _RENEW = 7, 8

ROWS: Final[Mapping[Tag, Row]] = {
    Tag.AUTH_DENIED: Row(_LOGON, OTHER),
    Tag.SESSION_BEGUN: Row(_LOGON, 1),
    Tag.SESSION_ENDED: Row(_LOGON, 2),
    Tag.LOGIN_FAILED: Row(_LOGON, 1),
    Tag.LOGIN_LOCKED: Row(_LOGON, 1),
    Tag.PASSWORD_SET: Row(_ENTITY, _UPDATE),
    Tag.PROVIDER_LOGIN_REFUSED: Row(_LOGON, 1),
    Tag.PROVIDER_LOGOUT_REFUSED: Row(_LOGON, 2),
    Tag.ROLES_PROVIDED: Row(_ACCESS, 1),
    Tag.TOKEN_CREATED: Row(_ENTITY, _CREATE),
    Tag.TOKEN_REVOKED: Row(_ENTITY, _DISABLE),
    Tag.USER_CREATED: Row(_ENTITY, _CREATE),
    Tag.USER_DISABLED: Row(_ENTITY, _DISABLE),
    Tag.USER_ENABLED: Row(_ENTITY, _ENABLE),
    Tag.ROLE_CREATED: Row(_ENTITY, _CREATE),
    Tag.ROLE_CHANGED: Row(_ENTITY, _UPDATE),
    Tag.ROLE_REMOVED: Row(_ENTITY, _DELETE),
    Tag.ROLE_GRANTED: Row(_ACCESS, 1),
    Tag.ROLE_TAKEN: Row(_ACCESS, 2),
    Tag.ENROLMENT_CREATED: Row(_ENTITY, _CREATE),
    Tag.ENROLMENT_REVOKED: Row(_ENTITY, _DISABLE),
    Tag.DEVICE_ENROLLED: Row(_ENTITY, _ENROLL),
    Tag.DEVICE_ENROLMENT_REFUSED: Row(_ENTITY, _ENROLL),
    Tag.DEVICE_ENROLMENT_CONTESTED: Row(_ENTITY, _ENROLL),
    Tag.DEVICE_RENEWED: Row(_ENTITY, _UPDATE),
    Tag.DEVICE_RENEWAL_REFUSED: Row(_ENTITY, _UPDATE),
    Tag.DEVICE_COPY_SUSPECTED: Row(_LOGON, OTHER),
    Tag.DEVICE_CERTIFICATE_USED: Row(_ENTITY, _UPDATE),
    Tag.DEVICE_QUARANTINED: Row(_ENTITY, _SUSPEND),
    Tag.DEVICE_RELEASED: Row(_ENTITY, _RESUME),
    Tag.DEVICE_LABELLED: Row(_ENTITY, _UPDATE),
    Tag.DEVICE_REMOVED: Row(_ENTITY, _UNENROLL),
    Tag.METADATA_PUBLISHED: Row(_ENTITY, _UPDATE),
    Tag.METADATA_REFUSED: Row(_ENTITY, _UPDATE),
    Tag.TIMESTAMP_RENEWED: Row(_API, _UPDATE),
    Tag.TIMESTAMP_LATE: Row(_API, OTHER),
    Tag.RELEASE_PUBLISHED: Row(_API, _CREATE),
    Tag.RELEASE_REFUSED: Row(_API, _CREATE),
    Tag.RELEASE_RETIRED: Row(_API, _UPDATE),
    Tag.BLOB_KEPT: Row(_API, _CREATE),
    Tag.CHANNEL_PUT: Row(_API, _UPDATE),
    Tag.CHANNEL_TAKEN_OUT: Row(_API, _UPDATE),
    Tag.BUNDLE_EXPORTED: Row(_API, _READ),
    Tag.PLAN_SAVED: Row(_API, _CREATE),
    Tag.ROLLOUT_CREATED: Row(_API, _CREATE),
    Tag.ROLLOUT_EDITED: Row(_API, _UPDATE),
    Tag.ROLLOUT_SUBMITTED: Row(_API, _UPDATE),
    Tag.ROLLOUT_APPROVED: Row(_API, _UPDATE),
    Tag.ROLLOUT_DENIED: Row(_API, _UPDATE),
    Tag.APPROVAL_OVERRIDDEN: Row(_API, _UPDATE),
    Tag.OVERRIDE_REVIEWED: Row(_API, _UPDATE),
    Tag.ROLLOUT_ADMITTED: Row(_API, _UPDATE),
    Tag.ROLLOUT_STARTED: Row(_API, _UPDATE),
    Tag.ROLLOUT_PAUSED: Row(_API, _UPDATE),
    Tag.ROLLOUT_RESUMED: Row(_API, _UPDATE),
    Tag.ROLLOUT_STOPPED: Row(_API, _UPDATE),
    Tag.ROLLOUT_OVERRIDDEN: Row(_API, _UPDATE),
    Tag.ROLLOUT_PROMOTED: Row(_API, _UPDATE),
    Tag.ROLLOUT_RETRIED: Row(_API, _UPDATE),
    Tag.ROLLOUT_ROLLED_BACK: Row(_API, _UPDATE),
    Tag.RECURRENCE_ADDED: Row(_API, _CREATE),
    Tag.RECURRENCE_EDITED: Row(_API, _UPDATE),
    Tag.RECURRENCE_PAUSED: Row(_API, _UPDATE),
    Tag.RECURRENCE_RESUMED: Row(_API, _UPDATE),
    Tag.RECURRENCE_REMOVED: Row(_API, _DELETE),
    Tag.RECURRENCE_DUE: Row(_API, _CREATE),
    Tag.RECURRENCE_SKIPPED: Row(_API, OTHER),
    Tag.ROLLOUT_DUE: Row(_API, _UPDATE),
    Tag.ROLLOUT_HELD_BACK: Row(_API, _UPDATE),
    Tag.ROLLOUT_RUNNING: Row(_API, _UPDATE),
    Tag.ROLLOUT_FINISHED: Row(_API, _UPDATE),
    Tag.ROLLOUT_ENDED: Row(_API, _UPDATE),
    Tag.ROLLOUT_ABORTED: Row(_API, _UPDATE),
    Tag.ROLLOUT_GROUP_MOVED: Row(_API, _UPDATE),
    Tag.ROLLOUT_JOINED: Row(_API, _UPDATE),
    Tag.ASSIGNMENT_ISSUED: Row(_LIFE, _RENEW),
    Tag.ASSIGNMENT_RENEWED: Row(_LIFE, _RENEW),
    Tag.EXECUTION_DECIDED: Row(_LIFE, _RENEW),
    Tag.EXECUTION_EXCUSED: Row(_LIFE, _RENEW),
    Tag.EXECUTION_READMITTED: Row(_LIFE, _RENEW),
    Tag.EXECUTION_REPLANNED: Row(_LIFE, _RENEW),
    Tag.EXECUTION_CHANGED: Row(_LIFE, _RENEW),
    Tag.EXECUTION_REPORTED_LATE: Row(_LIFE, _RENEW),
    Tag.DEVICE_MESSAGE_REFUSED: Row(_API, OTHER),
    Tag.DEVICE_REPORTS_LOST: Row(_API, OTHER),
    Tag.DEVICE_FELL_BACK: Row(_LIFE, _RENEW),
    Tag.DEVICE_RECOVERED: Row(_LIFE, _RENEW),
    Tag.DEVICE_AUDIT_BROKEN: Row(_API, OTHER),
    Tag.DEVICE_AUDIT_REWOUND: Row(_API, OTHER),
    Tag.DEVICE_AUDIT_SILENT: Row(_API, OTHER),
    Tag.DEVICE_AUDIT_COPIED: Row(_LOGON, OTHER),
    Tag.REVOCATIONS_LATE: Row(_API, OTHER),
    Tag.CHECKPOINT_LATE: Row(_API, OTHER),
    Tag.FORWARDING_LATE: Row(_API, OTHER),
    Tag.AUDIT_RESTORED: Row(_API, _UPDATE),
    Tag.AUDIT_EXPIRED: Row(_API, _DELETE),
    Tag.RETENTION_SET: Row(_API, _UPDATE),
    Tag.HOLD_ADDED: Row(_API, _CREATE),
    Tag.HOLD_RELEASED: Row(_API, _DELETE),
    Tag.CHECKPOINT_COSIGNED: Row(_API, _UPDATE),
    Tag.LOG_REKEYED: Row(_API, _UPDATE),
    Tag.CONTROLLER_STARTED: Row(_LIFE, _START),
    Tag.CONTROLLER_STOPPED: Row(_LIFE, _STOP),
    Tag.AGENT_STARTED: Row(_LIFE, _START),
    Tag.AGENT_STOPPED: Row(_LIFE, _STOP),
    Tag.MODEL_LOADED: Row(_LIFE, _START),
    Tag.MODEL_REFUSED: Row(_LIFE, _START),
    Tag.MODEL_UNLOADED: Row(_LIFE, _STOP),
    Tag.MODEL_CRASHED: Row(_LIFE, OTHER),
    Tag.MODEL_QUARANTINED: Row(_LIFE, _TURN_OFF),
    Tag.MODEL_ENDED: Row(_LIFE, _STOP),
    Tag.CONFIGURATION_CHANGED: Row(_ENTITY, _UPDATE),
    Tag.CAPTURE_CHANGED: Row(_ENTITY, _UPDATE),
    Tag.INFERENCE_ANSWERED: Row(_API, OTHER),
    Tag.INFERENCE_FAILED: Row(_API, OTHER),
    Tag.INFERENCE_CANCELED: Row(_API, OTHER),
    Tag.INFERENCE_SUMMED: Row(_API, OTHER),
    Tag.ACCESS_SUMMED: Row(_API, OTHER),
    Tag.BUNDLE_IMPORTED: Row(_LIFE, _INSTALL),
    Tag.ASSIGNMENT_ACCEPTED: Row(_LIFE, _RENEW),
    Tag.ASSIGNMENT_REFUSED: Row(_LIFE, _RENEW),
    Tag.ASSIGNMENT_STALE: Row(_LIFE, _RENEW),
    Tag.EXECUTION_ENTERED: Row(_LIFE, _RENEW),
    Tag.EXECUTION_RESUMED: Row(_LIFE, _RENEW),
    Tag.EXECUTION_WAITS: Row(_LIFE, _RENEW),
    Tag.EXECUTION_PROBED: Row(_LIFE, _RENEW),
    Tag.ALIAS_FORGOTTEN: Row(_LIFE, _REMOVE),
    Tag.ALIAS_RETURNED: Row(_LIFE, _RENEW),
    Tag.AUDIT_DIVERGED: Row(_API, OTHER),
    Tag.JOURNAL_ALIVE: Row(_API, OTHER),
    Tag.JOURNAL_FULL: Row(_API, OTHER),
    Tag.JOURNAL_FREED: Row(_API, OTHER),
    Tag.RESERVE_GIVEN: Row(_API, OTHER),
    Tag.RESERVE_RESTORED: Row(_API, OTHER),
    Tag.ACTIVATION_INTENDED: Row(_LIFE, _RENEW),
    Tag.ACTIVATION_ENDED: Row(_LIFE, _RENEW),
    Tag.ROLLBACK_INTENDED: Row(_LIFE, _RENEW),
    Tag.ROLLBACK_ENDED: Row(_LIFE, _RENEW),
    Tag.REMOVAL_INTENDED: Row(_LIFE, _REMOVE),
    Tag.REMOVAL_ENDED: Row(_LIFE, _REMOVE),
    Tag.ROOT_INTENDED: Row(_ENTITY, _UPDATE),
    Tag.ROOT_ENDED: Row(_ENTITY, _UPDATE),
    Tag.CERTIFICATE_INTENDED: Row(_ENTITY, _UPDATE),
    Tag.CERTIFICATE_ENDED: Row(_ENTITY, _UPDATE),
    Tag.CONFIGURATION_INTENDED: Row(_LIFE, _RENEW),
    Tag.CONFIGURATION_ENDED: Row(_LIFE, _RENEW),
    Tag.JOURNAL_SUMMED: Row(_API, OTHER),
    Tag.SIGNER_KEYS_REPLACED: Row(_ENTITY, _UPDATE),
    Tag.SIGNER_PLAN_ISSUED: Row(_API, _CREATE),
    Tag.SIGNER_PLAN_REFUSED: Row(_API, _CREATE),
    Tag.SIGNER_TIMESTAMP_SIGNED: Row(_API, _CREATE),
    Tag.SIGNER_TIMESTAMP_REFUSED: Row(_API, _CREATE),
    Tag.SIGNER_CERTIFICATE_ISSUED: Row(_ENTITY, _CREATE),
    Tag.SIGNER_CERTIFICATE_REFUSED: Row(_ENTITY, _CREATE),
    Tag.SIGNER_DEVICE_REVOKED: Row(_ENTITY, _DISABLE),
    Tag.SIGNER_REVOCATIONS_SIGNED: Row(_API, _CREATE),
    Tag.SIGNER_CHECKPOINT_SIGNED: Row(_API, _CREATE),
    Tag.SIGNER_CHECKPOINT_REFUSED: Row(_API, _CREATE),
    Tag.SIGNER_LOG_RESTORED: Row(_API, _UPDATE),
}
