"""Who may talk to the local API over TCP: programs of this device, or with a key; not web pages.

A page in a browser can reach loopback. It gives itself away by `Origin`, and by a foreign `Host`
when its name was pointed at this device (DNS rebinding). The Unix socket has file permissions.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from sprat_agent.api.faults import ApiError
from sprat_agent.api.network import Network

LOCAL_NAMES: Final = ("localhost", "127.0.0.1", "[::1]")


class Guard:
    """ASGI middleware: requests over TCP must name this device, in `Host` and in `Origin`.

    Those that come by TLS, which is from beyond loopback, must also show a key.
    """

    def __init__(
        self, app: ASGIApp, respond: Callable[[str, ApiError], Response], network: Network | None
    ) -> None:
        """Guard `app`.

        Args:
            app: What answers.
            respond: Makes the response of a refusal, by path.
            network: What is asked of requests from beyond loopback.
        """
        self._app = app
        self._respond = respond
        self._network = network

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 401 or 403."""
        fault = refusal(scope, self._network) if scope["type"] == "http" else None
        if fault:
            await self._respond(scope["path"], fault)(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def refusal(scope: Scope, network: Network | None) -> ApiError | None:
    """Return why a request may not come in, or None."""
    if _is_unix(scope):
        return None
    pairs: list[tuple[bytes, bytes]] = scope["headers"]
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in pairs}
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


def _is_unix(scope: Scope) -> bool:
    """Tell whether the request came by the Unix socket, which has a path and no port."""
    server = scope.get("server")
    return server is not None and server[1] is None


def _name(netloc: str) -> str:
    """Return the host of `host:port`, in lower case."""
    host = netloc.lower()
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]
