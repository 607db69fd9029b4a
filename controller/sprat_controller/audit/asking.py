"""The request that a thread or task is answering, for what is written down on the way.

It begins at the API's edge and ends with the answer; who asks is added once it is known. What no
request led to has an empty one.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from sprat_controller.access.scopes import EVERYTHING, Scope


@dataclass
class Asking:
    """A request, and who makes it."""

    id: str = ""
    _actor: str = ""
    _scope: Scope = EVERYTHING
    _identity: dict[str, str] = field(default_factory=dict[str, str])

    def identify(self, actor: str, *, authn: str = "", session: str = "") -> None:
        """Say who asks.

        Args:
            actor: As the audit log has it.
            authn: How it showed who it is.
            session: Id of the session or token that it showed.
        """
        self._actor = actor
        said = {"authn": authn, "session": session}
        self._identity = {name: value for name, value in said.items() if value}

    def limit(self, scope: Scope) -> None:
        """Say to which devices it may do what it asks.

        Of several permissions that it needs, each takes away: what is left is within all of them.
        """
        self._scope = self._scope.narrowed(scope)

    def scope_of(self, actor: str) -> str:
        """Return within what an actor may do what is asked; empty: everywhere, or not the asker."""
        return self._scope.text if actor == self._actor else ""

    def identity_of(self, actor: str) -> dict[str, str]:
        """Return how an actor showed who it is: nothing if it is not the one who asks."""
        return self._identity if actor == self._actor else {}


# The object is shared with the threads that the request's handlers run in: each has a copy of the
# context, so a variable that is set there would be lost.
_current: ContextVar[Asking | None] = ContextVar("sprat_asking", default=None)


def current() -> Asking:
    """Return the request that is being answered."""
    return _current.get() or Asking()


@contextmanager
def begin(request_id: str) -> Generator[Asking]:
    """Have what follows be done for a request."""
    asking = Asking(request_id)
    token = _current.set(asking)
    try:
        yield asking
    finally:
        _current.reset(token)
