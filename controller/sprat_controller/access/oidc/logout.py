"""Somebody signed out at the provider, and it tells us (OpenID Connect Back-Channel Logout 1.0).

Their sessions here end in the transaction that notes the token down, so each counts once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

import sqlalchemy
from sprat_proto.audit_events import Tag
from sqlmodel import Session, col, select

from sprat_controller.access import identities, provided, sessions
from sprat_controller.access.oidc.desk import Desk
from sprat_controller.access.oidc.tokens import logout_token
from sprat_controller.access.oidc.tokens.logout_token import SignedOut
from sprat_controller.access.oidc.tokens.refusals import TokenRefusedError
from sprat_controller.errors import RequestError
from sprat_controller.store.tables import LoginSession, OidcIdentity, OidcLogout

_ACTOR: Final = "provider"
_MORE: Final = timedelta(minutes=1)  # to be sure that the token is worth nothing by then


def sign_out(desk: Desk, text: str, source: str, now: datetime) -> int:
    """End the sessions that a logout token is about; return how many there were.

    Raises:
        RequestError: `logout_refused`: it is not believed, or was seen before.
        UnavailableError: `provider_unreachable`.
        ProviderError: `provider_failed`.
    """
    said = desk.configuration
    try:
        out = desk.provider.judged(
            lambda keys: logout_token.judge(
                text,
                keys,
                issuer=said.issuer,
                client_id=said.client_id,
                algorithms=said.algorithms,
                now=now,
            ),
            now,
        )
    except TokenRefusedError as refusal:
        raise _refused(desk, refusal.reason.value, refusal.message, source, now) from refusal
    with desk.database.transaction() as session:
        if _note(session, out, now):
            found = _sessions(session, said.issuer, out, now)
            for row in found:
                sessions.end(session, row, actor=_ACTOR, now=now)
            return len(found)
    raise _refused(
        desk, "seen_before", "expected a logout that was not told yet, found one", source, now
    )


def _note(session: Session, out: SignedOut, now: datetime) -> bool:
    """Note a token down; False: it was before."""
    old = sqlalchemy.delete(OidcLogout).where(col(OidcLogout.ends_at) <= now)
    session.connection().execute(old)
    key = hashlib.sha256(out.jti.encode()).hexdigest()
    if session.get(OidcLogout, key) is not None:
        return False
    session.add(OidcLogout(jti_sha256=key, ends_at=out.ends_at + _MORE))
    session.flush()
    return True


def _sessions(
    session: Session, issuer: str, out: SignedOut, now: datetime
) -> Sequence[LoginSession]:
    """Return the sessions that are not over: of somebody, of one of the provider's, or of both."""
    whose = select(LoginSession).join(
        OidcIdentity, col(OidcIdentity.subject_id) == col(LoginSession.subject_id)
    )
    found = whose.where(
        OidcIdentity.issuer == issuer,
        LoginSession.authn == provided.AUTHN,
        col(LoginSession.ended_at).is_(None),
        col(LoginSession.expires_at) > now,
    )
    if out.sid is not None:
        is_it = col(LoginSession.provider_sid) == out.sid
        # A session whose ID token named none may be any of theirs.
        is_unnamed = col(LoginSession.provider_sid).is_(None)
        found = found.where(sqlalchemy.or_(is_it, is_unnamed) if out.sub is not None else is_it)
    if out.sub is not None:
        identity = identities.find(session, issuer, out.sub)
        found = found.where(LoginSession.subject_id == (identity.subject_id if identity else ""))
    return session.exec(found).all()


def _refused(desk: Desk, reason: str, message: str, source: str, now: datetime) -> RequestError:
    error = RequestError("logout_refused", message, {"reason": reason})
    detail = {"code": error.code, "reason": reason, "source": source}
    desk.denials.record(
        Tag.PROVIDER_LOGOUT_REFUSED,
        at=now,
        actor="anonymous",
        subject="login/unknown",
        detail=detail,
    )
    return error
