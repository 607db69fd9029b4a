"""Where somebody is let in whom a provider vouches for: the end of each way to sign in.

What the provider says is compared with what is here, and all that follows is one transaction: who
they are, what their groups give, the session, and the records of it. Whoever has no role is not let
in, and what they had by their groups before is taken away.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sprat_proto.audit_events import Tag
from sqlmodel import Session

from sprat_controller.access import identities, provided, sessions, snapshot, subjects
from sprat_controller.access.oidc import mapping
from sprat_controller.access.oidc.configuration import Configuration
from sprat_controller.access.oidc.mapping import Given
from sprat_controller.access.oidc.provider import Granted, Provider
from sprat_controller.access.oidc.tokens import id_token
from sprat_controller.access.oidc.tokens.id_token import Expected, SignedIn
from sprat_controller.access.oidc.tokens.refusals import TokenRefusedError
from sprat_controller.access.sessions import Begun, Kind
from sprat_controller.audit.denials import Denials
from sprat_controller.errors import ConflictError, DeniedError, ProviderError, SpratError
from sprat_controller.store.session import Database
from sprat_controller.store.tables import LoginSession, OidcIdentity

_NOBODY: Final = "login/unknown"


@dataclass(frozen=True)
class Desk:
    """What is needed to let somebody in."""

    provider: Provider
    database: Database
    denials: Denials
    new_id: Callable[[], str]
    new_secret: Callable[[], str]

    @property
    def configuration(self) -> Configuration:
        """What was agreed on with the provider."""
        return self.provider.configuration


@dataclass(frozen=True)
class Coming:
    """How somebody comes in: how their session's secret is carried, from which address, when."""

    kind: Kind
    source: str
    now: datetime


def let_in(
    desk: Desk, granted: Granted, nonce: str | None, coming: Coming
) -> tuple[LoginSession, str]:
    """Begin a session of whom the provider vouches for; return its row and, this once, its secret.

    Args:
        desk: Where.
        granted: What the provider gave.
        nonce: What was sent with the question; None: nothing.
        coming: How they come in.

    Raises:
        DeniedError: `user_disabled` or `no_role`.
        ProviderError: `token_refused` or `provider_failed`.
        UnavailableError: `provider_unreachable`.
        ConflictError: `name_taken`.
    """
    who = _judged(desk, granted, nonce, coming)
    said = _told(desk, who, granted, coming)
    groups = mapping.groups_in(said, desk.configuration.groups_claim) or ()
    given = mapping.roles_of(groups, desk.configuration.rules)
    known_as = mapping.name_in(said, desk.configuration.name_claim)
    try:
        with desk.database.transaction() as session:
            identity = identities.find(session, who.issuer, who.sub)
            refusal = _refusal(session, identity, given, coming.now)
            if refusal is None:
                return _begin(
                    desk, session, coming, identity, who=who, given=given, known_as=known_as
                )
            if identity is not None:
                _shut_out(desk, session, identity.subject_id, coming.now)
    except ConflictError as taken:
        raise refused(desk, taken, coming.source, coming.now) from taken
    about = f"subject/{identity.subject_id}" if identity is not None else _NOBODY
    raise refused(desk, refusal, coming.source, coming.now, about, groups=len(groups))


def refused(
    desk: Desk,
    refusal: SpratError,
    source: str,
    now: datetime,
    about: str = _NOBODY,
    **more: object,
) -> SpratError:
    """Write down that somebody was not let in, and return the answer."""
    detail = {"code": refusal.code, "source": source, **refusal.details, **more}
    desk.denials.record(
        Tag.PROVIDER_LOGIN_REFUSED, at=now, actor="anonymous", subject=about, detail=detail
    )
    return refusal


def _judged(desk: Desk, granted: Granted, nonce: str | None, coming: Coming) -> SignedIn:
    said = desk.configuration
    expected = Expected(
        issuer=said.issuer,
        client_id=said.client_id,
        algorithms=said.algorithms,
        nonce=nonce,
        max_auth_age=said.max_auth_age,
        access_token=granted.access_token,
    )
    try:
        return desk.provider.judged(
            lambda keys: id_token.judge(granted.id_token, keys, expected, coming.now), coming.now
        )
    except TokenRefusedError as refusal:
        error = ProviderError(
            "token_refused",
            f"the provider of single sign-on gave a token that is not believed: {refusal.message}",
            {"reason": refusal.reason.value},
        )
        raise refused(desk, error, coming.source, coming.now) from refusal


def _told(desk: Desk, who: SignedIn, granted: Granted, coming: Coming) -> Mapping[str, Any]:
    """Return what is told of somebody: if the token has no groups, userinfo may."""
    said = desk.configuration
    endpoint = desk.provider.endpoints(coming.now).userinfo
    has_groups = mapping.groups_in(who.claims, said.groups_claim) is not None
    if has_groups or endpoint is None or granted.access_token is None:
        return who.claims
    more = desk.provider.userinfo(endpoint, granted.access_token)
    if more.get("sub") != who.sub:
        error = ProviderError(
            "token_refused",
            "the provider of single sign-on tells of somebody else than who signed in: ask who"
            " runs it",
            {"reason": "userinfo"},
        )
        raise refused(desk, error, coming.source, coming.now)
    return {**more, **who.claims}


def _refusal(
    session: Session, identity: OidcIdentity | None, given: Sequence[Given], now: datetime
) -> DeniedError | None:
    """Return why somebody is not let in; None: they are."""
    if identity is not None and subjects.find(session, identity.subject_id).disabled_at is not None:
        return DeniedError(
            "user_disabled",
            f"{identity.subject_id} is disabled here: ask an administrator (`sprat users enable`)",
        )
    policy = snapshot.load(session, now)
    # A rule may name a role that is no more.
    has_role = any(policy.permissions_of(one.role) for one in given)
    if has_role or (identity is not None and subjects.bindings(session, identity.subject_id)):
        return None
    return DeniedError(
        "no_role",
        "expected somebody with a role by their groups at the provider, found none of the groups"
        " that give one: ask whoever runs the controller which group you should be in",
    )


def _begin(
    desk: Desk,
    session: Session,
    coming: Coming,
    identity: OidcIdentity | None,
    *,
    who: SignedIn,
    given: Sequence[Given],
    known_as: str,
) -> tuple[LoginSession, str]:
    now = coming.now
    if identity is None:
        identity = identities.add(session, who.issuer, who.sub, known_as, now)
    identity.known_as, identity.last_at = known_as, now
    session.add(identity)
    begun = Begun(
        identity.subject_id,
        coming.kind,
        provided.AUTHN,
        coming.source,
        desk.configuration.lifetime,
        who.sid,
    )
    row, text = sessions.begin(
        session, begun, now=now, new_id=desk.new_id, new_secret=desk.new_secret
    )
    provided.replace(
        session,
        identity.subject_id,
        given,
        now=now,
        ends_at=row.expires_at,
        new_id=desk.new_id,
    )
    return row, text


def _shut_out(desk: Desk, session: Session, subject: str, now: datetime) -> None:
    """End what somebody has by a provider that gives them nothing any more."""
    for row in sessions.every(session, now, subject):
        if row.authn == provided.AUTHN:
            sessions.end(session, row, actor="provider", now=now)
    provided.replace(session, subject, (), now=now, ends_at=now, new_id=desk.new_id)
