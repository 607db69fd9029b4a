"""What can go wrong, by who can act.

    SpratError
    ├── RequestError        the caller asked for something that cannot be done (4xx)
    │   ├── NotFoundError       no such thing, or not yours to see
    │   ├── GoneError           it was there, and was erased on purpose
    │   ├── ConflictError       the thing is in a state that does not allow it
    │   ├── DeniedError         not authenticated, or not allowed
    │   ├── RefusedError        a named check refused what was published
    │   └── TooManyRequestsError  asked too often: wait
    ├── UnavailableError    something that is needed is away now: try again
    ├── ProviderError       who people sign in at answered what makes no sense
    └── StartupError        the controller cannot start: one sentence for the person at the console

Bugs are RuntimeError and AssertionError. Each error carries a stable `code` for programs and one
sentence for people: what was expected, what was found, which thing, what to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar


class SpratError(Exception):
    """Base of all errors that are not bugs."""

    status: ClassVar[int] = 500

    def __init__(
        self, code: str, message: str, details: Mapping[str, object] | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = dict(details or {})


class RequestError(SpratError):
    """The caller asked for something that cannot be done."""

    status = 400


class NotFoundError(RequestError):
    """No such thing, or not yours to see: the two look the same."""

    status = 404


class GoneError(RequestError):
    """It was there, and was erased on purpose: it never comes again."""

    status = 410


class ConflictError(RequestError):
    """The thing is in a state that does not allow it."""

    status = 409


class DeniedError(RequestError):
    """Not allowed; `not_authenticated` and `login_failed` are answered with 401, else with 403."""

    status = 403


class RefusedError(RequestError):
    """A named check refused what was published."""

    status = 422


class TooManyRequestsError(RequestError):
    """Asked too often; `retry_after_s` in the details says how long to wait."""

    status = 429


class UnavailableError(SpratError):
    """Something that is needed, such as the signer, is away now: try again."""

    status = 503


class ProviderError(SpratError):
    """Who people sign in at answered what makes no sense: for whoever runs one of the two."""

    status = 502


class StartupError(SpratError):
    """The controller cannot start."""
