"""The strategies and the scenarios that a line names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from sprat_controller.rollout.strategy import (
    ALL_AT_ONCE,
    AbortAction,
    AbortCriterion,
    DisruptionBudget,
    Extent,
    FailureType,
    Gate,
    Group,
    Membership,
    Pace,
    Retries,
    Strategy,
    WindowSpec,
)

from simulators.world.failures import Failures
from simulators.world.openings import BEGIN

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
    # Devices that enrol within a day are in; then it ends.
    "joins": Strategy(
        groups=_GROUPS,
        membership=Membership.CONTINUOUS,
        retries=Retries(),
        ends_at=int((BEGIN + timedelta(days=1)).timestamp()),
    ),
    # Each hardware class is held to its own baseline before the next group starts.
    "gated": Strategy(
        groups=(
            Group(name="canary", devices=40, success_percent=80, soak_s=600, gate=Gate()),
            Group(name="10 %", percent=10, success_percent=80, soak_s=600, gate=Gate()),
            Group(name="rest", success_percent=80),
        ),
        retries=Retries(),
    ),
    # Bytes move in the evening and at night; nothing is activated but in the early morning.
    "windows": Strategy(
        groups=(
            Group(name="first", percent=20, success_percent=80),
            Group(name="rest"),
        ),
        retries=Retries(),
        download_window=WindowSpec(cron="0 20 * * *", duration_s=8 * 3_600, zone="UTC"),
        activate_window=WindowSpec(cron="30 1 * * *", duration_s=3 * 3_600, zone="Europe/Paris"),
    ),
    # One more try, then a device is left alone for six hours.
    "penalised": Strategy(
        groups=(Group(success_percent=0),),
        retries=Retries(attempts=1, base_s=30, ceiling_s=60, penalty_s=6 * 3_600),
    ),
    # So slow that another rollout comes while most of it still waits.
    "slowly": Strategy(groups=(Group(),), pace=Pace(starts_per_minute=100)),
    "slowly-first": Strategy(groups=(Group(),), pace=Pace(starts_per_minute=100), priority=1),
}


@dataclass(frozen=True)
class Launch:
    """A rollout that a person starts.

    Attributes:
        strategy: Its name.
        at_s: When, in seconds after the world began. Devices that enrolled until then are in.
    """

    strategy: str
    at_s: int = 0


@dataclass(frozen=True)
class Scenario:
    """Rollouts to the same devices, oldest first, and what goes wrong unless the line says so."""

    launches: tuple[Launch, ...]
    failures: Failures


SCENARIOS: Final[Mapping[str, Scenario]] = {
    "joins": Scenario((Launch("joins"),), Failures(late=0.3, cut_off=0.05)),
    "gates": Scenario((Launch("gated"),), Failures(slow_class=2)),
    # Started three minutes before bytes must rest: some downloads are cut off.
    "windows": Scenario(
        (Launch("windows", 4 * 3_600 - 180),),
        Failures(offline=0.05, offline_s=50_000, flapping=0.1, skew=0.1, skew_s=1_800),
    ),
    # The second rollout comes while the devices on which the first failed are left alone.
    "penalty": Scenario((Launch("penalised"), Launch("all-at-once", 3_600)), Failures(cut_off=0.3)),
    "newer": Scenario((Launch("slowly"), Launch("all-at-once", 600)), Failures()),
    "priority": Scenario((Launch("slowly-first"), Launch("all-at-once", 600)), Failures()),
    "fallbacks": Scenario(
        (Launch("all-at-once"),), Failures(silent_fallback=0.1, crash=0.05, flapping=0.1)
    ),
}
