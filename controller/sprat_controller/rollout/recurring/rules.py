"""When a recurring rollout is due, and whether anything is to be rolled out then. Pure.

A recurrence follows a channel: at each of its moments the newest release there is rolled out. The
moments are those at which a window of `sprat_proto.windows` opens, so where clocks change the same
rule holds: what is skipped comes after the gap, what comes twice comes once.

- Of moments that were missed, because no controller ran, the first is made up for, once.
- One rollout at a time: while the last one is not over, nothing begins.
- What somebody ended, denied or rolled back is not brought again. A newer release is.
- A channel that went back to an older release brings nothing: devices never go back by themselves.
- Who added it, and who changed it last, must still be allowed to roll out to all that it is for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from sprat_proto import windows
from sprat_proto.states import ExecutionState, RolloutState
from sprat_proto.windows import Window, WindowSpec

from sprat_controller.rollout.plan import Reason

_ANY_LENGTH: Final = windows.MIN_DURATION_S  # only the opening counts
# After these, the same release is not brought again.
_UNWANTED: Final = frozenset(
    {RolloutState.STOPPED, RolloutState.APPROVAL_DENIED, RolloutState.ROLLED_BACK}
)
_OVER: Final = _UNWANTED | {RolloutState.FINISHED}


class SkipCode(StrEnum):
    """Why nothing came of an occurrence. A format: never renamed, only added."""

    CHANNEL_EMPTY = "CHANNEL_EMPTY"
    STILL_RUNNING = "STILL_RUNNING"
    ROLLED_OUT_ALREADY = "ROLLED_OUT_ALREADY"
    ENDED_BEFORE = "ENDED_BEFORE"
    CHANNEL_WENT_BACK = "CHANNEL_WENT_BACK"
    AUTHOR_MAY_NOT = "AUTHOR_MAY_NOT"


@dataclass(frozen=True)
class Offer:
    """A release, and its place in the order of its model's."""

    release: str
    counter: int


@dataclass(frozen=True)
class Last:
    """The last rollout that the recurrence created."""

    rollout_id: str
    state: RolloutState
    brought: Offer


def read(cron: str, zone: str) -> Window:
    """Return the rule as a window, of which only the openings count.

    Raises:
        WindowError: The expression or the zone is none.
    """
    return windows.parse(WindowSpec(cron=cron, duration_s=_ANY_LENGTH, zone=zone))


def next_due(rule: Window, now: datetime) -> datetime | None:
    """Return its first moment after `now`, in UTC; None: there is none any more."""
    return windows.next_open(rule, now)


def is_over(state: RolloutState) -> bool:
    """Tell whether nothing more happens to the rollout unless a person wants it."""
    return state in _OVER


def why_not(newest: Offer | None, last: Last | None) -> Reason | None:
    """Return why the newest release in the channel is not to be rolled out now, or None.

    Args:
        newest: In the channel.
        last: What the recurrence did last; None: nothing yet.
    """
    if newest is None:
        return _skip(SkipCode.CHANNEL_EMPTY, "there is no release in the channel", "a release")
    if last is None:
        return None
    brought = last.brought
    if not is_over(last.state):
        waits = "waits for approval" if _is_waiting(last) else f"is {last.state}"
        said = f"the last rollout, {last.rollout_id} of {brought.release}, {waits}"
        return _skip(SkipCode.STILL_RUNNING, said, "the last rollout to be over")
    if newest.counter < brought.counter:
        return _skip(
            SkipCode.CHANNEL_WENT_BACK,
            f"the newest in the channel, {newest.release}, is older than {brought.release}, which"
            f" was rolled out before",
            "a newer release",
        )
    if newest == brought and last.state in _UNWANTED:
        said = f"{brought.release} was rolled out before, and {last.rollout_id} is {last.state}"
        return _skip(SkipCode.ENDED_BEFORE, f"{said}: put a newer release in", "a newer release")
    return None


def author_may_not(author: str) -> Reason:
    """Return why nothing is rolled out whose author may not roll it out by now."""
    return _skip(
        SkipCode.AUTHOR_MAY_NOT,
        f"{author} may no longer roll out to all that this is for: have somebody who may add it",
        "an author who may roll out to all of its devices",
    )


def why_needless(newest: Offer, counts: Mapping[ExecutionState, int]) -> Reason | None:
    """Return why a rollout would change nothing, by the states of its executions; None: it would.

    Args:
        newest: What it brings.
        counts: Right after it was created.
    """
    if counts.get(ExecutionState.QUEUED):
        return None
    running = counts.get(ExecutionState.SUCCEEDED, 0)
    rejected = counts.get(ExecutionState.REJECTED, 0)
    return _skip(
        SkipCode.ROLLED_OUT_ALREADY,
        f"{newest.release} would change nothing: {running} devices run it, {rejected} cannot",
        "a device to install it on",
    )


def _is_waiting(last: Last) -> bool:
    return last.state is RolloutState.WAITING_FOR_APPROVAL


def _skip(code: SkipCode, message: str, expected: str) -> Reason:
    return Reason(code, message, expected, "none")
