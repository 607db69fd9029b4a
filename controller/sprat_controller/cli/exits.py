"""How `sprat` ends: its exit statuses, and the one error that carries them.

2 says that a plan would change something, as Terraform means it.
"""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """The exit statuses."""

    DONE = 0
    ERROR = 1
    CHANGES = 2  # no failure: `sprat plan` found something to change
    ROLLOUT_FAILED = 3  # a rollout ended, and not everything succeeded
    DENIED = 4  # not authenticated, or not allowed
    CONFLICT = 5
    REFUSED = 6  # by verification: signature, digest, model file, audit chain
    USAGE = 64
    # Of `sprat audit verify EXPORT`, whose statuses auditors' scripts know.
    AUDIT_TAMPERED = 1
    AUDIT_INCOMPLETE = 2
    AUDIT_UNKNOWN_KEY = 3
    TIMEOUT = 124  # still going on


class CliError(Exception):
    """One sentence for standard error, and the exit status.

    `check` is the name of the controller's check that refused something, if one did.
    """

    def __init__(
        self, message: str, status: Exit = Exit.ERROR, *, check: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.check = check


class NotFoundError(CliError):
    """The controller knows no such thing."""


class UnreachableError(CliError):
    """The controller cannot be reached right now; later it may."""
