"""What of a strategy may still be changed, and what the change makes of the groups. Pure.

Before a rollout has started all of it may. Afterwards only what has not started may, and what
devices are not told: groups that are still SCHEDULED, pace, budgets, abort criteria, deadlines and
retries. Windows and the end were told to devices that are under way; who joins, who goes first and
whether it is an emergency was decided for those that are done.
"""

from __future__ import annotations

from typing import Final

from sprat_controller.errors import ConflictError
from sprat_controller.rollout.strategy import Group, Strategy

# Of a rollout that has started.
CHANGEABLE: Final = ("groups", "pace", "budgets", "abort", "deadlines", "retries")


def check_started(rollout_id: str, before: Strategy, after: Strategy, started: int) -> None:
    """Check that a change leaves alone what has started.

    Args:
        rollout_id: Of a rollout that has started, for the sentence.
        before: Its strategy.
        after: What it is to be.
        started: How many of its groups have started; they come first.

    Raises:
        ConflictError: The first thing that may not be changed any more.
    """
    for word in Strategy.__struct_fields__:
        if word not in CHANGEABLE and getattr(before, word) != getattr(after, word):
            raise _started(
                rollout_id,
                f"expected to change only {', '.join(CHANGEABLE)}, found {word}",
            )
    if before.groups == after.groups:
        return
    kept = after.groups[:started]
    for number, group in enumerate(before.groups[:started]):
        if number >= len(kept) or kept[number] != group:
            raise _started(
                rollout_id,
                f"expected its group {_named(group, number)} as it is, which has started, found"
                f" {'another one' if number < len(kept) else 'none'}",
            )
    if started == len(before.groups):
        raise _started(rollout_id, "expected no other groups, since all of them have started")
    if started == len(after.groups):
        raise _started(
            rollout_id,
            f"expected at least one group after the {started} that have started, which takes the"
            " rest, found none",
        )


def _started(rollout_id: str, what: str) -> ConflictError:
    return ConflictError("rollout_started", f"rollout {rollout_id} has started: {what}")


def _named(group: Group, number: int) -> str:
    return f"{number} ({group.name})" if group.name else str(number)
