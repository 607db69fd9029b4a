"""Which person is behind a subject: four eyes are those of two people, not of two accounts.

A service is the person who it acts for. Whoever made a token of somebody else may have kept it, so
what was done while that token was good may be their doing as well. So it is with who set somebody's
password, and for some days more: they may have signed in with it, and changed it again.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Final

import sqlalchemy
from sqlalchemy.orm import aliased
from sqlmodel import Session, col

from sprat_controller.store.tables import OperatorToken, Password, Subject, UtcDateTime

_OWNER: Final = sqlalchemy.select(col(Subject.owner_id)).where(
    col(Subject.id) == sqlalchemy.bindparam("subject")
)
_ACTS_FOR = aliased(Subject)
_DISABLED: Final = (
    sqlalchemy.select(col(Subject.id))
    .outerjoin(_ACTS_FOR, col(_ACTS_FOR.id) == col(Subject.owner_id))
    .where(
        col(Subject.id).in_(sqlalchemy.bindparam("subjects", expanding=True)),
        sqlalchemy.or_(
            col(Subject.disabled_at).is_not(None), col(_ACTS_FOR.disabled_at).is_not(None)
        ),
    )
)
_MAKERS: Final = (
    sqlalchemy.select(col(OperatorToken.made_by))
    .where(
        col(OperatorToken.subject_id) == sqlalchemy.bindparam("subject"),
        sqlalchemy.or_(
            col(OperatorToken.revoked_at).is_(None),
            col(OperatorToken.revoked_at) >= sqlalchemy.bindparam("since"),
        ),
    )
    .distinct()
)
# How long it takes at most until somebody notices that their password is not theirs any more.
_UNNOTICED: Final = timedelta(days=7)
_SETTERS: Final = (
    sqlalchemy.select(col(Password.set_by))
    .where(
        col(Password.subject_id) == sqlalchemy.bindparam("subject"),
        sqlalchemy.or_(
            col(Password.ended_at).is_(None),
            col(Password.ended_at) >= sqlalchemy.bindparam("since", type_=UtcDateTime()),
        ),
    )
    .distinct()
)


def person(session: Session, subject: str) -> str:
    """Return the person behind a subject; of what is no subject of ours, itself."""
    return session.connection().execute(_OWNER, {"subject": subject}).scalar() or subject


def disabled(session: Session, subjects: Collection[str]) -> set[str]:
    """Return those of some subjects that are disabled, themselves or who they act for."""
    rows = session.connection().execute(_DISABLED, {"subjects": list(subjects)})
    return set(rows.scalars())


def may_be_one(session: Session, one: str, other: str, since: datetime) -> bool:
    """Tell whether two subjects may be one person's: by what they are, or by who made their tokens.

    Args:
        session: Of the database.
        one: A subject.
        other: Another, or the same.
        since: Tokens that were revoked before are left out, passwords some days later.
    """
    first, second = person(session, one), person(session, other)
    return (
        first == second
        or second in _makers(session, one, since)
        or first in _makers(session, other, since)
    )


def _makers(session: Session, subject: str, since: datetime) -> set[str]:
    """Return who made tokens of a subject that were good since then, or set its password."""
    connection = session.connection()
    made = connection.execute(_MAKERS, {"subject": subject, "since": since}).scalars().all()
    asked = {"subject": subject, "since": since - _UNNOTICED}
    password = connection.execute(_SETTERS, asked).scalars().all()
    return {person(session, maker) for maker in (*made, *password) if maker}
