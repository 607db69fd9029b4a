"""Whether somebody waits for an answer: the header `x-sprat-priority`. Pure."""

from __future__ import annotations

from typing import Final

from starlette.datastructures import Headers

from sprat_agent.api.faults import invalid

HEADER: Final = "x-sprat-priority"


def is_batch(headers: Headers) -> bool:
    """Tell whether the request may wait for those that somebody waits for.

    Raises:
        ApiError: The header says neither `interactive` nor `batch`.
    """
    found = headers.get(HEADER, "interactive")
    if found not in {"interactive", "batch"}:
        message = f"expected `interactive` or `batch` in the header {HEADER}, found {found[:40]!r}"
        raise invalid(message, param=HEADER)
    return found == "batch"
