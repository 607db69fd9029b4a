"""Who may talk to the local API over TCP: programs on this device, not web pages.

A page in a browser can reach loopback. It gives itself away by `Origin`, and by a foreign `Host`
when its name was pointed at 127.0.0.1 (DNS rebinding). The Unix socket has file permissions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from sprat_agent.api.faults import ApiError

LOCAL_NAMES: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})


class LocalOnly:
    """ASGI middleware: requests over TCP must name this device, in `Host` and in `Origin`."""

    def __init__(self, app: ASGIApp, respond: Callable[[str, ApiError], Response]) -> None:
        """Guard `app`; `respond` makes the response of a refusal, by path."""
        self._app = app
        self._respond = respond

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 403."""
        fault = refusal(scope) if scope["type"] == "http" else None
        if fault:
            await self._respond(scope["path"], fault)(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def refusal(scope: Scope) -> ApiError | None:
    """Return why a request may not come in, or None."""
    if _is_unix(scope):
        return None
    pairs: list[tuple[bytes, bytes]] = scope["headers"]
    headers = {name: value.decode("latin-1") for name, value in pairs}
    host, origin = headers.get(b"host", ""), headers.get(b"origin")
    if _name(host) not in LOCAL_NAMES:
        return _forbidden("host_not_allowed", "Host", host)
    if origin is not None and _name(origin.partition("://")[2]) not in LOCAL_NAMES:
        return _forbidden("origin_not_allowed", "Origin", origin)
    return None


def _forbidden(code: str, header: str, found: str) -> ApiError:
    message = (
        f"expected localhost, 127.0.0.1 or [::1] in the header {header}, found {found[:100]!r}"
    )
    return ApiError(403, code, message)


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
