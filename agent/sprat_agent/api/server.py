"""Listens for applications, in the agent's event loop: on a Unix socket and over TCP.

On loopback TCP is plain; beyond it there is TLS. What requests must show is `guard`'s business.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import stat
import struct
from collections.abc import Generator
from pathlib import Path
from typing import Final

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from sprat_agent.api import asking
from sprat_agent.api.addresses import Address, ListenError, parse
from sprat_agent.api.network import Network

_BACKLOG = 128
_MODE = 0o660
_SHUTDOWN_S = 5  # how long answers may go on after the stop
_CREDENTIALS: Final = struct.Struct("3i")  # unix(7), struct ucred: pid, uid, gid


class LocalApi:
    """The listening server; `start`, then `stop`."""

    def __init__(
        self, app: ASGIApp, listen: str, socket_path: Path, network: Network | None = None
    ) -> None:
        """Prepare to listen.

        Args:
            app: What answers.
            listen: `host:port` on loopback; port 0 takes any free one.
            socket_path: Of the Unix socket, readable and writable for owner and group.
            network: Where to listen beyond loopback, if anywhere.
        """
        self._app = app
        self._listen = listen
        self._socket_path = socket_path
        self.network_port = 0  # beyond loopback, once it listens there
        self._network = network
        self._servers: list[_Server] = []
        self._serving: list[asyncio.Task[None]] = []

    async def start(self) -> str:
        """Listen; return the URL on loopback.

        Raises:
            ListenError: An address is taken, not on loopback, or not understood.
        """
        network = self._network
        with contextlib.ExitStack() as on_failure:
            tcp = on_failure.enter_context(listen_on_loopback(self._listen))
            unix = on_failure.enter_context(listen_on_path(self._socket_path))
            far = on_failure.enter_context(listen_on(network.address)) if network else None
            on_failure.pop_all()
        self._serve([tcp, unix])
        if network and far:
            self._serve([far], network.tls)
            self.network_port = far.getsockname()[1]
        return "http://{}:{}".format(*_host_and_port(tcp))

    async def stop(self) -> None:
        """Stop listening; answers in progress have a few seconds."""
        for server in self._servers:
            server.leave()
        await asyncio.gather(*self._serving)
        if self._serving:
            self._socket_path.unlink(missing_ok=True)

    def _serve(self, sockets: list[socket.socket], tls: ssl.SSLContext | None = None) -> None:
        server = _Server(_config(self._app, tls))
        self._servers.append(server)
        serving = server.serve(sockets)
        self._serving.append(asyncio.create_task(serving, name="local API"))


def _config(app: ASGIApp, tls: ssl.SSLContext | None) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        loop="asyncio",
        http=_Protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=_SHUTDOWN_S,
        ssl_context_factory=(lambda _config, _default: tls) if tls else None,
    )


class _Protocol(H11Protocol):
    """One connection, which tells its requests who is at the other end of a Unix socket."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] - uvicorn narrows it too
        """Take a connection."""
        super().connection_made(transport)
        connection = transport.get_extra_info("socket")
        if connection is not None and connection.family == socket.AF_UNIX:
            found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
            _pid, uid, _gid = _CREDENTIALS.unpack(found)
            self.app_state = {**self.app_state, **asking.state_of(uid)}


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
    address = parse(listen)
    if not address.is_loopback:
        raise ListenError(
            f"expected a loopback address for --listen, found {address}: where others than this"
            " device reach it, the local API listens by --network, with TLS and API keys"
        )
    return listen_on(address)


def listen_on(address: Address) -> socket.socket:
    """Return a listening socket.

    Raises:
        ListenError: The address is taken or not this device's.
    """
    family = socket.AF_INET6 if address.is_ipv6 else socket.AF_INET
    # asyncio switches off Nagle's algorithm for what says that it is TCP, and for nothing else:
    # with it an answer of two writes waits 40 ms for the client to acknowledge the first.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address.host, address.port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise ListenError(f"cannot listen on {address}: {error.strerror}") from error
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


def _host_and_port(listener: socket.socket) -> tuple[str, int]:
    name = listener.getsockname()
    host = f"[{name[0]}]" if listener.family == socket.AF_INET6 else name[0]
    return str(host), int(name[1])
