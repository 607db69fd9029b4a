"""The tokens of people and services: minting, listing, revoking, and knowing one again.

A token is `sprat_` and 256 random bits in base64url; only its SHA-256 is kept, which is enough for
a secret that nobody chose.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from sprat_proto.audit_events import Tag
from sqlmodel import Session, col, select

from sprat_controller.access.policy import Actor, Role
from sprat_controller.audit import log
from sprat_controller.errors import ConflictError, NotFoundError
from sprat_controller.store.session import Database
from sprat_controller.store.tables import OperatorToken

PREFIX: Final = "sprat_"
_FORM: Final = re.compile(r"sprat_[A-Za-z0-9_-]{43}")
# `last_used_at` is for people: writing it for each request would cost a disk flush each.
LAST_USED_STEP: Final = timedelta(minutes=5)


def mint(
    session: Session,
    *,
    name: str,
    role: Role,
    actor: str,
    now: datetime,
    new_id: Callable[[], str],
    new_secret: Callable[[], str],
    lifetime: timedelta | None = None,
) -> tuple[OperatorToken, str]:
    """Add a token and return its row and, for this once, its text.

    Args:
        session: An open `Database.transaction()`.
        name: Whose it is; one that is not revoked may have the name.
        role: What it may do.
        actor: Who makes it.
        now: The caller's clock.
        new_id: Makes the id of the row.
        new_secret: Makes 256 random bits in base64url without padding, 43 characters.
        lifetime: How long it is good for; None is for ever.

    Raises:
        ConflictError: `name_taken`.
    """
    same = select(OperatorToken).where(
        OperatorToken.name == name, col(OperatorToken.revoked_at).is_(None)
    )
    if session.exec(same).first():
        raise ConflictError(
            "name_taken",
            f"there is a token named {name!r} already: revoke it first, or choose another name",
        )
    text = f"{PREFIX}{new_secret()}"
    row = OperatorToken(
        id=new_id(),
        name=name,
        role=role.value,
        secret_sha256=_digest(text),
        created_at=now,
        expires_at=now + lifetime if lifetime else None,
    )
    session.add(row)
    detail = {"name": name, "role": role.value}
    log.append(
        session, Tag.TOKEN_CREATED, at=now, actor=actor, subject=f"token/{row.id}", detail=detail
    )
    return row, text


def revoke(session: Session, token_id: str, *, actor: str, now: datetime) -> None:
    """Make a token worthless at once; a second time changes nothing.

    Raises:
        NotFoundError: No such token.
    """
    row = session.get(OperatorToken, token_id)
    if row is None:
        raise NotFoundError("token_not_found", f"there is no token with the id {token_id!r}")
    if row.revoked_at is None:
        row.revoked_at = now
        subject = f"token/{row.id}"
        log.append(
            session,
            Tag.TOKEN_REVOKED,
            at=now,
            actor=actor,
            subject=subject,
            detail={"name": row.name},
        )


def recognise(database: Database, text: str, now: datetime) -> Actor | None:
    """Return whose token this is, or None if it is unknown, revoked or expired."""
    if _FORM.fullmatch(text) is None:
        return None
    with database.reading() as session:
        found = select(OperatorToken).where(OperatorToken.secret_sha256 == _digest(text))
        row = session.exec(found).first()
    if row is None or row.revoked_at or (row.expires_at and row.expires_at <= now):
        return None
    if row.last_used_at is None or now - row.last_used_at >= LAST_USED_STEP:
        _touch(database, row.id, now)
    return Actor(row.name, Role(row.role))


def _touch(database: Database, token_id: str, now: datetime) -> None:
    with database.transaction() as session:
        row = session.get(OperatorToken, token_id)
        if row is not None:
            row.last_used_at = now


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
