"""One cell of `why.py` for each way to stand that `why` tells apart: how the rows are made so.

What is not said is as `why_fleet` made it: the rollout runs, its first group is done, its second is
under way, and its third waits. A refusal or failure of the device's own is one cell whatever its
code: all are answered by the same rule.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

import msgspec
from sprat_controller.rollout.strategy import (
    DisruptionBudget,
    Gate,
    Group,
    Membership,
    Pace,
    Strategy,
    WindowSpec,
)
from sprat_proto.states import (
    ExecutionState,
    GroupState,
    ReasonCode,
    RolloutState,
    Step,
)
from why_fleet import DEVICES, DIGEST, LATE, NOW, QUEUED

_LATER: Final = NOW + timedelta(hours=1)
# Devices of the last group, and such as are in none.
_LAST: Final = tuple(range(60_001, DEVICES, 2_000))
_LATE: Final = tuple(range(DEVICES, DEVICES + LATE))
# A few more than are down, and fewer than could be: all are looked at, and there is room.
_BUDGET: Final = DisruptionBudget(label="fleet", max_unavailable_percent=5)
_FULL: Final = DisruptionBudget(label="fleet", max_unavailable=4_000)
_CANARY: Final = Group(name="canary", devices=1)
_REST: Final = Group(name="rest")
_PACE: Final = Pace(max_in_progress=DEVICES, starts_per_minute=DEVICES)


def strategy(*, half: Group | None = None, **changes: Any) -> Strategy:
    """Return the strategy of the fleet's rollout, its second group and other parts as said."""
    groups = (_CANARY, half or Group(name="half", percent=50), _REST)
    usual = Strategy(groups=groups, pace=_PACE, budgets=(_BUDGET,))
    return msgspec.structs.replace(usual, **changes)


@dataclass(frozen=True)
class Cell:
    """A way to stand.

    Attributes:
        code: What `why` must answer.
        asked: Numbers of the devices.
        strategy: The rollout's.
        rollout: Columns of the rollout.
        half: Columns of its second group.
        device: Columns of the devices asked.
        run: Columns of their newest executions.
        above: Columns of their executions in a rollout of higher priority.
        note: Tells cells of one code apart.
    """

    code: ReasonCode
    asked: tuple[int, ...] = QUEUED
    strategy: Strategy = field(default_factory=strategy)
    rollout: dict[str, Any] = field(default_factory=dict[str, Any])
    half: dict[str, Any] = field(default_factory=dict[str, Any])
    device: dict[str, Any] = field(default_factory=dict[str, Any])
    run: dict[str, Any] = field(default_factory=dict[str, Any])
    above: dict[str, Any] = field(default_factory=dict[str, Any])
    note: str = ""


def _in(state: RolloutState, **columns: Any) -> dict[str, Any]:
    return {"state": state.value, **columns}


def _ended(state: ExecutionState, **columns: Any) -> dict[str, Any]:
    return {"state": state.value, "finished_at": NOW, "started_at": NOW, **columns}


