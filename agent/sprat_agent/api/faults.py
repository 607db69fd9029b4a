"""Errors of the local API; each dialect has its own shape for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sprat_agent.runtime.faults import AnswerError

INVALID: Final = "invalid_request_error"
# Codes of `AnswerError` that are not the server's fault: HTTP status, OpenAI error type.
_KINDS: Final[Mapping[str, tuple[int, str]]] = {
    "model_not_found": (404, INVALID),
    "context_length_exceeded": (400, INVALID),
    "messages_refused": (400, INVALID),
    "not_supported": (400, INVALID),
    "queue_full": (429, "rate_limit_error"),
    "model_loading": (503, "server_error"),
    "model_unloaded": (503, "server_error"),
    "insufficient_memory": (503, "server_error"),
}
_SERVER_FAULT: Final = (500, "server_error")


class ApiError(Exception):
    """What is answered instead: one sentence, and what programs go by."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        kind: str = INVALID,
        param: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.kind = kind
        self.param = param
        self.retry_after_s = retry_after_s


def invalid(message: str, *, param: str | None = None, code: str = "invalid_request") -> ApiError:
    """Return the error for a request that cannot be understood or is not supported."""
    return ApiError(400, code, message, param=param)


def unsupported(param: str, asked: str) -> ApiError:
    """Return the error for asking for something (`asked`, for people) that is not supported."""
    message = f"{asked} is not supported by this device: leave {param!r} out"
    return invalid(message, param=param, code="unsupported_parameter")


def from_answer(error: AnswerError) -> ApiError:
    """Return the API's error for a request that was not answered."""
    status, kind = _KINDS.get(error.code, _SERVER_FAULT)
    param = "model" if error.code == "model_not_found" else None
    return ApiError(
        status,
        error.code,
        error.message,
        kind=kind,
        param=param,
        retry_after_s=error.retry_after_s,
    )
