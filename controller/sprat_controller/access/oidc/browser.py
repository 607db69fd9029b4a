"""Signing in with a browser: sent to the provider, and back with a code (RFC 6749, PKCE).

A browser that is sent away gets a secret in a cookie, and the provider a `state`. Only hashes of
both are kept, in a row, so that any controller can take the browser back, once. The nonce and the
PKCE verifier are made of the two secrets, so whoever reads the rows can sign in as nobody; and
whoever sends somebody a link to come back by has not put the cookie there.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import urlsplit

import sqlalchemy
from sqlmodel import col

from sprat_controller.access.oidc import desk as front
from sprat_controller.access.oidc.desk import Coming, Desk
from sprat_controller.access.oidc.provider import GrantRefusedError
from sprat_controller.errors import DeniedError, ProviderError, RequestError
from sprat_controller.store.tables import LoginSession, OidcAttempt

LIFETIME: Final = timedelta(minutes=10)
MAX_NEXT: Final = 1024
_PATH: Final = re.compile(
    r"/(?![/\\])[!-\[\]-~]*"
)  # printable ASCII without spaces and backslashes
_SECRET: Final = re.compile(r"[A-Za-z0-9_-]{43}")
# What a provider answers if somebody did not want to, or could not (RFC 6749 §4.1.2.1, OIDC Core).
_DENIED: Final = frozenset(
    {"access_denied", "login_required", "consent_required", "interaction_required"}
)
_MAX_WORD: Final = 64


@dataclass(frozen=True)
class Sent:
    """Where a browser goes, and what it keeps until it is back."""

    url: str
    secret: str


@dataclass(frozen=True)
class Returned:
    """What a browser comes back with, from the provider or from anybody.

    Attributes:
        state: Which attempt it says it is of.
        code: What can be redeemed.
        error: The provider's word for why there is no code.
        issuer: Who sends it back (RFC 9207).
        secret: Of its cookie.
    """

    state: str
    code: str
    error: str
    issuer: str
    secret: str


@dataclass(frozen=True)
class CameIn:
    """A session that was begun, its secret this once, and where its browser wanted to go."""

    session: LoginSession
    secret: str
    next_path: str


def begin(desk: Desk, next_path: str, now: datetime) -> Sent:
    """Send a browser to the provider.

    Args:
        desk: Where it comes back to.
        next_path: Where it wants to go then: a path of ours.
        now: The caller's clock.

    Raises:
        RequestError: `bad_next`.
        UnavailableError: `provider_unreachable`.
        ProviderError: `provider_failed`.
    """
    path = checked_path(next_path)
    endpoints = desk.provider.endpoints(now)
    state, secret = desk.new_secret(), desk.new_secret()
    with desk.database.transaction() as session:
        old = sqlalchemy.delete(OidcAttempt).where(col(OidcAttempt.expires_at) <= now)
        session.connection().execute(old)
        attempt = OidcAttempt(
            state_sha256=_digest(state),
            browser_sha256=_digest(secret),
            next_path=path,
            expires_at=now + LIFETIME,
        )
        session.add(attempt)
    url = desk.provider.authorization_url(
        endpoints,
        state=state,
        nonce=_derived(secret, "nonce", state),
        verifier=_derived(secret, "verifier", state),
    )
    return Sent(url, secret)


def come_back(desk: Desk, returned: Returned, coming: Coming) -> CameIn:
    """Begin a session of whoever comes back from the provider; each attempt counts once.

    Raises:
        RequestError: `sign_in_unknown`: it is no attempt of this browser, or over.
        DeniedError: `sign_in_denied`, or as `desk.let_in` raises it.
        ProviderError: `provider_failed` or `token_refused`.
        UnavailableError: `provider_unreachable`.
    """
    attempt = _taken(desk, returned, coming)
    endpoints = desk.provider.endpoints(coming.now)
    is_named = returned.issuer != "" or endpoints.says_issuer
    if is_named and returned.issuer != desk.configuration.issuer:
        error = ProviderError(
            "provider_failed",
            "expected an answer of the provider of single sign-on, found that of another: begin"
            " again",
            {"reason": "issuer"},
        )
        raise front.refused(desk, error, coming.source, coming.now)
    if returned.error or not returned.code:
        raise front.refused(desk, _without_code(returned.error), coming.source, coming.now)
    verifier = _derived(returned.secret, "verifier", returned.state)
    try:
        granted = desk.provider.redeem(endpoints, returned.code, verifier)
    except GrantRefusedError as refusal:
        raise front.refused(
            desk, _not_redeemed(refusal.code), coming.source, coming.now
        ) from refusal
    nonce = _derived(returned.secret, "nonce", returned.state)
    row, text = front.let_in(desk, granted, nonce, coming)
    return CameIn(row, text, attempt.next_path)


def checked_path(text: str) -> str:
    """Return a path of ours that a browser may be sent on to.

    Raises:
        RequestError: `bad_next`: it may lead to somebody else.
    """
    parts = urlsplit(text) if len(text) <= MAX_NEXT and _PATH.fullmatch(text) else None
    if parts is None or parts.scheme or parts.netloc:
        raise RequestError(
            "bad_next", "expected a path of this controller, such as /docs, found something else"
        )
    return text


def _taken(desk: Desk, returned: Returned, coming: Coming) -> OidcAttempt:
    """Return the attempt that a browser comes back from, and have it be none any more."""
    is_form = _SECRET.fullmatch(returned.state) and _SECRET.fullmatch(returned.secret)
    with desk.database.transaction() as session:
        found = session.get(OidcAttempt, _digest(returned.state)) if is_form else None
        is_own = found is not None and hmac.compare_digest(
            found.browser_sha256, _digest(returned.secret)
        )
        if found is not None and is_own and coming.now < found.expires_at:
            session.delete(found)
            return found
    error = RequestError(
        "sign_in_unknown",
        "expected somebody who was sent to the provider from this browser in the last 10 minutes,"
        " and came back once: begin again",
    )
    raise front.refused(desk, error, coming.source, coming.now)


def _without_code(error: str) -> RequestError | ProviderError:
    if error in _DENIED:
        return DeniedError(
            "sign_in_denied",
            f"the provider of single sign-on let nobody in ({error}): begin again",
        )
    is_word = error.isascii() and error.isprintable() and len(error) <= _MAX_WORD
    shown = (error if is_word else "something else") or "no code"
    return ProviderError(
        "provider_failed",
        f"the provider of single sign-on answers {shown} instead of a code: ask who runs it",
    )


def _not_redeemed(code: str) -> RequestError | ProviderError:
    if code == "invalid_grant":
        return RequestError(
            "sign_in_unknown",
            "expected a code that the provider just gave, found one that it does not take: begin"
            " again",
            {"reason": code},
        )
    return ProviderError(
        "provider_failed",
        f"the provider of single sign-on gives nothing for its code ({code}): ask who runs it",
        {"reason": code},
    )


def _derived(secret: str, what: str, state: str) -> str:
    """Return another secret, of 43 characters, that only who has both can make."""
    made = hmac.digest(secret.encode(), f"sprat/v1 oidc {what}\0{state}".encode(), "sha256")
    return base64.urlsafe_b64encode(made).rstrip(b"=").decode()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
