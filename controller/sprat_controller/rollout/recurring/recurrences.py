"""Recurring rollouts as people ask for them: add, list, pause, resume, remove.

What is due is decided by `occurrences`. A pause does not make up for what it left out; what was
removed leaves its rollouts and its occurrences behind.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from sprat_proto.assignment import AS_DEVICE_DECIDES, ServingTerms
from sprat_proto.audit_events import Tag
from sprat_proto.policy import FitPolicy
from sprat_proto.windows import WindowError
from sqlmodel import Session, col, func, select

from sprat_controller.access.scopes import EVERYTHING, Scope
from sprat_controller.audit import log
from sprat_controller.clock import Clock
from sprat_controller.errors import ConflictError, NotFoundError, RequestError
from sprat_controller.registry import channels
from sprat_controller.rollout import fit_policy, frozen_strategy, serving
from sprat_controller.rollout.recurring import rules
from sprat_controller.rollout.requests import (
    DEFAULT_CONTEXT,
    PlanRequest,
    RolloutRequest,
    Target,
    check_rollout,
    confined,
    reach,
    target_from,
    target_json,
)
from sprat_controller.rollout.strategy import ALL_AT_ONCE, Strategy
from sprat_controller.store import queries
from sprat_controller.store.session import Database
from sprat_controller.store.tables import Occurrence, Recurrence

MAX_RECURRENCES: Final = 1000
MAX_NAME: Final = 256  # characters
_ANY_RELEASE: Final = "0.0.0"  # to check a request whose release is known only when it is due


@dataclass(frozen=True)
class RecurrenceRequest:
    """Has the newest release of a channel rolled out, at each moment of a rule.

    Attributes:
        model: Of which model.
        channel: Of which of its channels; it may still be empty.
        alias: As in `PlanRequest`, and so are target, context, terms and policy.
        cron: When, in five fields.
        zone: IANA name of the time zone that they are in.
        name: For people; empty: `model from channel`.
        strategy: How each of its rollouts proceeds.
    """

    model: str
    channel: str
    alias: str
    cron: str
    zone: str
    target: Target = field(default_factory=Target)
    context: int = DEFAULT_CONTEXT  # tokens
    terms: ServingTerms = AS_DEVICE_DECIDES
    policy: FitPolicy | None = None
    name: str = ""
    strategy: Strategy = ALL_AT_ONCE


@dataclass(frozen=True)
class OccurrenceView:
    """What came of a moment: a rollout, or the reason why there is none."""

    due_at: datetime
    decided_at: datetime
    release: str | None
    rollout_id: str | None
    reason: dict[str, Any] | None  # code, message, expected, found


@dataclass(frozen=True)
class RecurrenceView:
    """A recurrence, when it is due next, and what came of it last."""

    id: str
    name: str
    model: str
    channel: str
    alias: str
    cron: str
    zone: str
    target: Target
    context: int
    slots: int
    kv_type: str
    pinned: bool
    policy: dict[str, Any] | None
    strategy: Strategy
    due_at: datetime | None
    paused_at: datetime | None
    created_at: datetime
    created_by: str
    last: OccurrenceView | None


class Recurrences:
    """Recurring rollouts as operators see them. All methods block."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        new_id: Callable[[], str],
        *,
        scope: Scope = EVERYTHING,
    ) -> None:
        """Keep recurrences in `database`; see `within` for the scope."""
        self._database = database
        self._clock = clock
        self._new_id = new_id
        self._scope = scope

    def within(self, scope: Scope) -> Recurrences:
        """Return the same for somebody to whom only the devices of a scope are there.

        What may ever reach others is not there, and what is added never does.
        """
        return Recurrences(self._database, self._clock, self._new_id, scope=scope)

    def add(self, request: RecurrenceRequest, actor: str) -> RecurrenceView:
        """Keep a recurrence; it is due from its next moment on.

        Args:
            request: What, to whom and when.
            actor: Who, as it stands in the audit log. They may approve none of its rollouts.

        Raises:
            RequestError: Not a possible request.
            NotFoundError: No such model.
            ConflictError: There are too many.
        """
        now = self._clock()
        due_at = _check(request, now)
        request = replace(request, target=confined(request.target, self._scope))
        with self._database.transaction() as session:
            queries.releases(session, request.model)
            count = session.exec(select(func.count()).select_from(Recurrence)).one()
            if count >= MAX_RECURRENCES:
                raise ConflictError(
                    "too_many_recurrences",
                    f"expected at most {MAX_RECURRENCES} recurring rollouts, found {count}: remove"
                    " some first",
                )
            row = Recurrence(
                id=self._new_id(),
                name=request.name or f"{request.model} from {request.channel}",
                model=request.model,
                channel=request.channel,
                cron=request.cron,
                zone=request.zone,
                alias=request.alias,
                target=target_json(request.target),
                context=request.context,
                serving=serving.to_json(request.terms),
                policy=fit_policy.to_json(request.policy),
                strategy=frozen_strategy.to_json(request.strategy),
                due_at=due_at,
                created_at=now,
                created_by=actor,
            )
            session.add(row)
            session.flush()
            _record(session, Tag.RECURRENCE_ADDED, row, actor, now)
            return _view(session, row)

    def list(self) -> tuple[RecurrenceView, ...]:
        """Return all recurrences, oldest first."""
        with self._database.reading() as session:
            order = (col(Recurrence.created_at), col(Recurrence.id))
            rows = session.exec(select(Recurrence).order_by(*order)).all()
            return tuple(_view(session, row) for row in rows if _reaches(row, self._scope))

    def get(self, recurrence_id: str) -> RecurrenceView:
        """Return one recurrence.

        Raises:
            NotFoundError: No such recurrence.
        """
        with self._database.reading() as session:
            return _view(session, _found(session, recurrence_id, self._scope))

    def occurrences(self, recurrence_id: str, limit: int) -> tuple[OccurrenceView, ...]:
        """Return what came of the newest moments of a recurrence, newest first.

        Raises:
            NotFoundError: No such recurrence.
        """
        with self._database.reading() as session:
            _found(session, recurrence_id, self._scope)
            return tuple(_occurrences(session, recurrence_id, limit))

    def pause(self, recurrence_id: str, actor: str) -> RecurrenceView:
        """Have nothing be due until it is resumed; nothing changes if it is paused.

        Raises:
            NotFoundError: No such recurrence.
        """
        now = self._clock()
        with self._database.transaction() as session:
            row = _found(session, recurrence_id, self._scope)
            if row.paused_at is None:
                row.paused_at, row.due_at = now, None
                session.add(row)
                _record(session, Tag.RECURRENCE_PAUSED, row, actor, now)
            return _view(session, row)

    def resume(self, recurrence_id: str, actor: str) -> RecurrenceView:
        """Have it be due from its next moment on; nothing changes if it is not paused.

        Raises:
            NotFoundError: No such recurrence.
        """
        now = self._clock()
        with self._database.transaction() as session:
            row = _found(session, recurrence_id, self._scope)
            if row.paused_at is not None:
                row.paused_at = None
                row.due_at = rules.next_due(rules.read(row.cron, row.zone), now)
                session.add(row)
                _record(session, Tag.RECURRENCE_RESUMED, row, actor, now)
            return _view(session, row)

    def remove(self, recurrence_id: str, actor: str) -> None:
        """Forget a recurrence; what it rolled out goes on.

        Raises:
            NotFoundError: No such recurrence.
        """
        with self._database.transaction() as session:
            row = _found(session, recurrence_id, self._scope)
            _record(session, Tag.RECURRENCE_REMOVED, row, actor, self._clock())
            session.delete(row)


