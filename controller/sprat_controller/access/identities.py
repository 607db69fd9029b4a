"""Who people are at the provider that they sign in at: a row for each, and the subject it is here.

Somebody is known by the issuer and its `sub`, which it never gives anew, and by nothing else: what
else it says of them, e-mail and names, they may be able to set themselves. So a subject is called
`user:oidc-` and a part of the hash of both.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Final

from sqlmodel import Session, select

from sprat_controller.access import subjects
from sprat_controller.access.actor import SubjectKind
from sprat_controller.store.tables import OidcIdentity, Subject

_PREFIX: Final = "oidc-"
_DIGITS: Final = 20  # 80 bits: nobody makes two that are the same
_ACTOR: Final = "provider"


def find(session: Session, issuer: str, sub: str) -> OidcIdentity | None:
    """Return whom a provider calls so; None: they never signed in."""
    return session.get(OidcIdentity, (issuer, sub))


def of(session: Session, subject: str) -> OidcIdentity | None:
    """Return who a subject is at a provider; None: they are of here."""
    found = select(OidcIdentity).where(OidcIdentity.subject_id == subject)
    return session.exec(found).first()


def every(session: Session) -> Mapping[str, OidcIdentity]:
    """Return all, by subject."""
    return {row.subject_id: row for row in session.exec(select(OidcIdentity)).all()}


def name_of(issuer: str, sub: str) -> str:
    """Return how the subject of somebody is called."""
    digest = hashlib.sha256(f"sprat/v1 oidc\0{issuer}\0{sub}".encode()).hexdigest()
    return f"{_PREFIX}{digest[:_DIGITS]}"


def add(session: Session, issuer: str, sub: str, known_as: str, now: datetime) -> OidcIdentity:
    """Add somebody and their subject, which may do nothing yet.

    Raises:
        ConflictError: `name_taken`: somebody made a subject of that name by hand.
    """
    subject: Subject = subjects.create(
        session, SubjectKind.USER, name_of(issuer, sub), owner=None, actor=_ACTOR, now=now
    )
    row = OidcIdentity(
        issuer=issuer,
        sub=sub,
        subject_id=subject.id,
        known_as=known_as,
        first_at=now,
        last_at=now,
    )
    session.add(row)
    session.flush()
    return row
