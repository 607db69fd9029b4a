"""Whether a logout token says that somebody signed out at the provider. Pure.

The rules are those of OpenID Connect Back-Channel Logout 1.0 §2.6. That a token comes once only,
`jti`, is remembered by the caller, for as long as the token is good.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, cast

from sprat_controller.access.oidc.tokens import claims as check
from sprat_controller.access.oidc.tokens import signed
from sprat_controller.access.oidc.tokens.keys import Keys
from sprat_controller.access.oidc.tokens.refusals import Reason, TokenRefusedError

TYPES: Final = ("logout+jwt", "jwt")
EVENT: Final = "http://schemas.openid.net/event/backchannel-logout"
# Nobody needs longer to tell, and for so long each is remembered.
MAX_LIFETIME: Final = timedelta(hours=1)
_REQUIRED: Final = ("iss", "aud", "iat", "exp", "jti", "events")


@dataclass(frozen=True)
class SignedOut:
    """Who signed out: of one of the provider's sessions, or of all of them.

    Attributes:
        sub: Who; None: whoever has that session.
        sid: The provider's session; None: all of theirs.
        jti: No two tokens have the same.
        ends_at: From when on the token is worth nothing in any case.
    """

    sub: str | None
    sid: str | None
    jti: str
    ends_at: datetime


def judge(
    text: str,
    keys: Keys,
    *,
    issuer: str,
    client_id: str,
    algorithms: Collection[str],
    now: datetime,
) -> SignedOut:
    """Return who signed out.

    Raises:
        TokenRefusedError: The token is not believed, and why.
    """
    claims = signed.read(text, keys, algorithms, TYPES).claims
    check.check_present(claims, _REQUIRED)
    check.check_issuer(claims, issuer)
    check.check_audience(claims, client_id)
    check.check_moments(claims, now)
    ends = min(check.moment(claims, "exp"), (now + MAX_LIFETIME).timestamp())
    if check.moment(claims, "iat") < (now - MAX_LIFETIME).timestamp():
        raise TokenRefusedError(
            Reason.STALE, "expected a logout of now, found one that was made long ago"
        )
    # Else an ID token could be shown as a logout.
    if "nonce" in claims:
        raise TokenRefusedError(Reason.NONCE, "expected a logout token, found one with a nonce")
    events: Any = claims["events"]
    event = cast("Mapping[str, Any]", events).get(EVENT) if isinstance(events, dict) else None
    if not isinstance(event, dict):
        raise TokenRefusedError(Reason.EVENTS, f"expected a token of {EVENT}, found another event")
    sub, sid = (
        check.text(claims, name) if claims.get(name) is not None else None
        for name in ("sub", "sid")
    )
    if sub is None and sid is None:
        raise TokenRefusedError(
            Reason.MISSING, "expected a logout that says whose (sub) or which (sid), found neither"
        )
    leeway = check.LEEWAY.total_seconds()
    return SignedOut(
        sub=sub,
        sid=sid,
        jti=check.text(claims, "jti"),
        ends_at=datetime.fromtimestamp(ends + leeway, UTC),
    )
