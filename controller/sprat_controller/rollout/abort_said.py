"""Why a rollout was held or ended, as a sentence: what `rollout.abort` keeps. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from sprat_controller.rollout.strategy import AbortCriterion, Extent, FailureType

# What keeps one whose time came from starting by itself, until a person starts it.
HELD_BACK: Final = "held_back"
_ALL: Final = 100  # percent
_ENDED: Final[Mapping[FailureType, str]] = {
    FailureType.FAILED: "failed",
    FailureType.REJECTED: "refused it",
    FailureType.TIMED_OUT: "timed out",
    FailureType.ROLLED_BACK: "went back by themselves",
    FailureType.ALL: "did not succeed",
}


def in_words(stored: Mapping[str, Any] | None) -> str:
    """Return all that is kept, in one sentence; empty: nothing ever held it.

    Args:
        stored: `rollout.abort`.
    """
    abort = stored or {}
    by, why = stopped_by(abort), because(abort)
    if by:
        return f"stopped by {by}" + (f", after it was held: {why}" if why else "")
    if why:
        return why
    return "resumed after an abort: only what fails from then on counts" if abort else ""


def because(stored: Mapping[str, Any] | None) -> str:
    """Return what went wrong; empty: nothing did, or a person resumed the rollout since."""
    abort = stored or {}
    group = f"group {abort.get('group')}"
    if "gate" in abort:
        return f"the gate of {group} failed"
    return held_back(abort) or criterion(abort)


def held_back(stored: Mapping[str, Any] | None) -> str:
    """Return why it did not start when its time came; empty: it did, or has none."""
    kept: Mapping[str, Any] = (stored or {}).get(HELD_BACK, {})
    return f"held back when its time came: {kept['message']}" if kept else ""


def criterion(stored: Mapping[str, Any] | None) -> str:
    """Return which criterion was met and how; empty: none was."""
    abort = stored or {}
    if "criterion" not in abort:
        return ""
    met = msgspec.convert(abort["criterion"], AbortCriterion)
    return said(
        met, abort["group"], abort["failures"], abort["judged"], is_miss=abort.get("miss", False)
    )


def said(
    met: AbortCriterion, group: int, failures: int, judged: int, *, is_miss: bool = False
) -> str:
    """Return how a criterion was met.

    Args:
        met: The criterion.
        group: In which group.
        failures: So many of `judged` ended as it counts them.
        judged: Of so many that ended; of a miss, of all of the group that count.
        is_miss: See `facts.Abort`.
    """
    many = f"{failures} of {judged}"
    if is_miss:
        share = _ALL - met.percent
        return f"group {group} can no longer reach its share of {share} %: {many} did not succeed"
    where = f" in group {group}" if met.extent is Extent.GROUP else ""
    return f"{many} that ended{where} {_ENDED[met.failure]} (the limit is {_limit(met)})"


def stopped_by(stored: Mapping[str, Any] | None) -> str:
    """Return who stopped it, as it stands in the audit log; empty: no person did."""
    return str((stored or {}).get("stopped_by", ""))


def _limit(met: AbortCriterion) -> str:
    if not met.percent:
        return f"{met.min_count}"
    return f"{met.percent} %" + (f", and at least {met.min_count}" if met.min_count > 1 else "")
