"""Errors as Ollama's clients read them."""

from __future__ import annotations

from sprat_agent.api.dialect import Json
from sprat_agent.api.faults import ApiError


def shape(error: ApiError) -> Json:
    """Return the body of an error; `code` is ours, for programs."""
    return {"error": error.message, "code": error.code}
