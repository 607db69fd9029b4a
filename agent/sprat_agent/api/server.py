"""Listens for applications: on a Unix socket and on loopback, in the agent's event loop."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import socket
import stat
from collections.abc import Generator
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

_BACKLOG = 128
_MODE = 0o660
_SHUTDOWN_S = 5  # how long answers may go on after the stop


class ListenError(ValueError):
    """An address cannot be listened on: one sentence."""


class LocalApi:
    """The listening server; `start`, then `stop`."""

    def __init__(self, app: ASGIApp, listen: str, socket_path: Path) -> None:
        """Prepare to listen.

        Args:
            app: What answers.
            listen: `host:port` on loopback; port 0 takes any free one.
            socket_path: Of the Unix socket, readable and writable for owner and group.
        """
        self._app = app
        self._listen = listen
        self._socket_path = socket_path
        self._server: _Server | None = None
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> str:
        """Listen; return the URL on loopback.

        Raises:
            ListenError: An address is taken, not on loopback, or not understood.
        """
        with contextlib.ExitStack() as on_failure:
            tcp = on_failure.enter_context(listen_on_loopback(self._listen))
            unix = on_failure.enter_context(listen_on_path(self._socket_path))
            on_failure.pop_all()
        url = "http://{}:{}".format(*_host_and_port(tcp))
        config = uvicorn.Config(
            self._app,
            loop="asyncio",
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=_SHUTDOWN_S,
        )
        self._server = _Server(config)
        self._serving = asyncio.create_task(self._server.serve([tcp, unix]), name="local API")
        return url

    async def stop(self) -> None:
        """Stop listening; answers in progress have a few seconds."""
        if self._server and self._serving:
            self._server.leave()
            await self._serving
            self._socket_path.unlink(missing_ok=True)


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers (the agent has its own) and without its tick.

    The tick, ten times a second, only renews the date header, which we do not send.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._leaving = asyncio.Event()

    def leave(self) -> None:
        """Make `serve` return."""
        self._leaving.set()

    async def main_loop(self) -> None:
        """Wait until we leave."""
        await self.on_tick(0)
        await self._leaving.wait()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave signals alone."""
        yield


def listen_on_loopback(listen: str) -> socket.socket:
    """Return a listening socket on loopback.

    Raises:
        ListenError: Not `host:port`, not loopback, or taken.
    """
    host, port = _parse(listen)
    address = ipaddress.ip_address(host)
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET  # noqa: PLR2004 - IPv6
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise ListenError(f"cannot listen on {listen}: {error.strerror}") from error
    return listener


def listen_on_path(path: Path) -> socket.socket:
    """Return a listening Unix socket; one that a dead agent left behind is replaced.

    Raises:
        ListenError: Someone listens there, something else is there, or the path is too long.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _clear(path)
        listener.bind(str(path))
        os.chmod(path, _MODE)  # noqa: PTH101 - before `listen`: nobody connects with another mode
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise ListenError(f"cannot listen on {path}: {error.strerror or error}") from error
    except ListenError:
        listener.close()
        raise
    return listener


def _clear(path: Path) -> None:
    """Remove a socket that nobody listens on."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ListenError(f"cannot listen on {path}: something other than a socket is there")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as visitor:
        if visitor.connect_ex(str(path)) == 0:
            raise ListenError(f"cannot listen on {path}: another agent listens there")
    path.unlink()


def _parse(listen: str) -> tuple[str, int]:
    host, colon, port = listen.rpartition(":")
    host = "127.0.0.1" if host == "localhost" else host.strip("[]")
    try:
        address, number = ipaddress.ip_address(host), int(port)
    except ValueError as error:
        message = f"expected an address such as 127.0.0.1:7772, found {listen!r}"
        raise ListenError(message) from error
    if not colon or not 0 <= number < 1 << 16:
        raise ListenError(f"expected a port from 0 to 65535 in {listen!r}, found {port!r}")
    if not address.is_loopback:
        raise ListenError(
            f"expected a loopback address, found {host}: the local API has no authentication and"
            " is for applications on this device only"
        )
    return host, number


def _host_and_port(listener: socket.socket) -> tuple[str, int]:
    name = listener.getsockname()
    host = f"[{name[0]}]" if listener.family == socket.AF_INET6 else name[0]
    return str(host), int(name[1])
