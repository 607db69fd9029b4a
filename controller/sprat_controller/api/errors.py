"""One shape for every error, whoever raises it: `{"error": {"code", "message", "details"}}`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sprat_proto.audit_events import Tag
from starlette.exceptions import HTTPException

from sprat_controller.api import text
from sprat_controller.api.parts import parts_of
from sprat_controller.api.schema import ErrorAnswer
from sprat_controller.errors import DeniedError, SpratError

_CODES: Final[Mapping[int, str]] = {
    400: "invalid_request",
    404: "route_not_found",
    405: "method_not_allowed",
    413: "body_too_large",
    416: "range_not_satisfiable",
}
_UNKNOWN: Final = ("not_authenticated", "login_failed")
_LONGEST_FOUND: Final = 100
_DESCRIPTIONS: Final[Mapping[int, str]] = {
    400: "The request makes no sense",
    401: "No valid token",
    403: "The token does not allow it",
    404: "No such thing",
    409: "The thing is in a state that does not allow it",
    410: "It was there, and was erased on purpose",
    413: "The body is too large",
    416: "The blob does not have these bytes",
    422: "A field, or what was published, is not as it must be",
    429: "Asked too often: wait",
    502: "The provider of single sign-on answered what makes no sense",
    503: "Something that is needed is away: try again",
    507: "The disk is full",
}


class CutOffError(Exception):
    """An answer that had begun must not go on: its connection is cut, and that is no bug."""


def error_answers(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the documentation of the errors that a route may answer."""
    return {
        status: {"model": ErrorAnswer, "description": _DESCRIPTIONS[status]} for status in statuses
    }


def error_response(
    status: int,
    code: str,
    message: str,
    details: Mapping[str, object] | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """Return an error in its one shape."""
    error = {"code": code, "message": message, "details": dict(details or {})}
    return JSONResponse({"error": error}, status_code=status, headers=dict(headers or {}))


def add_error_handlers(app: FastAPI) -> None:
    """Answer every kind of error in the one shape."""
    app.add_exception_handler(SpratError, _on_sprat_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(Exception, _on_bug)


def status_of(error: SpratError) -> int:
    """Return the HTTP status of an error."""
    if isinstance(error, DeniedError) and error.code in _UNKNOWN:
        return HTTPStatus.UNAUTHORIZED
    return error.status


def _on_sprat_error(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, SpratError):
        raise TypeError("expected a SpratError") from error
    if isinstance(error, DeniedError):
        _write_down(request, error)
    status = status_of(error)
    headers = {"www-authenticate": "Bearer"} if status == HTTPStatus.UNAUTHORIZED else {}
    return error_response(status, error.code, error.message, error.details, headers)


def _write_down(request: Request, refusal: DeniedError) -> None:
    """Keep who was refused something further in, after they were let in, as `auth` does before."""
    actor = getattr(request.state, "actor", None)
    if actor is None or getattr(request.state, "written_down", None) is refusal:
        return
    parts = parts_of(request)
    parts.denials.record(
        Tag.AUTH_DENIED,
        at=parts.clock(),
        actor=actor,
        subject=f"route{request.url.path[:256]}",
        detail={"code": refusal.code, "method": request.method, **refusal.details},
    )


def _on_invalid(_request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, RequestValidationError):
        raise TypeError("expected a RequestValidationError") from error
    faults = [_fault(fault) for fault in error.errors()]
    more = f" ({len(faults) - 1} more in details)" if len(faults) > 1 else ""
    return error_response(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "invalid_request",
        f"{faults[0]['field']}: {faults[0]['message']}{more}",
        {"faults": faults},
    )


def _on_http_error(request: Request, error: Exception) -> JSONResponse:
    """Answer what Starlette and FastAPI raise themselves."""
    if not isinstance(error, HTTPException):
        raise TypeError("expected an HTTPException") from error
    status = error.status_code
    messages = {
        404: f"there is nothing at {request.url.path}: see /docs",
        405: f"{request.method} cannot be done with {request.url.path}: see /docs",
        400: "expected a body that can be read, found another",
    }
    code = _CODES.get(status, "http_error")
    return error_response(status, code, messages.get(status, error.detail), headers=error.headers)


def _on_bug(request: Request, _error: Exception) -> JSONResponse:
    """Answer what nobody expected; `middleware` logs it under the same id."""
    return error_response(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "internal_error",
        "the controller failed at this request: its log has the reason under this request's id,"
        f" {request.state.request_id}",
    )


def _fault(fault: Mapping[str, Any]) -> dict[str, str]:
    """Return the field, and one sentence with what was expected and what was found."""
    location: Sequence[object] = fault["loc"]
    field = _printable(".".join(str(part) for part in location[1:]) or str(location[0]))
    if fault["type"] == "json_invalid":
        return {"field": "body", "message": f"expected JSON, {fault['ctx']['error']}"}
    if fault["type"] == "missing":
        return {"field": field, "message": "expected a value, found none"}
    if fault["type"] == "extra_forbidden":
        return {"field": field, "message": "expected only the fields of /docs, found this one"}
    if str(fault["msg"]).endswith(text.EXPECTED):
        # What was found is a whole body, which may hold a password.
        return {"field": field, "message": f"{text.EXPECTED}, found one"}
    expected = str(fault["msg"]).removeprefix("Value error, ")
    expected = expected[:1].lower() + expected[1:]
    return {"field": field, "message": f"{expected}, found {_shown(fault.get('input'))}"}


def _printable(name: str) -> str:
    """Return a field's name as it can be sent: the caller's, so it may hold half characters."""
    return name[:_LONGEST_FOUND].encode("ascii", "backslashreplace").decode()


def _shown(value: object) -> str:
    try:
        said = json.dumps(value, ensure_ascii=True)
    except (TypeError, ValueError):
        said = repr(value)
    return said if len(said) <= _LONGEST_FOUND else f"{said[:_LONGEST_FOUND]}..."
