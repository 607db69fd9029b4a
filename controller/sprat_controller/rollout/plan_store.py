"""Plans that are kept to be carried out as they were shown, or refused."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy
from sprat_proto import canonical
from sqlmodel import Session, col

from sprat_controller.access import within
from sprat_controller.access.scopes import EVERYTHING, Scope
from sprat_controller.errors import NotFoundError, RequestError
from sprat_controller.rollout import fit_policy, frozen_strategy, serving
from sprat_controller.rollout.requests import PlanRequest, reach, target_from, target_json
from sprat_controller.rollout.saved_plans import Line
from sprat_controller.rollout.strategy import Strategy
from sprat_controller.store.tables import SavedPlan

MAX_AGE: Final = timedelta(days=7)
MAX_DEVICES: Final = 100_000


@dataclass(frozen=True)
class Kept:
    """A plan as it was shown.

    Attributes:
        id: Which.
        plan: What and to whom.
        strategy: How it is to proceed.
        lines: What it rests on, in order of the devices' names.
        made_at: When.
        made_by: Who, as it stands in the audit log.
    """

    id: str
    plan: PlanRequest
    strategy: Strategy
    lines: tuple[Line, ...]
    made_at: datetime
    made_by: str

    @property
    def expires_at(self) -> datetime:
        """From when it is gone."""
        return self.made_at + MAX_AGE


def keep(session: Session, kept: Kept) -> None:
    """Keep a plan, and forget those that are too old.

    Raises:
        RequestError: It is for more devices than a plan that is kept may be.
    """
    if len(kept.lines) > MAX_DEVICES:
        raise RequestError(
            "plan_too_large",
            f"expected at most {MAX_DEVICES} devices in a plan that is saved, found"
            f" {len(kept.lines)}: create the rollout without saving a plan",
        )
    old = col(SavedPlan.made_at) < kept.made_at - MAX_AGE
    session.connection().execute(sqlalchemy.delete(SavedPlan).where(old))
    row = SavedPlan(
        id=kept.id,
        asked=_asked(kept.plan),
        reach=reach(kept.plan.target).cases,
        strategy=frozen_strategy.to_json(kept.strategy),
        lines=canonical.encode(kept.lines),
        made_at=kept.made_at,
        made_by=kept.made_by,
    )
    session.add(row)


@dataclass(frozen=True)
class Listed:
    """A plan that is kept, without what it says of each device."""

    id: str
    plan: PlanRequest
    strategy: Strategy
    made_at: datetime
    made_by: str

    @property
    def expires_at(self) -> datetime:
        """From when it is gone."""
        return self.made_at + MAX_AGE


def newest(
    session: Session, now: datetime, limit: int, scope: Scope = EVERYTHING
) -> tuple[Listed, ...]:
    """Return the newest plans that are kept and reach nothing outside a scope, newest first."""
    rows = session.connection().execute(
        sqlalchemy.select(
            col(SavedPlan.id),
            col(SavedPlan.asked),
            col(SavedPlan.strategy),
            col(SavedPlan.made_at),
            col(SavedPlan.made_by),
        )
        .where(
            col(SavedPlan.made_at) > now - MAX_AGE,
            within.reaches(session, scope, col(SavedPlan.reach)),
        )
        .order_by(col(SavedPlan.made_at).desc(), col(SavedPlan.id).desc())
        .limit(limit)
    )
    return tuple(
        Listed(plan_id, _plan(asked), frozen_strategy.from_json(strategy), made_at, made_by)
        for plan_id, asked, strategy, made_at, made_by in rows
    )


def find(session: Session, plan_id: str, now: datetime, scope: Scope = EVERYTHING) -> Kept:
    """Return a plan that was kept; one that reaches outside the scope is not there.

    Raises:
        NotFoundError: There is none, or no more.
    """
    row = session.get(SavedPlan, plan_id)
    is_there = row is not None and row.made_at + MAX_AGE > now
    if row is None or not is_there or not scope.contains_cases(row.reach):
        raise NotFoundError(
            "plan_not_found",
            f"there is no plan {plan_id!r} (plans are kept for {MAX_AGE.days} days): plan again",
        )
    return Kept(
        id=row.id,
        plan=_plan(row.asked),
        strategy=frozen_strategy.from_json(row.strategy),
        lines=canonical.decode(row.lines, tuple[Line, ...], f"plan {row.id}"),
        made_at=row.made_at,
        made_by=row.made_by,
    )


def _asked(plan: PlanRequest) -> dict[str, Any]:
    return {
        "model": plan.model,
        "release": plan.release,
        "alias": plan.alias,
        "target": target_json(plan.target),
        "context": plan.context,
        "serving": serving.to_json(plan.terms),
        "policy": fit_policy.to_json(plan.policy),
    }


def _plan(asked: dict[str, Any]) -> PlanRequest:
    return PlanRequest(
        asked["model"],
        asked["release"],
        asked["alias"],
        target_from(asked["target"]),
        asked["context"],
        serving.from_json(asked["serving"]),
        fit_policy.from_json(asked["policy"]),
    )
