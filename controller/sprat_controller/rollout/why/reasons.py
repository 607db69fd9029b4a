"""The reasons as tables: which one a state means, what is next, what people can do. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sprat_proto.states import ExecutionState, ReasonCode, RolloutState

NOTHING: Final = "nothing by itself"
# What it means that a run is over, if the run has no reason of its own.
OVER: Final[Mapping[ExecutionState, ReasonCode]] = {
    ExecutionState.SUCCEEDED: ReasonCode.IN_SYNC,
    ExecutionState.FAILED: ReasonCode.INTERNAL_ERROR,
    ExecutionState.TIMED_OUT: ReasonCode.DEADLINE_PASSED,
    ExecutionState.REJECTED: ReasonCode.NO_VARIANT_FITS,
    ExecutionState.CANCELED: ReasonCode.STOPPED_BY_OPERATOR,
    ExecutionState.REMOVED: ReasonCode.DEVICE_REMOVED,
    ExecutionState.ROLLED_BACK: ReasonCode.PROBE_FAILED,
}
_WAIT: Final = "nothing: it goes on by itself"
_REPAIR: Final = "see `sprat rollout show {rollout}`, repair the release and roll that out"
_AGAIN: Final = (
    "remove the cause, then `sprat rollout retry-failed {rollout}`, or roll it out again"
)
_DO: Final[Mapping[ReasonCode, str]] = {
    ReasonCode.WAITING_TURN: _WAIT,
    ReasonCode.WAITING_GROUP: "nothing, or see how its groups do: `sprat rollout show {rollout}`",
    ReasonCode.WAITING_START: (
        "wait for its time; or POST /api/v1/rollouts/{rollout}/start starts it now"
    ),
    ReasonCode.WAITING_APPROVAL: "`sprat rollout approval {rollout}` says who must approve it",
    ReasonCode.WAITING_WINDOW: "wait; in an emergency roll out with an override of windows",
    ReasonCode.WAITING_RETRY: "nothing, or look for the cause: `sprat devices show {device}`",
    ReasonCode.WAITING_PROMOTION: "`sprat rollout promote {rollout}` if you are content with it",
    ReasonCode.PAUSED: "`sprat rollout resume {rollout}`, or `sprat rollout stop {rollout}`",
    ReasonCode.PENALTY: "find out why it fails: `sprat devices show {device}`",
    ReasonCode.OFFLINE: "look at the device's power and network, and at its agent's log",
    ReasonCode.RATE_LIMIT: _WAIT,
    ReasonCode.DISRUPTION_BUDGET: "bring back the devices of that label that are down",
    ReasonCode.LOWER_PRIORITY: "nothing, or stop the other rollout",
    ReasonCode.GATE_HOLD: (
        "wait for more samples, or go on without: `sprat rollout promote {rollout}`"
    ),
    ReasonCode.GATE_FAILED: (
        "`sprat rollout roll-back {rollout}`; or, if the gate is wrong,"
        " `sprat rollout promote {rollout}` and `sprat rollout resume {rollout}`"
    ),
    ReasonCode.IN_PROGRESS: _WAIT,
    ReasonCode.IN_SYNC: "nothing",
    ReasonCode.NOT_TARGETED: "start a rollout whose target the device is in",
    ReasonCode.IN_QUARANTINE: "`sprat devices release-quarantine {device}` once it is understood",
    ReasonCode.DEVICE_REMOVED: "enrol it anew if it is to come back",
    ReasonCode.REVERTED: "see the device's audit: `sprat audit list --device {device}`",
    ReasonCode.STOPPED_BY_OPERATOR: "start another rollout if it is still wanted",
    ReasonCode.OUT_OF_SCOPE: "start a rollout whose target the device is in",
    ReasonCode.ABORTED: (
        "see `sprat rollout show {rollout}`; then `sprat rollout roll-back {rollout}`, or"
        " `sprat rollout resume {rollout}` if it is paused and may go on"
    ),
    ReasonCode.SUPERSEDED: "nothing, or start another rollout if it is still wanted",
    ReasonCode.ROLLED_BACK_BY_ROLLOUT: _REPAIR,
    ReasonCode.PLAN_EXPIRED: "start a rollout without an end if it is still wanted",
    ReasonCode.NO_VARIANT_FITS: "push a smaller variant, or free what the device lacks",
    ReasonCode.NO_PROFILE: "start its agent: it tells its hardware at first",
    ReasonCode.AGENT_TOO_OLD: "update the device's agent",
    ReasonCode.NOT_APPROVED: "`sprat rollout approval {rollout}` says who must approve it",
    ReasonCode.INTERNAL_ERROR: "report it, with `sprat rollout show {rollout} -o json`",
}
# Why a rollout gives no work in each other state, and what is next.
NO_WORK: Final[Mapping[RolloutState, tuple[ReasonCode, str, str]]] = {
    RolloutState.CREATING: (ReasonCode.WAITING_START, "is being made", "it can be started"),
    RolloutState.READY: (ReasonCode.WAITING_START, "was not started", NOTHING),
    RolloutState.SCHEDULED: (ReasonCode.WAITING_START, "starts later", "it starts"),
    RolloutState.WAITING_FOR_APPROVAL: (
        ReasonCode.WAITING_APPROVAL,
        "waits to be approved",
        "it starts, or waits for its time, once enough approved it",
    ),
    RolloutState.APPROVAL_DENIED: (ReasonCode.STOPPED_BY_OPERATOR, "was denied", NOTHING),
    RolloutState.PAUSED: (ReasonCode.PAUSED, "is paused", NOTHING),
    RolloutState.STOPPING: (ReasonCode.STOPPED_BY_OPERATOR, "was stopped", "its run is canceled"),
    RolloutState.STOPPED: (ReasonCode.STOPPED_BY_OPERATOR, "was stopped", NOTHING),
    RolloutState.ROLLING_BACK: (
        ReasonCode.ROLLED_BACK_BY_ROLLOUT,
        "is being rolled back",
        "its run is canceled",
    ),
    RolloutState.ROLLED_BACK: (
        ReasonCode.ROLLED_BACK_BY_ROLLOUT,
        "was rolled back",
        NOTHING,
    ),
    RolloutState.FINISHED: (
        ReasonCode.INTERNAL_ERROR,
        "finished and left the device out",
        NOTHING,
    ),
}


def advice(code: ReasonCode, *, device: str, rollout_id: str) -> str:
    """Return what a person can do about a reason."""
    return _DO.get(code, _AGAIN).format(rollout=rollout_id, device=device)
