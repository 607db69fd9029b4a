"""The names of states, steps and reasons that travel and are stored.

They are a format: never renamed, only added. The transitions are tables elsewhere
(`sprat_controller.rollout.phases`, `sprat_agent.sync.phases`).
"""

from __future__ import annotations

from enum import StrEnum


class DeviceState(StrEnum):
    """How a device stands to its assignment, by what it *runs*, never by what it was sent."""

    UNKNOWN = "UNKNOWN"
    REGISTERED = "REGISTERED"
    PENDING = "PENDING"
    IN_SYNC = "IN_SYNC"
    ERROR = "ERROR"


class RolloutState(StrEnum):
    """Where a rollout is."""

    CREATING = "CREATING"
    WAITING_FOR_APPROVAL = "WAITING_FOR_APPROVAL"
    APPROVAL_DENIED = "APPROVAL_DENIED"
    READY = "READY"
    SCHEDULED = "SCHEDULED"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    FINISHED = "FINISHED"
    STOPPING = "STOPPING"
    STOPPED = "STOPPED"
    ROLLING_BACK = "ROLLING_BACK"
    ROLLED_BACK = "ROLLED_BACK"


class GroupState(StrEnum):
    """Where a slice of a rollout is."""

    CREATING = "CREATING"
    READY = "READY"
    SCHEDULED = "SCHEDULED"
    RUNNING = "RUNNING"
    SOAKING = "SOAKING"
    FINISHED = "FINISHED"
    ERROR = "ERROR"
    ROLLED_BACK = "ROLLED_BACK"


class ExecutionState(StrEnum):
    """Where one device's run of a rollout is."""

    QUEUED = "QUEUED"
    IN_PROGRESS = "IN_PROGRESS"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    TIMED_OUT = "TIMED_OUT"
    REJECTED = "REJECTED"
    CANCELED = "CANCELED"
    REMOVED = "REMOVED"
    ROLLED_BACK = "ROLLED_BACK"

    @property
    def is_final(self) -> bool:
        """Nothing follows this state but what a person or a rollback decides."""
        return self not in (ExecutionState.QUEUED, ExecutionState.IN_PROGRESS)


class Step(StrEnum):
    """What an execution that is IN_PROGRESS is doing."""

    DOWNLOADING = "DOWNLOADING"
    DOWNLOADED = "DOWNLOADED"
    VERIFYING = "VERIFYING"
    WAITING_WINDOW = "WAITING_WINDOW"
    INSTALLING = "INSTALLING"
    PROBING = "PROBING"
    ACTIVATING = "ACTIVATING"
    SOAKING = "SOAKING"
    COMMITTING = "COMMITTING"
    ROLLING_BACK = "ROLLING_BACK"


class ModelState(StrEnum):
    """Whether a committed model holds memory."""

    LOADED = "LOADED"
    COLD = "COLD"