_ABORT: Final = {
    "criterion": {"percent": 20, "min_count": 3},
    "group": 1,
    "failures": 3,
    "judged": 9,
    "at": NOW.isoformat(),
}
_UNDER_WAY: Final = {"state": ExecutionState.IN_PROGRESS.value, "started_at": NOW}
# What of all these a row has that nobody said anything of.
AS_IT_WAS: Final[dict[str, dict[str, Any]]] = {
    "rollout": {"state": "RUNNING", "start_at": None, "run_until": None, "abort": None},
    "half": {"state": "RUNNING", "soak_until": None, "verdict": None},
    "device": {
        "online": True,
        "penalty_until": None,
        "quarantined_at": None,
        "quarantine_reason": None,
        "revoked_at": None,
    },
    "run": {
        "state": "QUEUED",
        "step": None,
        "digest": None,
        "started_at": None,
        "finished_at": None,
        "retry_at": None,
        "excused_at": None,
        "reason": None,
    },
    "above": {"state": "SUCCEEDED"},
}
CELLS: Final = (
    Cell(ReasonCode.WAITING_TURN),
    Cell(ReasonCode.DISRUPTION_BUDGET, strategy=strategy(budgets=(_FULL,))),
    Cell(ReasonCode.RATE_LIMIT, strategy=strategy(pace=Pace(max_in_progress=1))),
    Cell(
        ReasonCode.WAITING_WINDOW,
        run=_UNDER_WAY | {"step": Step.WAITING_WINDOW.value},
        strategy=strategy(activate_window=WindowSpec("0 3 * * 1", 3600, "Europe/Berlin")),
    ),
    Cell(ReasonCode.WAITING_GROUP, _LAST),
    Cell(
        ReasonCode.WAITING_GROUP,
        half={"state": "SOAKING", "soak_until": _LATER},
        asked=_LAST,
        note=" soak",
    ),
    Cell(
        ReasonCode.GATE_HOLD,
        _LAST,
        strategy=strategy(half=Group(name="half", percent=50, success_percent=1, gate=Gate())),
    ),
    Cell(ReasonCode.GATE_FAILED, _LAST, half={"verdict": {"verdict": "FAIL"}}),
    Cell(
        ReasonCode.WAITING_PROMOTION,
        _LAST,
        strategy=strategy(
            half=Group(name="half", percent=50, success_percent=1, waits_for_promotion=True)
        ),
    ),
    Cell(ReasonCode.PENALTY, device={"penalty_until": _LATER}),
    Cell(ReasonCode.WAITING_RETRY, run={"retry_at": _LATER}),
    Cell(ReasonCode.LOWER_PRIORITY, above=_UNDER_WAY),
    Cell(ReasonCode.OFFLINE, device={"online": False}, run={"excused_at": NOW}),
    Cell(ReasonCode.OFFLINE, device={"online": False}, run=_UNDER_WAY, note=" under way"),
    Cell(ReasonCode.IN_PROGRESS, run=_UNDER_WAY),
    Cell(ReasonCode.IN_SYNC, run=_ended(ExecutionState.SUCCEEDED, digest=DIGEST)),
    Cell(ReasonCode.REVERTED, run=_ended(ExecutionState.SUCCEEDED)),
    Cell(
        ReasonCode.PROBE_FAILED,
        run=_ended(ExecutionState.FAILED, reason={"code": "PROBE_FAILED", "message": "it babbles"}),
    ),
    Cell(ReasonCode.PLAN_EXPIRED, run=_ended(ExecutionState.SUCCEEDED), rollout={"run_until": NOW}),
    Cell(ReasonCode.PAUSED, rollout=_in(RolloutState.PAUSED)),
    Cell(ReasonCode.ABORTED, rollout=_in(RolloutState.PAUSED, abort=_ABORT)),
    Cell(ReasonCode.ABORTED, half={"state": GroupState.ERROR.value}, note=" group"),
    Cell(ReasonCode.WAITING_START, rollout=_in(RolloutState.SCHEDULED, start_at=_LATER)),
    Cell(ReasonCode.WAITING_APPROVAL, rollout=_in(RolloutState.WAITING_FOR_APPROVAL)),
    Cell(ReasonCode.STOPPED_BY_OPERATOR, rollout=_in(RolloutState.STOPPING)),
    Cell(ReasonCode.ROLLED_BACK_BY_ROLLOUT, rollout=_in(RolloutState.ROLLING_BACK)),
    Cell(ReasonCode.DEADLINE_PASSED, strategy=strategy(ends_at=1)),
    Cell(ReasonCode.IN_QUARANTINE, device={"quarantined_at": NOW, "quarantine_reason": "a copy"}),
    Cell(ReasonCode.DEVICE_REMOVED, device={"revoked_at": NOW}),
    Cell(ReasonCode.NOT_TARGETED, _LATE),
    Cell(
        ReasonCode.WAITING_TURN,
        _LATE,
        note=" joins",
        strategy=strategy(membership=Membership.CONTINUOUS),
    ),
)
