"""Errors as OpenAI's clients read them."""

from __future__ import annotations

from sprat_agent.api.dialect import Json
from sprat_agent.api.faults import ApiError


def shape(error: ApiError) -> Json:
    """Return the body of an error."""
    told = {"message": error.message, "type": error.kind, "param": error.param, "code": error.code}
    return {"error": told}