class ReasonCode(StrEnum):
    """The machine-readable part of every refusal and failure."""

    # Why a variant is not chosen for a device.
    INSUFFICIENT_MEMORY = "INSUFFICIENT_MEMORY"
    INSUFFICIENT_DISK = "INSUFFICIENT_DISK"
    RUNTIME_MISSING = "RUNTIME_MISSING"
    OVER_MEMORY_LIMIT = "OVER_MEMORY_LIMIT"  # the policy's, not the device's
    CONTEXT_TOO_SHORT = "CONTEXT_TOO_SHORT"
    RUNTIME_NOT_ALLOWED = "RUNTIME_NOT_ALLOWED"
    LICENCE_NOT_ALLOWED = "LICENCE_NOT_ALLOWED"
    QUALITY_TOO_LOW = "QUALITY_TOO_LOW"
    QUALITY_UNKNOWN = "QUALITY_UNKNOWN"  # nobody evaluated it, and a limit is set
    TOO_SLOW = "TOO_SLOW"
    ANSWERS_TOO_LATE = "ANSWERS_TOO_LATE"  # its first token
    RATE_UNKNOWN = "RATE_UNKNOWN"  # the device measured nothing, and a limit is set
    # Why a variant that fits is not the best one, by the policy's aim.
    LOWER_QUALITY = "LOWER_QUALITY"
    SLOWER = "SLOWER"
    LARGER = "LARGER"
    NO_VARIANT_FITS = "NO_VARIANT_FITS"
    NO_PROFILE = "NO_PROFILE"
    AGENT_TOO_OLD = "AGENT_TOO_OLD"  # it does not understand what it would be told
    # Why nothing is to be done.
    ALREADY_RUNS = "ALREADY_RUNS"
    # Why an artifact is refused.
    SIGNATURE_INVALID = "SIGNATURE_INVALID"
    SIGNER_UNKNOWN = "SIGNER_UNKNOWN"
    DIGEST_MISMATCH = "DIGEST_MISMATCH"
    SIZE_MISMATCH = "SIZE_MISMATCH"
    MANIFEST_INVALID = "MANIFEST_INVALID"
    MODEL_FILE_INVALID = "MODEL_FILE_INVALID"
    RELEASE_TOO_OLD = "RELEASE_TOO_OLD"
    METADATA_REFUSED = "METADATA_REFUSED"  # TUF metadata does not verify
    NOT_RELEASED = "NOT_RELEASED"  # the image repository does not (or no longer) name it
    REPOSITORIES_DISAGREE = "REPOSITORIES_DISAGREE"  # director and image say different things of it
    WRONG_HARDWARE = "WRONG_HARDWARE"
    NOT_APPROVED = "NOT_APPROVED"  # the device's group enforces approvals, and this has too few
    QUARANTINED = "QUARANTINED"  # crashed too often on this device
    PLAN_EXPIRED = "PLAN_EXPIRED"
    WINDOW_INVALID = "WINDOW_INVALID"  # the device cannot tell when it is open
    AUDIT_FULL = "AUDIT_FULL"  # the device has no room for the records of what it would do
    # Why an execution did not go on.
    DOWNLOAD_FAILED = "DOWNLOAD_FAILED"
    BLOB_NOT_FOUND = "BLOB_NOT_FOUND"
    LOAD_FAILED = "LOAD_FAILED"
    WORKER_CRASHED = "WORKER_CRASHED"
    PROBE_FAILED = "PROBE_FAILED"
    SOAK_FAILED = "SOAK_FAILED"
    SUPERSEDED = "SUPERSEDED"
    DEADLINE_PASSED = "DEADLINE_PASSED"
    STOPPED_BY_OPERATOR = "STOPPED_BY_OPERATOR"
    DEVICE_REMOVED = "DEVICE_REMOVED"
    OUT_OF_SCOPE = "OUT_OF_SCOPE"  # it left the target between the snapshot and its turn
    NO_PROGRESS = "NO_PROGRESS"  # its step was not done within the step's own deadline
    REVERTED = "REVERTED"  # it runs something else than what it had proved
    ABORTED = "ABORTED"  # an abort criterion was met
    ROLLED_BACK_BY_ROLLOUT = "ROLLED_BACK_BY_ROLLOUT"  # it succeeded; the rollout took it back
    # Why a device waits, or a group does: the answers of `why`.
    WAITING_TURN = "WAITING_TURN"  # devices before it in the same group
    WAITING_GROUP = "WAITING_GROUP"  # its group has not started
    WAITING_START = "WAITING_START"  # the rollout's time has not come, or nobody started it
    WAITING_APPROVAL = "WAITING_APPROVAL"
    WAITING_WINDOW = "WAITING_WINDOW"
    WAITING_RETRY = "WAITING_RETRY"
    WAITING_PROMOTION = "WAITING_PROMOTION"
    PAUSED = "PAUSED"
    PENALTY = "PENALTY"  # too many attempts failed: no rollout starts there for a while
    OFFLINE = "OFFLINE"
    RATE_LIMIT = "RATE_LIMIT"  # as many as may be under way, or start in a minute, do
    DISRUPTION_BUDGET = "DISRUPTION_BUDGET"
    LOWER_PRIORITY = "LOWER_PRIORITY"  # a rollout of higher priority is under way there
    GATE_HOLD = "GATE_HOLD"  # too few samples to judge
    GATE_FAILED = "GATE_FAILED"
    IN_PROGRESS = "IN_PROGRESS"
    IN_SYNC = "IN_SYNC"
    NOT_TARGETED = "NOT_TARGETED"  # no rollout wants it
    IN_QUARANTINE = "IN_QUARANTINE"  # the device is, not a model
    INTERNAL_ERROR = "INTERNAL_ERROR"
