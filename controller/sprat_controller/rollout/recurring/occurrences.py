"""What is due of recurring rollouts: each occurrence is decided in one transaction, once.

The occurrence, the rollout that it creates and the moment of the next one are kept together or not
at all, so being killed anywhere creates nothing twice; an occurrence has one row by its key, so
neither do two controllers. A rollout that is created this way is as one that a person asked for,
with its moment as the time to start at: whoever must approve is asked, and it is the recurrence's
author who may not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeAlias

import sqlalchemy
from sprat_proto.audit_events import Tag
from sprat_proto.states import RolloutState
from sqlmodel import Session, col

from sprat_controller.access.scopes import Scope
from sprat_controller.audit import log
from sprat_controller.errors import RequestError
from sprat_controller.registry import channels
from sprat_controller.rollout.plan import Reason
from sprat_controller.rollout.recurring import rules
from sprat_controller.rollout.recurring.recurrences import rollout_of
from sprat_controller.rollout.recurring.rules import Last, Offer
from sprat_controller.rollout.requests import check_rollout, reach, target_from
from sprat_controller.rollout.service import RolloutService
from sprat_controller.schedule.leases import Lease, Leases
from sprat_controller.store.session import Database
from sprat_controller.store.tables import Occurrence, Recurrence, Release, Rollout

ACTOR: Final = "schedule"
Standing: TypeAlias = Callable[[Session, str], Scope | None]


@dataclass(frozen=True)
class _Outcome:
    """What comes of an occurrence: a rollout, or the reason why none does."""

    release: str | None
    rollout_id: str | None = None
    reason: Reason | None = None


class _NeedlessError(Exception):
    """The rollout that was created would change nothing: its transaction is given up."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.message)
        self.reason = reason


class OccurrenceRunner:
    """Decides what is due; any number of replicas may do it at once."""

    def __init__(
        self,
        database: Database,
        rollouts: RolloutService,
        leases: Leases,
        standing: Standing | None = None,
    ) -> None:
        """Decide over `database`.

        Args:
            database: Where rows are.
            rollouts: Creates rollouts.
            leases: Claims rows of `Recurrence`.
            standing: Says over which devices somebody may roll out by now; None: it is not asked.
        """
        self._standing = standing
        self._database = database
        self._rollouts = rollouts
        self._leases = leases

    def run_due(self, now: datetime) -> datetime | None:
        """Decide every occurrence that is due.

        One that fails is logged and tried again the next time; the others go on.

        Returns:
            When to look again because another replica works on one that is due; None: none does.
        """
        return self._leases.work_on_due(now, lambda lease: self._work(lease, now))

    def _work(self, lease: Lease, now: datetime) -> None:
        try:
            self._settle(lease, now, lambda session, row: self._decide(session, row, now))
        except (RequestError, _NeedlessError) as error:
            # Undone whole, to the last row of the rollout.
            reason = _reason_of(error)
            self._settle(lease, now, lambda session, row: _refused(session, row, reason))

    def _settle(
        self, lease: Lease, now: datetime, decide: Callable[[Session, Recurrence], _Outcome]
    ) -> None:
        """Have the occurrence decided and kept, and the next one waited for."""
        with self._database.transaction() as session:
            self._leases.hold(session, lease)
            row = session.get_one(Recurrence, lease.id, with_for_update=True)
            due_at = row.due_at
            if due_at is not None and due_at <= now:
                # It was decided already if a clock was put back and the recurrence then resumed.
                if session.get(Occurrence, (row.id, due_at)) is None:
                    _keep(session, row, decide(session, row), now)
                rule = rules.read(row.cron, row.zone)
                row.due_at = rules.next_due(rule, now)
                session.add(row)
                session.flush()
            self._leases.give_back(session, lease)

    def _decide(self, session: Session, row: Recurrence, now: datetime) -> _Outcome:
        offer = _newest(session, row)
        reason = self._why_not_theirs(session, row) or rules.why_not(offer, _last(session, row))
        if offer is None or reason is not None:
            return _Outcome(offer and offer.release, reason=reason)
        request = rollout_of(row, offer.release, row.due_at or now)
        check_rollout(request, now)
        made = self._rollouts.create_in(session, request, row.created_by)
        needless = rules.why_needless(offer, made.counts)
        if needless is not None:
            raise _NeedlessError(needless)
        if row.edited_by is not None:
            # Who changed what it asks for approves it as little as who asked for it at first.
            session.get_one(Rollout, made.id).edited_by = row.edited_by
        return _Outcome(offer.release, rollout_id=made.id)

    def _why_not_theirs(self, session: Session, row: Recurrence) -> Reason | None:
        """Return which author may not do by now what the recurrence does; None: all of them may.

        Whoever changed it last is one of them: it does what they said.
        """
        if self._standing is None:
            return None
        reached = reach(target_from(row.target))
        for author in dict.fromkeys((row.created_by, row.edited_by or row.created_by)):
            may = self._standing(session, author)
            if may is None or not may.contains(reached):
                return rules.author_may_not(author)
        return None


def _reason_of(error: RequestError | _NeedlessError) -> Reason:
    """Return why there is no rollout: nobody is in the target, say, or a device in it is gone."""
    if isinstance(error, _NeedlessError):
        return error.reason
    return Reason(error.code.upper(), error.message)


def _refused(session: Session, row: Recurrence, reason: Reason) -> _Outcome:
    offer = _newest(session, row)
    return _Outcome(offer and offer.release, reason=reason)


def _newest(session: Session, row: Recurrence) -> Offer | None:
    found = channels.newest(session, row.model, row.channel)
    return None if found is None else Offer(found.release, found.counter)


def _last(session: Session, row: Recurrence) -> Last | None:
    """Return the last rollout that the recurrence created."""
    found = (
        session.connection()
        .execute(
            sqlalchemy.select(
                col(Rollout.id), col(Rollout.state), col(Release.release), col(Release.counter)
            )
            .join(Occurrence, col(Occurrence.rollout_id) == col(Rollout.id))
            .join(
                Release,
                (col(Release.model) == col(Rollout.model))
                & (col(Release.release) == col(Rollout.release)),
            )
            .where(col(Occurrence.recurrence_id) == row.id)
            .order_by(col(Occurrence.due_at).desc())
            .limit(1)
        )
        .first()
    )
    if found is None:
        return None
    rollout_id, state, release, counter = found
    return Last(rollout_id, RolloutState(state), Offer(release, counter))


def _keep(session: Session, row: Recurrence, outcome: _Outcome, now: datetime) -> None:
    due_at = row.due_at or now
    reason = outcome.reason.as_json() if outcome.reason else None
    session.add(
        Occurrence(
            recurrence_id=row.id,
            due_at=due_at,
            decided_at=now,
            release=outcome.release,
            rollout_id=outcome.rollout_id,
            reason=reason,
        )
    )
    log.append(
        session,
        Tag.RECURRENCE_SKIPPED if reason else Tag.RECURRENCE_DUE,
        at=now,
        actor=ACTOR,
        subject=f"recurrence/{row.id}",
        reason=outcome.reason.code if outcome.reason else None,
        detail={
            "due_at": due_at.isoformat(timespec="seconds"),
            "release": outcome.release or "",
            **({"reason": reason} if reason else {"rollout": outcome.rollout_id or ""}),
        },
    )