def rollout_of(row: Recurrence, release: str, due_at: datetime) -> RolloutRequest:
    """Return the rollout that an occurrence asks for: as a person would, to start at its moment."""
    plan = PlanRequest(
        row.model,
        release,
        row.alias,
        target_from(row.target),
        row.context,
        serving.from_json(row.serving),
        fit_policy.from_json(row.policy),
    )
    return RolloutRequest(
        plan,
        name=f"{row.name} {due_at:%Y-%m-%d}",
        start_at=due_at,
        strategy=frozen_strategy.from_json(row.strategy),
    )


def _check(request: RecurrenceRequest, now: datetime) -> datetime:
    """Check what a database cannot know; return the first moment.

    Raises:
        RequestError: The first thing that is not as it must be.
    """
    channels.check_name(request.channel)
    if len(request.name) > MAX_NAME:
        raise RequestError(
            "invalid_recurrence",
            f"name: expected at most {MAX_NAME} characters, found {len(request.name)}",
        )
    plan = PlanRequest(
        request.model,
        _ANY_RELEASE,
        request.alias,
        request.target,
        request.context,
        request.terms,
        request.policy,
    )
    check_rollout(RolloutRequest(plan, strategy=request.strategy), now)
    if request.strategy.ends_at or request.strategy.override:
        raise RequestError(
            "invalid_recurrence",
            "strategy: expected none with ends_at or override, found one: they are for a single"
            " rollout",
        )
    try:
        due_at = rules.next_due(rules.read(request.cron, request.zone), now)
    except WindowError as error:
        raise RequestError("invalid_recurrence", str(error)) from error
    if due_at is None:
        raise RequestError(
            "invalid_recurrence", f"expected a moment that comes, found {request.cron!r}: never"
        )
    return due_at


