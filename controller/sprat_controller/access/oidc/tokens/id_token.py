"""Whether an ID token says who signed in, to us, in answer to what we asked. Pure.

The rules are those of OpenID Connect Core 1.0 §3.1.3.7, and where it leaves a choice the stricter.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sprat_controller.access.oidc.tokens import claims as check
from sprat_controller.access.oidc.tokens import signed
from sprat_controller.access.oidc.tokens.keys import Keys
from sprat_controller.access.oidc.tokens.refusals import Reason, TokenRefusedError
from sprat_controller.access.oidc.tokens.signed import Claims, Signed

TYPES: Final = ("jwt",)
# It is asked for now and comes at once: one that is older answers another question.
MAX_AGE: Final = timedelta(minutes=10)
_REQUIRED: Final = ("iss", "sub", "aud", "exp", "iat")
_SHA512: Final = frozenset({"Ed25519"})  # hashes inside with it (RFC 8032)


@dataclass(frozen=True)
class Expected:
    """What an ID token must say.

    Attributes:
        issuer: Who may have made it.
        client_id: Whom it must be for.
        algorithms: Which it may be signed with; all of them asymmetric.
        nonce: What was sent with the question; None: nothing, and it must say nothing.
        max_auth_age: How long ago they may have shown who they are; None: it does not matter.
        access_token: What came with it; None: nothing.
    """

    issuer: str
    client_id: str
    algorithms: Collection[str]
    nonce: str | None
    max_auth_age: timedelta | None = None
    access_token: str | None = None


@dataclass(frozen=True)
class SignedIn:
    """Who signed in.

    Attributes:
        issuer: Who says so.
        sub: Whom: never given anew by this issuer.
        sid: The provider's session, which its logouts name; None: it names none.
        claims: All that the token says.
    """

    issuer: str
    sub: str
    sid: str | None
    claims: Claims


def judge(text: str, keys: Keys, expected: Expected, now: datetime) -> SignedIn:
    """Return who signed in.

    Raises:
        TokenRefusedError: The token is not believed, and why.
    """
    token = signed.read(text, keys, expected.algorithms, TYPES)
    claims = token.claims
    check.check_present(claims, _REQUIRED)
    check.check_issuer(claims, expected.issuer)
    check.check_audience(claims, expected.client_id)
    check.check_moments(claims, now)
    if check.moment(claims, "iat") < (now - MAX_AGE - check.LEEWAY).timestamp():
        raise TokenRefusedError(
            Reason.STALE, "expected a token that was made now, found one that was made long ago"
        )
    _check_nonce(claims, expected.nonce)
    _check_auth_time(claims, expected.max_auth_age, now)
    _check_access_token(token, expected.access_token)
    return SignedIn(
        issuer=expected.issuer,
        sub=check.text(claims, "sub"),
        sid=check.text(claims, "sid") if claims.get("sid") is not None else None,
        claims=claims,
    )


def _check_nonce(claims: Claims, nonce: str | None) -> None:
    found = claims.get("nonce")
    if nonce is None:
        is_right = found is None
    else:
        is_right = isinstance(found, str) and hmac.compare_digest(found.encode(), nonce.encode())
    if not is_right:
        raise TokenRefusedError(
            Reason.NONCE, "expected the token that answers this sign-in, found that of another"
        )


def _check_auth_time(claims: Claims, longest: timedelta | None, now: datetime) -> None:
    if longest is not None:
        check.check_present(claims, ("auth_time",))
    if claims.get("auth_time") is None:
        return
    signed_in, at = check.moment(claims, "auth_time"), now.timestamp()
    if signed_in > at + check.LEEWAY.total_seconds():
        raise TokenRefusedError(
            Reason.AUTH_TIME, "expected a sign-in of the past, found one of the future"
        )
    if longest is not None and signed_in < at - (longest + check.LEEWAY).total_seconds():
        raise TokenRefusedError(
            Reason.AUTH_TIME,
            f"expected a sign-in of the last {longest}, found an earlier one: sign out at the"
            " provider and try again",
        )


def _check_access_token(token: Signed, access_token: str | None) -> None:
    """Compare the hash of what came with it, if the token has one (§3.1.3.6)."""
    found = token.claims.get("at_hash")
    if found is None or access_token is None:
        return
    name = "sha512" if token.algorithm in _SHA512 else f"sha{token.algorithm[-3:]}"
    digest = hashlib.new(name, access_token.encode()).digest()
    half = base64.urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=")
    if not isinstance(found, str) or not hmac.compare_digest(found.encode(), half):
        raise TokenRefusedError(
            Reason.ACCESS_TOKEN, "expected the access token that the ID token is of, found another"
        )
