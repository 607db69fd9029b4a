"""The HTTPS server: uvicorn as a part of this process's one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Generator
from pathlib import Path
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from sprat_controller.config import write_private
from sprat_controller.errors import StartupError
from sprat_controller.fleet.ca import KeyPair

# Requests under way at a stop get this long; a large download is resumed elsewhere anyway.
STOP_GRACE_S: Final = 3
BACKLOG: Final = 2048
KEEP_ALIVE_S: Final = 30


def listen(host: str, port: int) -> socket.socket:
    """Return a bound socket; the port is known from here on, and answers once it is served.

    Raises:
        StartupError: The address cannot be bound.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise StartupError(
            "api_port",
            f"cannot listen on {host}:{port} for the API: {error.strerror}; choose another"
            " --api-port or --listen",
        ) from error
    return bound


class HttpsServer:
    """Serves an application on a bound socket."""

    def __init__(self, app: ASGIApp, certificate: KeyPair, folder: Path) -> None:
        """Prepare; uvicorn reads certificate and key from files, which are kept in `folder`."""
        folder.mkdir(mode=0o700, exist_ok=True)
        certificate_file, key_file = folder / "api.pem", folder / "api.key"
        write_private(certificate_file, certificate.certificate_pem)
        write_private(key_file, certificate.key_pem)
        self._server = _Server(
            uvicorn.Config(
                app,
                ssl_certfile=certificate_file,
                ssl_keyfile=str(key_file),
                http="h11",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                backlog=BACKLOG,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=STOP_GRACE_S,
            )
        )

    async def serve(self, bound: socket.socket) -> None:
        """Serve until `stop`."""
        await self._server.serve([bound])

    async def wait_started(self) -> None:
        """Return once requests are answered."""
        await self._server.is_serving.wait()

    def stop(self) -> None:
        """Let `serve` return, after the requests that are under way."""
        self._server.should_exit = True


class _Server(uvicorn.Server):
    """Leaves the signals to the process, and tells when it serves."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_serving = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Capture none."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        await super().startup(sockets)
        self.is_serving.set()
