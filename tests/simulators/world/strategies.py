"""The strategies that a line names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sprat_controller.rollout.strategy import (
    ALL_AT_ONCE,
    AbortAction,
    AbortCriterion,
    DisruptionBudget,
    Extent,
    FailureType,
    Group,
    Pace,
    Retries,
    Strategy,
)

_GROUPS: Final = (
    Group(name="canary", devices=20, success_percent=80, soak_s=600),
    Group(name="1 %", percent=1, success_percent=85, soak_s=600),
    Group(name="10 %", percent=9, success_percent=85, soak_s=600),
    Group(name="half", percent=40, success_percent=85, soak_s=600),
    Group(name="rest", success_percent=85),
)
# Of tries that failed: devices that refuse say so at once, long before the first success.
_PAUSES: Final = tuple(
    AbortCriterion(failure=one, percent=20, min_count=20)
    for one in (FailureType.FAILED, FailureType.ROLLED_BACK)
)

STRATEGIES: Final[Mapping[str, Strategy]] = {
    "all-at-once": ALL_AT_ONCE,
    "ladder": Strategy(groups=_GROUPS, abort=_PAUSES, retries=Retries()),
    # No site may have more than so many devices down at once, and no more than so many start.
    "careful": Strategy(
        groups=_GROUPS,
        abort=_PAUSES,
        retries=Retries(),
        pace=Pace(max_in_progress=200_000, starts_per_minute=60_000),
        budgets=(DisruptionBudget(label="site", max_unavailable_percent=20),),
    ),
    # It goes on until much was given out, and is then taken back everywhere.
    "rolls-back": Strategy(
        groups=(Group(name="first", percent=1, success_percent=10), Group(name="rest")),
        abort=(
            AbortCriterion(
                failure=FailureType.ALL,
                percent=10,
                min_count=500,
                extent=Extent.ROLLOUT,
                action=AbortAction.ROLLBACK,
            ),
        ),
    ),
}
