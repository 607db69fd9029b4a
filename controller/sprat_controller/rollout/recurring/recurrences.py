"""Recurring rollouts as people ask for them: add, list, edit, pause, resume, remove.

What is due is decided by `occurrences`. A pause does not make up for what it left out; what was
removed leaves its rollouts and its occurrences behind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final, TypeVar

from msgspec import UNSET, UnsetType
from sprat_proto.assignment import AS_DEVICE_DECIDES, ServingTerms
from sprat_proto.audit_events import Tag
from sprat_proto.policy import FitPolicy
from sprat_proto.windows import WindowError
from sqlmodel import Session, col, func, select

from sprat_controller.access import within
from sprat_controller.access.scopes import EVERYTHING, Scope
from sprat_controller.audit import changes, log
from sprat_controller.clock import Clock
from sprat_controller.errors import ConflictError, NotFoundError, RequestError
from sprat_controller.registry import channels
from sprat_controller.rollout import (
    fit_policy,
    frozen_strategy,
    revisions,
    serving,
    strategy_said,
)
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
_Value = TypeVar("_Value")
# As the audit log has one before and after: its digest or state, None: there is none.
_Moved = tuple[str | None, str | None]
_ACTIVE: Final = "active"
_PAUSED: Final = "paused"
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

    @property
    def default_name(self) -> str:
        """What it is called if nobody named it."""
        return f"{self.model} from {self.channel}"


@dataclass(frozen=True)
class RecurrenceEdit:
    """What is to be different of a recurrence; None: as it is. Its model and alias never are.

    Attributes:
        channel: As in `RecurrenceRequest`, and so are cron, zone, name, context and terms.
        labels: Of the target, and so are devices and filter.
        policy: None: the release's own; unset: as it is.
        strategy: The words of it that are to be different, each as a whole, as JSON says them.
    """

    channel: str | None = None
    cron: str | None = None
    zone: str | None = None
    name: str | None = None
    labels: Mapping[str, str] | None = None
    devices: tuple[str, ...] | None = None
    filter: str | None = None
    context: int | None = None
    slots: int | None = None
    kv_type: str | None = None
    pinned: bool | None = None
    policy: FitPolicy | UnsetType | None = UNSET
    strategy: Mapping[str, Any] | None = None

    def of(self, before: RecurrenceRequest) -> RecurrenceRequest:
        """Return what is asked for by now.

        Raises:
            RequestError: The strategy that comes of it is not a possible one.
        """
        target, terms = before.target, before.terms
        strategy = before.strategy
        # Who never named it has it named by its channel.
        unnamed = before.name == before.default_name
        return replace(
            before,
            channel=_either(self.channel, before.channel),
            cron=_either(self.cron, before.cron),
            zone=_either(self.zone, before.zone),
            name=_either(self.name, "" if unnamed else before.name),
            target=replace(
                target,
                labels=_either(self.labels, target.labels),
                devices=_either(self.devices, target.devices),
                filter=_either(self.filter, target.filter),
            ),
            context=_either(self.context, before.context),
            terms=serving.asked(
                _either(self.slots, terms.slots),
                _either(self.kv_type, terms.kv_type),
                pinned=_either(self.pinned, terms.is_pinned),
            ),
            policy=before.policy if isinstance(self.policy, UnsetType) else self.policy,
            strategy=strategy_said.edited(strategy, self.strategy) if self.strategy else strategy,
        )


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
    revision: int  # one more with each change by a person


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
                model=request.model,
                alias=request.alias,
                **_columns(request),
                reach=_reach(request),
                due_at=due_at,
                created_at=now,
                created_by=actor,
            )
            session.add(row)
            session.flush()
            _record(session, Tag.RECURRENCE_ADDED, row, (None, _digest(row)), actor, now)
            return _view(session, row)

    def list(self) -> tuple[RecurrenceView, ...]:
        """Return all recurrences, oldest first."""
        with self._database.reading() as session:
            order = (col(Recurrence.created_at), col(Recurrence.id))
            seen = within.reaches(session, self._scope, col(Recurrence.reach))
            rows = session.exec(select(Recurrence).where(seen).order_by(*order)).all()
            return tuple(_view(session, row) for row in rows)

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

    # `expected_revision` of the following: what was looked at; None: whatever it is by now.

    def edit(
        self,
        recurrence_id: str,
        change: RecurrenceEdit,
        actor: str,
        *,
        expected_revision: int | None = None,
    ) -> RecurrenceView:
        """Change what is rolled out, to whom, how and when; what it rolled out before goes on.

        Args:
            recurrence_id: Which.
            change: What is to be different.
            actor: Who, as it stands in the audit log. They may approve none of its rollouts until
                somebody else changes it.
            expected_revision: What was looked at.

        Raises:
            RequestError: Nothing is to be different, or no possible request comes of it.
            NotFoundError: No such recurrence.
            ConflictError: It was changed meanwhile.
        """
        now = self._clock()
        if change in (RecurrenceEdit(), RecurrenceEdit(strategy={})):
            raise RequestError("nothing_to_change", "expected something to change, found nothing")
        with self._database.transaction() as session:
            row = _held(session, recurrence_id, self._scope, expected_revision)
            before, was = _request_of(row), _digest(row)
            after = change.of(before)
            # Who changes it never has it grow to devices that are not there for them.
            after = replace(after, target=confined(after.target, self._scope))
            due_at = _check(after, now)
            is_same_rule = (before.cron, before.zone) == (after.cron, after.zone)
            if row.paused_at is None and not is_same_rule:
                row.due_at = due_at
            for name, value in _columns(after).items():
                setattr(row, name, value)
            row.reach = _reach(after)
            row.edited_by = actor
            _changed(session, Tag.RECURRENCE_EDITED, row, (was, _digest(row)), actor, now)
            return _view(session, row)

    def pause(
        self, recurrence_id: str, actor: str, *, expected_revision: int | None = None
    ) -> RecurrenceView:
        """Have nothing be due until it is resumed; nothing changes if it is paused.

        Raises:
            NotFoundError: No such recurrence.
            ConflictError: It was changed meanwhile.
        """
        now = self._clock()
        with self._database.transaction() as session:
            row = _held(session, recurrence_id, self._scope, expected_revision)
            if row.paused_at is None:
                row.paused_at, row.due_at = now, None
                _changed(session, Tag.RECURRENCE_PAUSED, row, (_ACTIVE, _PAUSED), actor, now)
            return _view(session, row)

    def resume(
        self, recurrence_id: str, actor: str, *, expected_revision: int | None = None
    ) -> RecurrenceView:
        """Have it be due from its next moment on; nothing changes if it is not paused.

        Raises:
            NotFoundError: No such recurrence.
            ConflictError: It was changed meanwhile.
        """
        now = self._clock()
        with self._database.transaction() as session:
            row = _held(session, recurrence_id, self._scope, expected_revision)
            if row.paused_at is not None:
                row.paused_at = None
                row.due_at = rules.next_due(rules.read(row.cron, row.zone), now)
                _changed(session, Tag.RECURRENCE_RESUMED, row, (_PAUSED, _ACTIVE), actor, now)
            return _view(session, row)

    def remove(
        self, recurrence_id: str, actor: str, *, expected_revision: int | None = None
    ) -> None:
        """Forget a recurrence; what it rolled out goes on.

        Raises:
            NotFoundError: No such recurrence.
            ConflictError: It was changed meanwhile.
        """
        with self._database.transaction() as session:
            row = _held(session, recurrence_id, self._scope, expected_revision)
            moved = (_digest(row), None)
            _record(session, Tag.RECURRENCE_REMOVED, row, moved, actor, self._clock())
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


def _found(session: Session, recurrence_id: str, scope: Scope) -> Recurrence:
    row = session.get(Recurrence, recurrence_id)
    if row is None or not scope.contains_cases(row.reach):
        raise NotFoundError(
            "recurrence_not_found", f"there is no recurring rollout {recurrence_id!r}"
        )
    return row


def _held(
    session: Session, recurrence_id: str, scope: Scope, expected_revision: int | None
) -> Recurrence:
    """Return a recurrence as it was looked at, its row locked until the transaction ends."""
    statement = (
        select(Recurrence)
        .where(col(Recurrence.id) == recurrence_id)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    session.exec(statement).first()
    row = _found(session, recurrence_id, scope)
    revisions.check_recurrence(session, row, expected_revision)
    return row


def _request_of(row: Recurrence) -> RecurrenceRequest:
    """Return what a recurrence asks for."""
    return RecurrenceRequest(
        model=row.model,
        channel=row.channel,
        alias=row.alias,
        cron=row.cron,
        zone=row.zone,
        target=target_from(row.target),
        context=row.context,
        terms=serving.from_json(row.serving),
        policy=fit_policy.from_json(row.policy),
        name=row.name,
        strategy=frozen_strategy.from_json(row.strategy),
    )


def _columns(request: RecurrenceRequest) -> dict[str, Any]:
    """Return what of a request may be changed, as it is stored."""
    return {
        "name": request.name or request.default_name,
        "channel": request.channel,
        "cron": request.cron,
        "zone": request.zone,
        "target": target_json(request.target),
        "context": request.context,
        "serving": serving.to_json(request.terms),
        "policy": fit_policy.to_json(request.policy),
        "strategy": frozen_strategy.to_json(request.strategy),
    }


def _reach(request: RecurrenceRequest) -> list[list[str]]:
    """Return as what a recurrence is kept beside its target; it follows from that."""
    return reach(request.target).cases


def _digest(row: Recurrence) -> str:
    """Return the digest of what a recurrence asks for."""
    return changes.digest({"model": row.model, "alias": row.alias, **_columns(_request_of(row))})


def _either(new: _Value | None, old: _Value) -> _Value:
    return old if new is None else new


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
        revision=row.revision,
    )


def _changed(  # noqa: PLR0917 - the same six each time
    session: Session, tag: Tag, row: Recurrence, moved: _Moved, actor: str, now: datetime
) -> None:
    row.revision += 1
    session.add(row)
    session.flush()
    _record(session, tag, row, moved, actor, now)


def _record(  # noqa: PLR0917 - the same six each time
    session: Session, tag: Tag, row: Recurrence, moved: _Moved, actor: str, now: datetime
) -> None:
    before, after = moved
    log.append(
        session,
        tag,
        at=now,
        actor=actor,
        subject=f"recurrence/{row.id}",
        before=before,
        after=after,
        detail={
            "name": row.name,
            "model": row.model,
            "channel": row.channel,
            "alias": row.alias,
            "target": row.target,
            "cron": row.cron,
            "zone": row.zone,
            "context": row.context,
            "serving": row.serving or {},
            **({} if row.policy is None else {"policy": row.policy}),
            "strategy": row.strategy,
            "revision": row.revision,
        },
    )
