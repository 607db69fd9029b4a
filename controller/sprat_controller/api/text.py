"""No text that comes in holds a NUL: no name has one, and PostgreSQL cannot be asked for one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

from fastapi import Request
from fastapi.exceptions import RequestValidationError

_NUL: Final = "\0"
EXPECTED: Final = "expected text without NUL characters"
_OPERATORS: Final = "/api/"  # below it every route says that it may answer 422


async def check_address(request: Request) -> None:
    """Refuse an address with a NUL in its names or its query.

    Raises:
        RequestValidationError: There is one.
    """
    named = [("path", name, value) for name, value in request.path_params.items()]
    if request.url.path.startswith(_OPERATORS):
        named += [("query", name, value) for name, value in request.query_params.multi_items()]
    faults = [
        {"type": "value_error", "loc": (where, name), "msg": EXPECTED, "input": value}
        for where, name, value in named
        if has_nul(name) or has_nul(value)
    ]
    if faults:
        raise RequestValidationError(faults)


def has_nul(value: object) -> bool:
    """Tell whether a text within a value out of JSON has a NUL in it."""
    match value:
        case str():
            return _NUL in value
        case dict():
            fields = cast("Mapping[str, Any]", value)
            return any(has_nul(name) or has_nul(one) for name, one in fields.items())
        case list():
            return any(has_nul(one) for one in cast("list[Any]", value))
        case _:
            return False