def _reaches(row: Recurrence, scope: Scope) -> bool:
    """Tell whether a recurrence can reach nothing but the scope."""
    return scope.contains(reach(target_from(row.target)))


def _found(session: Session, recurrence_id: str, scope: Scope) -> Recurrence:
    row = session.get(Recurrence, recurrence_id)
    if row is None or not _reaches(row, scope):
        raise NotFoundError(
            "recurrence_not_found", f"there is no recurring rollout {recurrence_id!r}"
        )
    return row


def _occurrences(session: Session, recurrence_id: str, limit: int) -> Sequence[OccurrenceView]:
    rows = session.exec(
        select(Occurrence)
        .where(col(Occurrence.recurrence_id) == recurrence_id)
        .order_by(col(Occurrence.due_at).desc())
        .limit(limit)
    )
    return [
        OccurrenceView(row.due_at, row.decided_at, row.release, row.rollout_id, row.reason)
        for row in rows
    ]


def _view(session: Session, row: Recurrence) -> RecurrenceView:
    terms, policy = serving.from_json(row.serving), fit_policy.from_json(row.policy)
    return RecurrenceView(
        id=row.id,
        name=row.name,
        model=row.model,
        channel=row.channel,
        alias=row.alias,
        cron=row.cron,
        zone=row.zone,
        target=target_from(row.target),
        context=row.context,
        slots=terms.slots,
        kv_type=terms.kv_type,
        pinned=terms.is_pinned,
        policy=None if policy is None else fit_policy.said(policy),
        strategy=frozen_strategy.from_json(row.strategy),
        due_at=row.due_at,
        paused_at=row.paused_at,
        created_at=row.created_at,
        created_by=row.created_by,
        last=next(iter(_occurrences(session, row.id, 1)), None),
    )


def _record(session: Session, tag: Tag, row: Recurrence, actor: str, now: datetime) -> None:
    log.append(
        session,
        tag,
        at=now,
        actor=actor,
        subject=f"recurrence/{row.id}",
        detail={
            "name": row.name,
            "model": row.model,
            "channel": row.channel,
            "alias": row.alias,
            "target": row.target,
            "cron": row.cron,
            "zone": row.zone,
        },
    )
