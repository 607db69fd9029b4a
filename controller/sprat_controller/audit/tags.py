"""All audit tags, in this one file: `source:subject:action`, as Warehouse's event tags.

A tag is a format: never renamed, only added.
"""

from __future__ import annotations

from enum import StrEnum


class Tag(StrEnum):
    """What happened."""

    AUTH_DENIED = "api:request:denied"
    TOKEN_CREATED = "operator:token:created"
    TOKEN_REVOKED = "operator:token:revoked"
    ENROLMENT_CREATED = "operator:enrolment:created"
    ENROLMENT_REVOKED = "operator:enrolment:revoked"
    DEVICE_ENROLLED = "device:identity:enrolled"
    DEVICE_ENROLMENT_REFUSED = "device:identity:refused"
    DEVICE_ENROLMENT_CONTESTED = "device:enrolment:contested"
    DEVICE_RENEWED = "device:certificate:renewed"
    DEVICE_RENEWAL_REFUSED = "device:certificate:refused"
    DEVICE_COPY_SUSPECTED = "device:certificate:copied"
    DEVICE_QUARANTINED = "device:identity:quarantined"
    DEVICE_RELEASED = "operator:device:released"
    DEVICE_LABELLED = "operator:device:labelled"
    DEVICE_REMOVED = "operator:device:removed"
    METADATA_PUBLISHED = "operator:trust:published"
    METADATA_REFUSED = "operator:trust:refused"
    TIMESTAMP_LATE = "controller:timestamp:late"
    RELEASE_PUBLISHED = "publisher:release:published"
    RELEASE_REFUSED = "publisher:release:refused"
    RELEASE_RETIRED = "publisher:release:retired"
    CHANNEL_PUT = "publisher:channel:put"
    CHANNEL_TAKEN_OUT = "publisher:channel:taken-out"
    PLAN_SAVED = "operator:plan:saved"
    ROLLOUT_CREATED = "operator:rollout:created"
    ROLLOUT_EDITED = "operator:rollout:edited"
    ROLLOUT_SUBMITTED = "operator:rollout:submitted"
    ROLLOUT_APPROVED = "operator:rollout:approved"
    ROLLOUT_DENIED = "operator:rollout:denied"
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
    RECURRENCE_PAUSED = "operator:recurrence:paused"
    RECURRENCE_RESUMED = "operator:recurrence:resumed"
    RECURRENCE_REMOVED = "operator:recurrence:removed"
    RECURRENCE_DUE = "schedule:recurrence:created-rollout"
    RECURRENCE_SKIPPED = "schedule:recurrence:skipped"
    ROLLOUT_DUE = "schedule:rollout:started"
    ROLLOUT_RUNNING = "planner:rollout:running"
    ROLLOUT_FINISHED = "planner:rollout:finished"
    ROLLOUT_ENDED = "planner:rollout:stopped"
    ROLLOUT_ABORTED = "planner:rollout:aborted"
    ROLLOUT_GROUP_MOVED = "planner:rollout:group"
    ROLLOUT_JOINED = "planner:rollout:joined"
    ASSIGNMENT_ISSUED = "planner:assignment:issued"
    EXECUTION_DECIDED = "planner:execution:changed"
    EXECUTION_REPLANNED = "planner:execution:replanned"
    EXECUTION_CHANGED = "device:execution:changed"
    EXECUTION_REPORTED_LATE = "device:execution:late"
    DEVICE_MESSAGE_REFUSED = "device:message:refused"
    DEVICE_REPORTS_LOST = "device:report:lost"
    DEVICE_FELL_BACK = "device:model:fell-back"
    DEVICE_RECOVERED = "device:model:recovered"
    DEVICE_AUDIT_BROKEN = "device:audit:broken"
    REVOCATIONS_LATE = "controller:revocations:late"
    CONTROLLER_STARTED = "controller:process:started"
    CONTROLLER_STOPPED = "controller:process:stopped"

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
