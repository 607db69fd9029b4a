"""What a provider says of itself (OpenID Connect Discovery 1.0), as far as it is used. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, cast
from urllib.parse import urlsplit

PATH: Final = "/.well-known/openid-configuration"
_MAX_LENGTH: Final = 2048


@dataclass(frozen=True)
class Endpoints:
    """Where a provider is asked what.

    Attributes:
        authorization: Where browsers sign in.
        token: Where codes are redeemed.
        jwks: Where its keys are.
        device: Where a sign-in without a browser begins; None: it has none.
        userinfo: Where more is told about who signed in; None: it has none.
        says_issuer: Its answers to browsers name it (RFC 9207), so one that does not is refused.
    """

    authorization: str
    token: str
    jwks: str
    device: str | None
    userinfo: str | None
    says_issuer: bool


def address(issuer: str) -> str:
    """Return where a provider's document is."""
    return issuer.rstrip("/") + PATH


def read(document: object, issuer: str) -> Endpoints:
    """Return what a provider's document says.

    Raises:
        ValueError: It is that of another, or not as it must be; the sentence says what was found.
    """
    if not isinstance(document, dict):
        raise ValueError("expected one JSON object, found another value")  # noqa: TRY004 - what it holds is wrong
    said = cast("Mapping[str, Any]", document)
    if said.get("issuer") != issuer:
        raise ValueError(
            f"expected the document of {issuer}, found that of {ascii(said.get('issuer'))[:100]}:"
            " is `issuer` written exactly as the provider does?"
        )
    return Endpoints(
        authorization=_endpoint(said, "authorization_endpoint"),
        token=_endpoint(said, "token_endpoint"),
        jwks=_endpoint(said, "jwks_uri"),
        device=_optional(said, "device_authorization_endpoint"),
        userinfo=_optional(said, "userinfo_endpoint"),
        says_issuer=said.get("authorization_response_iss_parameter_supported") is True,
    )


def checked(url: object) -> str:
    """Return an address that secrets may be sent to: of https, or on this machine.

    Raises:
        ValueError: It is none; the sentence says what was found.
    """
    wanted = "expected https://HOST, or http:// on a loopback address"
    shown = ascii(url)[:100]
    if not isinstance(url, str) or not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError(f"{wanted}, found {shown}")
    try:
        parts = urlsplit(url)
        host, has_port = parts.hostname, parts.port != 0
    except ValueError as error:
        raise ValueError(f"{wanted}, found {shown}") from error
    is_safe = parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(host or ""))
    has_more = parts.username is not None or parts.password is not None or "#" in url
    if not host or not has_port or not is_safe or has_more or len(url) > _MAX_LENGTH:
        raise ValueError(f"{wanted}, found {shown}")
    return url


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _endpoint(said: Mapping[str, Any], name: str) -> str:
    try:
        return checked(said.get(name))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _optional(said: Mapping[str, Any], name: str) -> str | None:
    return None if said.get(name) is None else _endpoint(said, name)
