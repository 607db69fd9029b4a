"""Whether what failed on a device is tried again there, and when; then the penalty box. Pure.

- Tried again is what may pass by itself: the network, a full disk, a worker that died. What a
  device says of the model itself (a digest, a signature, a probe) stays as it is.
- The delay is full jitter: anything from nothing to a limit that doubles with each try. Devices
  that failed together do not come again together.
- A device whose attempts are used up is in the penalty box: no rollout starts on it for a while.
  Where no attempts are asked for there is no penalty either.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from sprat_proto.states import ReasonCode

from sprat_controller.rollout.strategy import Retries

RETRYABLE: Final = frozenset(
    {
        ReasonCode.BLOB_NOT_FOUND,
        ReasonCode.DOWNLOAD_FAILED,
        ReasonCode.INSUFFICIENT_DISK,
        ReasonCode.LOAD_FAILED,
        ReasonCode.NO_PROGRESS,
        ReasonCode.WORKER_CRASHED,
    }
)


def retry_at(
    retries: Retries, code: ReasonCode | None, tries: int, now: datetime, draw: float
) -> datetime | None:
    """Return when an execution that failed may be given out again; None: it has failed for good.

    Args:
        retries: The strategy's.
        code: Why it failed; None: nobody said.
        tries: How often it was tried again already.
        now: The controller's clock.
        draw: From [0, 1), evenly distributed.
    """
    if code not in RETRYABLE or tries >= retries.attempts:
        return None
    return now + timedelta(seconds=draw * longest_delay_s(retries, tries))


def longest_delay_s(retries: Retries, tries: int) -> int:
    """Return the most seconds that a try waits which comes after so many others."""
    return min(retries.ceiling_s, retries.base_s << tries)


def penalty_until(retries: Retries, code: ReasonCode | None, now: datetime) -> datetime | None:
    """Return until when no rollout starts on a device on which an execution failed for good.

    Args:
        retries: The strategy's.
        code: Why it failed.
        now: The controller's clock.
    """
    if code not in RETRYABLE or not retries.attempts or not retries.penalty_s:
        return None
    return now + timedelta(seconds=retries.penalty_s)
