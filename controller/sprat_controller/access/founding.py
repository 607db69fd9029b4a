"""The administrator whom the controller itself lets in: the first one, and who lost their way in.

Whoever can run `sprat-controller` on its folder has its database in any case.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Final

from sqlmodel import Session

from sprat_controller.access import grants, subjects, tokens
from sprat_controller.access.actor import MAX_LIFETIME, SubjectKind, subject_of
from sprat_controller.access.policy import Role
from sprat_controller.access.scopes import EVERYTHING
from sprat_controller.store.tables import Subject

ADMIN: Final = "admin"
TOKEN: Final = "first"  # noqa: S105 - its name, not its content
_ACTOR: Final = "controller"


def let_in(
    session: Session,
    *,
    now: datetime,
    new_id: Callable[[], str],
    new_secret: Callable[[], str],
) -> str:
    """Have `user:admin` be an enabled administrator over everything; return a new token of theirs.

    The token that was returned before is worth nothing any more.
    """
    admin = subject_of(SubjectKind.USER, ADMIN)
    if session.get(Subject, admin) is None:
        subjects.create(session, SubjectKind.USER, ADMIN, owner=None, actor=_ACTOR, now=now)
    subjects.enable(session, admin, actor=None, now=now)
    roles = {(row.role, row.scope) for row in subjects.bindings(session, admin)}
    if (Role.ADMIN, "") not in roles:
        wanted = grants.Wanted(admin, Role.ADMIN, EVERYTHING)
        grants.grant(session, wanted, actor=None, now=now, binding_id=new_id())
    for row in tokens.every(session, admin):
        if row.name == TOKEN:
            tokens.revoke(session, row.id, actor=_ACTOR, now=now)
    session.flush()
    _, text = tokens.mint(
        session,
        tokens.Wanted(admin, TOKEN, Role.ADMIN, lifetime=MAX_LIFETIME),
        made_by=None,
        now=now,
        new_id=new_id,
        new_secret=new_secret,
    )
    return text
