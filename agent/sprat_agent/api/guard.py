"""Who may talk to the local API over TCP: programs of this device, or with a key; not web pages.

A page in a browser can reach loopback. It gives itself away by `Origin`, and by a foreign `Host`
when its name was pointed at this device (DNS rebinding). The Unix socket has file permissions.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sprat_agent.api import asking
from sprat_agent.api.asking import Asking, is_unix
from sprat_agent.api.faults import ApiError
from sprat_agent.api.network import Network, headers_of
from sprat_agent.audit.access import Access

LOCAL_NAMES: Final = ("localhost", "127.0.0.1", "[::1]")


class Guard:
    """ASGI middleware: requests over TCP must name this device, in `Host` and in `Origin`.

    Those that come by TLS, which is from beyond loopback, must also show a key.
    """

    def __init__(
        self,
        app: ASGIApp,
        respond: Callable[[str, ApiError], Response],
        network: Network | None,
        on_access: Callable[[Access], None],
    ) -> None:
        """Guard `app`.

        Args:
            app: What answers.
            respond: Makes the response of a refusal, by path.
            network: What is asked of requests from beyond loopback.
            on_access: Told of each request, once: when its response begins, or when it ended
                without one.
        """
        self._app = app
        self._respond = respond
        self._network = network
        self._on_access = on_access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 401 or 403."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        who = asking.asking_of(scope, self._network)
        asking.begin(who)
        fault = refusal(scope, self._network)
        door = _Door(who, fault.code if fault else "", send, self._on_access)
        app = self._respond(scope["path"], fault) if fault else self._app
        try:
            await app(scope, receive, door.send)
        finally:
            door.close()


class _Door:
    """Sends one response, and tells once how it was."""

    def __init__(
        self, who: Asking, refused: str, send: Send, on_access: Callable[[Access], None]
    ) -> None:
        self._who = who
        self._refused = refused
        self._send = send
        self._on_access = on_access
        self._is_told = False

    async def send(self, message: Message) -> None:
        """Pass a message on."""
        if message["type"] == "http.response.start":
            self._tell(f"{message['status'] // 100}xx")
        await self._send(message)

    def close(self) -> None:
        """Take note that nothing more comes."""
        self._tell("none")

    def _tell(self, status: str) -> None:
        if not self._is_told:
            self._is_told = True
            self._on_access(Access(self._who.caller, self._who.routes, status, self._refused))


def refusal(scope: Scope, network: Network | None) -> ApiError | None:
    """Return why a request may not come in, or None."""
    if is_unix(scope):
        return None
    headers = headers_of(scope)
    if scope["scheme"] != "https":
        return _foreign(headers, LOCAL_NAMES)
    if network is None:
        raise RuntimeError("a request came by TLS, and nothing says what is asked of it")
    return _foreign(headers, network.names) or network.refusal(scope["path"], headers)


def _foreign(headers: dict[str, str], names: Collection[str]) -> ApiError | None:
    """Return the refusal of a request that names another device than this one."""
    host, origin = headers.get("host", ""), headers.get("origin")
    if _name(host) not in names:
        return _forbidden("Host", host, names)
    if origin is not None and _name(origin.partition("://")[2]) not in names:
        return _forbidden("Origin", origin, names)
    return None


def _forbidden(header: str, found: str, names: Collection[str]) -> ApiError:
    expected = " or ".join(names)
    message = f"expected {expected} in the header {header}, found {found[:100]!r}"
    return ApiError(403, f"{header.lower()}_not_allowed", message)


def _name(netloc: str) -> str:
    """Return the host of `host:port`, in lower case."""
    host = netloc.lower()
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]
