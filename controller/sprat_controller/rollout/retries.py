"""Whether what failed on a device is tried again there, and when; then the penalty box. Pure.

- Tried again is what may pass by itself; `RETRYABLE` says what that is. What a device says of the
  model itself (a digest, a signature, a probe) stays as it is.
- It depends on how the execution ended, too. A device goes back by itself (ROLL_BACK) only once the
  model is loaded there: a worker that crashes then, or cannot load it, speaks against the release.
  Of that nothing is tried again but for what the device lacked at that moment.
- The delay is full jitter: anything from nothing to a limit that doubles with each try. Devices
  that failed together do not come again together.
- A device whose attempts are used up is in the penalty box: no rollout starts on it for a while.
  Where no attempts are asked for there is no penalty either.

Every book asks here, those of the tests too: there is no second opinion.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from sprat_proto.states import GroupState, ReasonCode, RolloutState

from sprat_controller.rollout.phases import ExecutionEvent
from sprat_controller.rollout.strategy import Retries

# By how an execution would end. Of a rejection nothing is: another variant is chosen.
RETRYABLE: Final[Mapping[ExecutionEvent, frozenset[ReasonCode]]] = {
    ExecutionEvent.FAIL: frozenset(
        {
            ReasonCode.BLOB_NOT_FOUND,
            ReasonCode.DOWNLOAD_FAILED,
            ReasonCode.INSUFFICIENT_DISK,
            ReasonCode.LOAD_FAILED,
            ReasonCode.NO_PROGRESS,
            ReasonCode.WORKER_CRASHED,
        }
    ),
    ExecutionEvent.TIME_OUT: frozenset({ReasonCode.NO_PROGRESS}),
    ExecutionEvent.ROLL_BACK: frozenset(
        {
            ReasonCode.INSUFFICIENT_DISK,
            ReasonCode.INSUFFICIENT_MEMORY,  # other models of the device did not give way
            ReasonCode.NO_PROGRESS,
        }
    ),
}

_GOES_ON: Final = (RolloutState.RUNNING, RolloutState.PAUSED)


def goes_on(rollout: RolloutState, group: GroupState) -> bool:
    """Tell whether anything may be tried again in the group: neither it nor its rollout ends."""
    return rollout in _GOES_ON and group is not GroupState.ERROR


def may_pass(event: ExecutionEvent, code: ReasonCode | None) -> bool:
    """Tell whether an execution that ends so may come out well if it is tried again.

    Args:
        event: How it ends if it is not.
        code: Why; None: nobody said.
    """
    return code in RETRYABLE.get(event, frozenset())


def retry_at(
    retries: Retries,
    event: ExecutionEvent,
    code: ReasonCode | None,
    tries: int,
    now: datetime,
    *,
    draw: float,
) -> datetime | None:
    """Return when an execution that failed may be given out again; None: it has failed for good.

    Args:
        retries: The strategy's.
        event: How it ends if it is not tried again.
        code: Why it failed; None: nobody said.
        tries: How often it was tried again already.
        now: The controller's clock.
        draw: From [0, 1), evenly distributed.
    """
    if not may_pass(event, code) or tries >= retries.attempts:
        return None
    return now + timedelta(seconds=draw * longest_delay_s(retries, tries))


def longest_delay_s(retries: Retries, tries: int) -> int:
    """Return the most seconds that a try waits which comes after so many others."""
    return min(retries.ceiling_s, retries.base_s << tries)


def penalty_until(
    retries: Retries, event: ExecutionEvent, code: ReasonCode | None, now: datetime
) -> datetime | None:
    """Return until when no rollout starts on a device on which an execution failed for good.

    Args:
        retries: The strategy's.
        event: How it ended.
        code: Why it failed.
        now: The controller's clock.
    """
    if not may_pass(event, code) or not retries.attempts or not retries.penalty_s:
        return None
    return now + timedelta(seconds=retries.penalty_s)
