"""Who asks the local API, and in which dialect.

Whoever answers finds it in the context of the request (PEP 567), which each task has that works for
it: between the guard, which knows, and the models, which tell audit, nobody else needs it.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

from starlette.types import Scope

from sprat_agent.api.network import Network, headers_of, shown_key

LOOPBACK: Final = "loopback"
STRANGER: Final = "stranger"  # from beyond loopback, with no key or another one
_PEER_UID: Final = "peer_uid"

# Families of routes below a path: the first that fits.
_FAMILIES: Final = (
    ("/v1/messages", "anthropic"),
    ("/v1/", "openai"),
    ("/api/", "ollama"),
    ("/agent/", "agent"),
    ("/metrics", "metrics"),
    ("/livez", "health"),
    ("/readyz", "health"),
)
_ROOT: Final = "ollama"  # only its command line asks for it
_OTHER: Final = "other"


@dataclass(frozen=True)
class Asking:
    """Who asks, and how.

    Attributes:
        caller: `uid:1000` (at the Unix socket), `key:NAME` (with an API key), or `loopback`.
        routes: The family of routes; of those that answer, it is the dialect.
    """

    caller: str
    routes: str


NOBODY: Final = Asking("", "")
_now: ContextVar[Asking] = ContextVar("asking", default=NOBODY)


def begin(asking: Asking) -> None:
    """Have it known to all that this task does from here on."""
    _now.set(asking)


def now() -> Asking:
    """Return who asks for what this task does."""
    return _now.get()


def asking_of(scope: Scope, network: Network | None) -> Asking:
    """Return who sent a request, by how it came in."""
    return Asking(_caller_of(scope, network), routes_of(scope["path"]))


def routes_of(path: str) -> str:
    """Return the family of routes that a path belongs to."""
    if path == "/":
        return _ROOT
    return next((name for below, name in _FAMILIES if path.startswith(below)), _OTHER)


def is_unix(scope: Scope) -> bool:
    """Tell whether the request came by the Unix socket, which has a path and no port."""
    server = scope.get("server")
    return server is not None and server[1] is None


def state_of(uid: int) -> dict[str, int]:
    """Return what a connection of the Unix socket tells in the scope of its requests."""
    return {_PEER_UID: uid}


def _caller_of(scope: Scope, network: Network | None) -> str:
    if is_unix(scope):
        uid = scope.get("state", {}).get(_PEER_UID)
        return "socket" if uid is None else f"uid:{uid}"
    if network is None or scope["scheme"] != "https":
        return LOOPBACK
    name = network.keys.name_of(shown_key(headers_of(scope)))
    return STRANGER if name is None else f"key:{name}"
