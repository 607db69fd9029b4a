"""Roles that somebody has by their groups at a provider: for as long as they are signed in.

They are given anew, as a whole, each time that somebody signs in: who is in fewer groups by then
has less at once, in sessions of before as well. They end with the last session that came from a
provider, and nobody gives or takes them by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

from sprat_proto.audit_events import Tag
from sqlmodel import Session, col, select

from sprat_controller.access import snapshot
from sprat_controller.access.oidc.mapping import Given
from sprat_controller.audit import changes, log
from sprat_controller.store.tables import LoginSession, ProvidedRole

AUTHN: Final = "oidc"


def every(session: Session, now: datetime, subject: str | None = None) -> Sequence[ProvidedRole]:
    """Return what is given at the moment, to all or to a subject, in the order of giving."""
    found = select(ProvidedRole).where(col(ProvidedRole.ends_at) > now)
    if subject is not None:
        found = found.where(ProvidedRole.subject_id == subject)
    return session.exec(found.order_by(col(ProvidedRole.since), col(ProvidedRole.id))).all()


def replace(
    session: Session,
    subject: str,
    given: Sequence[Given],
    *,
    now: datetime,
    ends_at: datetime,
    new_id: Callable[[], str],
) -> None:
    """Have somebody hold these, until then, and no others.

    Args:
        session: An open `Database.transaction()`.
        subject: Whose.
        given: Each once.
        now: The caller's clock.
        ends_at: When they end by themselves.
        new_id: Makes the ids of rows.
    """
    before = {Given(row.role, row.scope): row for row in _rows(session, subject)}
    held = sorted(one for one, row in before.items() if row.ends_at > now)
    for one, row in before.items():
        if one in given:
            row.since = row.since if row.ends_at > now else now
            row.ends_at = ends_at
            session.add(row)
        else:
            session.delete(row)
    for one in given:
        if one not in before:
            made = ProvidedRole(
                id=new_id(),
                subject_id=subject,
                role=one.role,
                scope=one.scope,
                since=now,
                ends_at=ends_at,
            )
            session.add(made)
    session.flush()
    snapshot.changed(session)
    _record(session, subject, held, given, now=now, until=ends_at)


def after_an_end(session: Session, subject: str, now: datetime) -> None:
    """Have nobody hold for longer what they are signed in for; call it after a session's end."""
    alive = select(LoginSession.expires_at).where(
        LoginSession.subject_id == subject,
        LoginSession.authn == AUTHN,
        col(LoginSession.ended_at).is_(None),
        col(LoginSession.expires_at) > now,
    )
    last = max(session.exec(alive).all(), default=None)
    rows = _rows(session, subject)
    if not rows:
        return
    held = sorted(Given(row.role, row.scope) for row in rows if row.ends_at > now)
    is_cut = last is None or any(row.ends_at > last for row in rows)
    for row in rows:
        if last is None:
            session.delete(row)
        else:
            row.ends_at = min(row.ends_at, last)
            session.add(row)
    session.flush()
    snapshot.changed(session)
    if held and is_cut:
        _record(session, subject, held, () if last is None else held, now=now, until=last)


def _rows(session: Session, subject: str) -> Sequence[ProvidedRole]:
    return session.exec(select(ProvidedRole).where(ProvidedRole.subject_id == subject)).all()


def _record(
    session: Session,
    subject: str,
    before: Sequence[Given],
    after: Sequence[Given],
    *,
    now: datetime,
    until: datetime | None,
) -> None:
    detail: dict[str, object] = {
        "before": [one.said for one in before],
        "after": [one.said for one in after],
    }
    if after and until is not None:
        detail["until"] = until.isoformat()
    log.append(
        session,
        Tag.ROLES_PROVIDED,
        at=now,
        actor="provider",
        subject=f"subject/{subject}",
        before=changes.digest(detail["before"]),
        after=changes.digest(detail["after"]),
        detail=detail,
    )
