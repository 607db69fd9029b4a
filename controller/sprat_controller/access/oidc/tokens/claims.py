"""What all tokens of a provider say: by whom, for whom, and until when. Pure."""

from __future__ import annotations

import math
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any, Final, cast

from sprat_controller.access.oidc.tokens.refusals import Reason, TokenRefusedError
from sprat_controller.access.oidc.tokens.signed import Claims, shown

# How far the provider's clock and ours may be apart.
LEEWAY: Final = timedelta(seconds=30)
MAX_SUB: Final = 255  # OpenID Connect Core 1.0 §2
_MISSING: Final = object()


def check_present(claims: Claims, names: Collection[str]) -> None:
    """Refuse a token that leaves something out.

    Raises:
        TokenRefusedError: `MISSING`.
    """
    for name in names:
        if claims.get(name, _MISSING) in (_MISSING, None):
            raise TokenRefusedError(
                Reason.MISSING, f"expected a token with the claim {name!r}, found none"
            )


def check_issuer(claims: Claims, issuer: str) -> None:
    """Refuse a token of somebody else.

    Raises:
        TokenRefusedError: `ISSUER`.
    """
    if claims["iss"] != issuer or not isinstance(claims["iss"], str):
        raise TokenRefusedError(
            Reason.ISSUER, f"expected a token of {issuer}, found one of {shown(claims['iss'])}"
        )


def check_audience(claims: Claims, client_id: str) -> None:
    """Refuse a token that is for others, or for others as well: we trust no other audience.

    Raises:
        TokenRefusedError: `AUDIENCE` or `PARTY`.
    """
    found: Any = claims["aud"]
    audience = cast("list[Any]", found) if isinstance(found, list) else [found]
    # Compared one by one: what is in there need not be hashable.
    if not audience or any(not isinstance(one, str) or one != client_id for one in audience):
        raise TokenRefusedError(
            Reason.AUDIENCE,
            f"expected a token for {client_id} alone, found one for {shown(claims['aud'])}",
        )
    if "azp" in claims and claims["azp"] != client_id:
        raise TokenRefusedError(
            Reason.PARTY,
            f"expected a token that was issued to {client_id}, found one to {shown(claims['azp'])}",
        )


def check_moments(claims: Claims, now: datetime) -> None:
    """Refuse a token that is over, or from the future; `exp` and `iat` must be there.

    Raises:
        TokenRefusedError: `EXPIRED`, `FUTURE` or `CLAIM`.
    """
    at, leeway = now.timestamp(), LEEWAY.total_seconds()
    ends, issued = moment(claims, "exp"), moment(claims, "iat")
    if ends <= at - leeway:
        raise TokenRefusedError(
            Reason.EXPIRED, "expected a token that is good, found one that ended"
        )
    begins = moment(claims, "nbf") if "nbf" in claims else issued
    if max(issued, begins) > at + leeway:
        raise TokenRefusedError(
            Reason.FUTURE,
            "expected a token of now, found one from the future: are the clocks of the provider and"
            " of the controller right?",
        )


def moment(claims: Claims, name: str) -> float:
    """Return a claim that is a moment, in seconds since 1970.

    Raises:
        TokenRefusedError: `CLAIM`: it is no finite number.
    """
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong(name, "a number of seconds", value)
    try:
        seconds = float(value)
    except OverflowError as error:
        raise _wrong(name, "a number of seconds", value) from error
    if not math.isfinite(seconds) or seconds < 0:
        raise _wrong(name, "a number of seconds", value)
    return seconds


def text(claims: Claims, name: str, longest: int = MAX_SUB) -> str:
    """Return a claim that is a text.

    Raises:
        TokenRefusedError: `CLAIM`: it is none, or empty, too long, or not of printable ASCII.
    """
    value = claims[name]
    is_text = isinstance(value, str) and 0 < len(value) <= longest
    if not is_text or not value.isascii() or not value.isprintable():
        raise _wrong(name, f"1 to {longest} characters of ASCII", value)
    return value


def _wrong(name: str, expected: str, found: object) -> TokenRefusedError:
    return TokenRefusedError(
        Reason.CLAIM, f"expected the claim {name!r} to be {expected}, found {shown(found)}"
    )
