"""The tables, by noun. They are no messages: `api/schema.py` and the protobuf are other shapes.

Names of states are the strings of `sprat_proto.states`. JSON columns are replaced, never changed in
place (SQLAlchemy would not notice). Moments are UTC. All are listed here: whoever imports any has
the whole schema, and foreign keys may name tables of other modules.
"""

from __future__ import annotations

from sprat_controller.store.tables.access import (
    AccessRevision,
    CustomRole,
    OperatorToken,
    RoleBinding,
    Subject,
)
from sprat_controller.store.tables.audit import (
    AuditCheckpoint,
    AuditCosignature,
    AuditExpiry,
    AuditForwarding,
    AuditForwardingDevice,
    AuditHead,
    AuditHold,
    AuditRecord,
    AuditRetention,
    AuditSubtree,
    DeviceAuditRecord,
)
from sprat_controller.store.tables.columns import UtcDateTime, of
from sprat_controller.store.tables.enrolment import EnrolmentRedemption, EnrolmentToken
from sprat_controller.store.tables.fleet import (
    OFFLINE,
    AssignmentRow,
    DesiredModel,
    Device,
    DeviceCertificate,
    DeviceLabel,
)
from sprat_controller.store.tables.observed import ObservedMetric, ObservedRate
from sprat_controller.store.tables.recurrence import Occurrence, Recurrence
from sprat_controller.store.tables.registry import Blob, ChannelRelease, Release, Variant
from sprat_controller.store.tables.rollout import (
    MAY_BE_DOWN,
    Execution,
    Rollout,
    RolloutApproval,
    RolloutGroup,
    SavedPlan,
)
from sprat_controller.store.tables.sign_on import (
    LoginFailure,
    LoginSession,
    OidcAttempt,
    OidcDevice,
    OidcIdentity,
    OidcLogout,
    Password,
    ProvidedRole,
)
from sprat_controller.store.tables.trust import Publisher, TrustMetadata

__all__ = [
    "MAY_BE_DOWN",
    "OFFLINE",
    "AccessRevision",
    "AssignmentRow",
    "AuditCheckpoint",
    "AuditCosignature",
    "AuditExpiry",
    "AuditForwarding",
    "AuditForwardingDevice",
    "AuditHead",
    "AuditHold",
    "AuditRecord",
    "AuditRetention",
    "AuditSubtree",
    "Blob",
    "ChannelRelease",
    "CustomRole",
    "DesiredModel",
    "Device",
    "DeviceAuditRecord",
    "DeviceCertificate",
    "DeviceLabel",
    "EnrolmentRedemption",
    "EnrolmentToken",
    "Execution",
    "LoginFailure",
    "LoginSession",
    "ObservedMetric",
    "ObservedRate",
    "Occurrence",
    "OidcAttempt",
    "OidcDevice",
    "OidcIdentity",
    "OidcLogout",
    "OperatorToken",
    "Password",
    "ProvidedRole",
    "Publisher",
    "Recurrence",
    "Release",
    "RoleBinding",
    "Rollout",
    "RolloutApproval",
    "RolloutGroup",
    "SavedPlan",
    "Subject",
    "TrustMetadata",
    "UtcDateTime",
    "Variant",
    "of",
]
