"""Errors as Anthropic's clients read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sprat_agent.api.dialect import Json
from sprat_agent.api.faults import ApiError

_KINDS: Final[Mapping[int, str]] = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}


def shape(error: ApiError) -> Json:
    """Return the body of an error; `code` is ours, for programs."""
    kind = _KINDS.get(error.status, "api_error")
    told = {"type": kind, "message": error.message, "code": error.code}
    return {"type": "error", "error": told}
