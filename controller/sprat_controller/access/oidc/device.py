"""Signing in without a browser of ours: a code that is typed elsewhere (RFC 8628).

The controller asks the provider, so that the client's secret stays here; who signs in gets a handle
to ask by. The provider's code is kept encrypted by the handle, of which only a hash is kept. Asking
too early asks nobody: the row says when, for all controllers.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import sqlalchemy
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlmodel import col

from sprat_controller.access.oidc import desk as front
from sprat_controller.access.oidc.desk import Coming, Desk
from sprat_controller.access.oidc.provider import GrantRefusedError
from sprat_controller.errors import (
    DeniedError,
    NotFoundError,
    ProviderError,
    RequestError,
    UnavailableError,
)
from sprat_controller.store.tables import LoginSession, OidcDevice

PREFIX: Final = "sprat-device."
_FORM: Final = re.compile(r"sprat-device\.[A-Za-z0-9_-]{43}")
_MAX_LIFETIME: Final = timedelta(hours=1)
_MAX_INTERVAL_S: Final = 60
_SLOWER_S: Final = 5  # RFC 8628 §3.5
# Each key is used once.
_NONCE: Final = bytes(12)


@dataclass(frozen=True)
class Begun:
    """What somebody does elsewhere, and what is asked by meanwhile."""

    handle: str
    user_code: str
    verification_uri: str
    verification_uri_complete: str | None
    expires_at: datetime
    interval_s: int


@dataclass(frozen=True)
class Waiting:
    """They have not done it yet: ask again after so long."""

    interval_s: int


def begin(desk: Desk, now: datetime) -> Begun:
    """Begin a sign-in.

    Raises:
        NotFoundError: `no_device_sign_in`: the provider knows no such.
        UnavailableError: `provider_unreachable`.
        ProviderError: `provider_failed`.
    """
    endpoint = desk.provider.endpoints(now).device
    if endpoint is None:
        raise NotFoundError(
            "no_device_sign_in",
            "the provider of single sign-on lets nobody in by a code: make a token in the browser,"
            " or sign in with a password",
        )
    grant = desk.provider.begin_device(endpoint)
    handle = f"{PREFIX}{desk.new_secret()}"
    interval_s = min(grant.interval_s, _MAX_INTERVAL_S)
    expires_at = now + min(timedelta(seconds=min(grant.expires_in_s, 86_400)), _MAX_LIFETIME)
    with desk.database.transaction() as session:
        old = sqlalchemy.delete(OidcDevice).where(col(OidcDevice.expires_at) <= now)
        session.connection().execute(old)
        row = OidcDevice(
            handle_sha256=_digest(handle),
            sealed=_cipher(handle).encrypt(_NONCE, grant.device_code.encode(), None),
            interval_s=interval_s,
            next_at=now + timedelta(seconds=interval_s),
            expires_at=expires_at,
        )
        session.add(row)
    return Begun(
        handle=handle,
        user_code=grant.user_code,
        verification_uri=grant.verification_uri,
        verification_uri_complete=grant.verification_uri_complete,
        expires_at=expires_at,
        interval_s=interval_s,
    )


def is_known(desk: Desk, handle: str) -> bool:
    """Tell whether somebody was given this handle: strangers ask at a rate."""
    if _FORM.fullmatch(handle) is None:
        return False
    with desk.database.reading() as session:
        return session.get(OidcDevice, _digest(handle)) is not None


def ask(desk: Desk, handle: str, coming: Coming) -> Waiting | tuple[LoginSession, str]:
    """Return a session's row and, this once, its secret, if somebody has signed in by now.

    Raises:
        RequestError: `sign_in_unknown`: it is over, or there was none.
        DeniedError: `sign_in_denied`, or as `desk.let_in` raises it.
        ProviderError: `provider_failed` or `token_refused`.
        UnavailableError: `provider_unreachable`, after it had let somebody in.
    """
    now = coming.now
    turn = _turn(desk, handle, now)
    if isinstance(turn, Waiting):
        return turn
    code = _cipher(handle).decrypt(_NONCE, turn.sealed, None).decode()
    try:
        granted = desk.provider.redeem_device(desk.provider.endpoints(now), code)
    except UnavailableError:
        return Waiting(turn.interval_s)  # as if it had not answered: the code is still good
    except GrantRefusedError as refusal:
        if refusal.code == "authorization_pending":
            return Waiting(turn.interval_s)
        if refusal.code == "slow_down":
            return Waiting(_slow_down(desk, handle, now))
        _forget(desk, handle)
        raise front.refused(desk, _refusal(refusal.code), coming.source, now) from refusal
    _forget(desk, handle)
    return front.let_in(desk, granted, None, coming)


def _turn(desk: Desk, handle: str, now: datetime) -> Waiting | OidcDevice:
    """Take the turn to ask the provider, or return how long it is until there is one."""
    with desk.database.transaction() as session:
        known = _FORM.fullmatch(handle) is not None
        row = session.get(OidcDevice, _digest(handle)) if known else None
        if row is None or row.expires_at <= now:
            raise _over()
        if now < row.next_at:
            return Waiting(int((row.next_at - now).total_seconds()) + 1)
        row.next_at = now + timedelta(seconds=row.interval_s)
        session.add(row)
        return row


def _slow_down(desk: Desk, handle: str, now: datetime) -> int:
    with desk.database.transaction() as session:
        row = session.get(OidcDevice, _digest(handle))
        if row is None:
            raise _over()
        row.interval_s = min(row.interval_s + _SLOWER_S, _MAX_INTERVAL_S)
        row.next_at = now + timedelta(seconds=row.interval_s)
        session.add(row)
        return row.interval_s


def _forget(desk: Desk, handle: str) -> None:
    with desk.database.transaction() as session:
        row = session.get(OidcDevice, _digest(handle))
        if row is not None:
            session.delete(row)


def _refusal(code: str) -> RequestError | ProviderError:
    if code == "access_denied":
        return DeniedError(
            "sign_in_denied", "the provider of single sign-on let nobody in: begin again"
        )
    if code in ("expired_token", "invalid_grant"):
        return _over()
    return ProviderError(
        "provider_failed",
        f"the provider of single sign-on gives nothing for its code ({code}): ask who runs it",
        {"reason": code},
    )


def _over() -> RequestError:
    return RequestError(
        "sign_in_unknown",
        "expected a sign-in that waits for its code, found none: it was done, or is over: begin"
        " again",
    )


def _cipher(handle: str) -> AESGCM:
    return AESGCM(hashlib.sha256(f"sprat/v1 oidc device\0{handle}".encode()).digest())


def _digest(handle: str) -> str:
    return hashlib.sha256(handle.encode()).hexdigest()
