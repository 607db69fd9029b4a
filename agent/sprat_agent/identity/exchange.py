"""One question to the controller's API, answered or refused. Blocking."""

from __future__ import annotations

import ssl
from typing import Final, TypeVar

import httpx
import msgspec

TIMEOUT_S: Final = 10.0
_MAX_ERROR_CHARACTERS: Final = 500
_TOO_MANY_REQUESTS: Final = 429
T = TypeVar("T")


class ExchangeError(Exception):
    """No answer, or none that can be read: ask again later."""


class RefusedError(ExchangeError):
    """The controller answered that it will not.

    Attributes:
        is_final: Asking again will not help unless a person does something.
    """

    def __init__(self, message: str, *, is_final: bool) -> None:
        super().__init__(message)
        self.is_final = is_final


class _ErrorBody(msgspec.Struct, frozen=True):
    message: str
    code: str = ""


class _ErrorReply(msgspec.Struct, frozen=True):
    error: _ErrorBody


def post(url: str, body: object, ca_pem: str, kind: type[T]) -> T:
    """Return the answer to a JSON body.

    Args:
        url: The whole address.
        body: What `msgspec` can write.
        ca_pem: Whom to trust to be the controller.
        kind: What the answer must be.

    Raises:
        ExchangeError: No answer, or another form.
        RefusedError: An answer that is an error.
    """
    try:
        response = httpx.post(
            url,
            content=msgspec.json.encode(body),
            headers={"content-type": "application/json"},
            verify=ssl.create_default_context(cadata=ca_pem),
            timeout=TIMEOUT_S,
            trust_env=False,
        )
    except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError) as error:
        raise ExchangeError(f"the controller at {url} cannot be reached: {error}") from error
    if not response.is_success:
        is_final = response.is_client_error and response.status_code != _TOO_MANY_REQUESTS
        raise RefusedError(_reason(response), is_final=is_final)
    try:
        return msgspec.json.decode(response.content, type=kind)
    except msgspec.DecodeError as error:
        raise ExchangeError(
            f"the controller answered at {url} in another form than expected: {error}"
        ) from error


def _reason(response: httpx.Response) -> str:
    try:
        return msgspec.json.decode(response.content, type=_ErrorReply).error.message
    except msgspec.DecodeError:
        # Not a Sprat error: a proxy in between, perhaps. What it said is the best that is known.
        return f"status {response.status_code}, {response.text[:_MAX_ERROR_CHARACTERS]!r}"
