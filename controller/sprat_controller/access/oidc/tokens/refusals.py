"""Why a provider's token is not believed. Pure."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Why, in a word that programs read; it stands in the audit log."""

    MALFORMED = "malformed"
    HEADER = "header"  # one that brings its own rules or keys along, or is of another kind of token
    ALGORITHM = "algorithm"
    UNKNOWN_KEY = "unknown_key"
    SIGNATURE = "signature"
    MISSING = "missing"
    CLAIM = "claim"  # not of the type that it must have
    ISSUER = "issuer"
    AUDIENCE = "audience"
    PARTY = "party"
    EXPIRED = "expired"
    FUTURE = "future"
    STALE = "stale"  # made too long ago to be the answer to what was asked now
    NONCE = "nonce"
    AUTH_TIME = "auth_time"
    ACCESS_TOKEN = "access_token"  # noqa: S105 - a reason, no token
    EVENTS = "events"


class TokenRefusedError(Exception):
    """A token is not believed; the message is what was expected and what was found."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
