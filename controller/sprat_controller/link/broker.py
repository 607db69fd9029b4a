"""A Mosquitto as a child of the controller, configured and watched by it.

Who was revoked is told by SIGHUP while it runs; for other CAs (mosquitto PR 3568) it is started
anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import pwd
import shutil
import signal
import socket
import ssl
from asyncio.subprocess import Process
from pathlib import Path
from typing import Final

from sprat_controller.config import write_private
from sprat_controller.errors import StartupError
from sprat_controller.fleet.ca import KeyPair
from sprat_controller.link import mqtt
from sprat_controller.link.broker_config import (
    NO_ACCESS,
    TAKE_OVER_SOCKET,
    access_list,
    mosquitto_conf,
)

START_TIMEOUT_S: Final = 15.0
STOP_TIMEOUT_S: Final = 5.0
# Keeps a broker that crashes at once from taking a whole core.
RESTART_PAUSE_S: Final = 0.2
_POLL_S: Final = 0.02
# Debian keeps daemons where a user's PATH does not look.
_MORE_PATH: Final = "/usr/sbin:/usr/local/sbin:/opt/homebrew/sbin"
_LOG_FILE: Final = "mosquitto.log"
_LOG_LINES: Final = 4
_ACCESS_FILE: Final = "access.txt"
# Not a device's: it is only connected to see that the broker has done what it was told before.
_NOBODY: Final = "nobody"
_CONF_FILE: Final = "mosquitto.conf"
REVOKED_FILE: Final = "revoked.pem"
_log = logging.getLogger(__name__)


class ManagedBroker:
    """Starts a broker, starts it again when it dies, ends it at the end."""

    def __init__(
        self,
        folder: Path,
        *,
        ca_pem: bytes,
        revocations: bytes,
        server: KeyPair,
        host: str = "127.0.0.1",
        port: int = 0,
        program: str | None = None,
    ) -> None:
        """Prepare a broker that lives in `folder` and listens on `host`:`port`.

        Args:
            folder: Its own, for its files; made with mode 0700.
            ca_pem: Whose certificates it accepts: root and issuers; while one CA follows another,
                those of both, from before the first certificate of the new one.
            revocations: The lists of all issuers, PEM. Without one in date nobody is let in.
            server: Its certificate, with the names that devices and controller use, and key.
            host: Address to listen on.
            port: Port to listen on; 0 is any free one, kept over restarts.
            program: Path of mosquitto; found by itself when None.
        """
        self._folder = folder.resolve()
        self._ca_pem = ca_pem
        self._revocations = revocations
        self._denied: set[str] = set()
        self._trust = _trust(ca_pem)
        self._server = server
        self._host = host
        self._port = port
        self._program = program
        self._process: Process | None = None
        self._watching: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """Process id of the broker that runs now."""
        return None if self._process is None else self._process.pid

    async def start(self) -> int:
        """Start the broker and return its port once it listens.

        Raises:
            StartupError: No mosquitto on this machine, or it does not start; the message says why.
        """
        program = self._program or find_mosquitto()
        await self._end_forgotten()
        self._port = _free_port(self._host, self._port)
        await asyncio.to_thread(self._write_files)
        try:
            await self._start_process(program)
        except StartupError:
            self._process = None
            raise
        self._watching = asyncio.create_task(self._watch(program), name="broker")
        return self._port

    async def stop(self) -> None:
        """End the broker."""
        if self._watching is not None:
            self._watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watching
            self._watching = None
        if self._process is not None:
            await _end(self._process)
            self._process = None

    async def revoke(self, revocations: bytes) -> None:
        """Let in nobody whom this list names, from the next connection on; sessions stay."""
        self._revocations = revocations
        await asyncio.to_thread(write_private, self._folder / REVOKED_FILE, revocations)
        await self._reload()

    async def cut_off(self, device_id: str) -> None:
        """End the device's session for good: it reads and writes nothing any more."""
        self._denied.add(device_id)
        access = access_list(self._denied).encode()
        await asyncio.to_thread(write_private, self._folder / _ACCESS_FILE, access)
        await self._reload()
        await self.end_session(device_id)

    async def end_session(self, client_id: str) -> None:
        """End a client's session, drop what is kept for it; it may come back if it is let in."""
        if self._process is not None and not await self._take_over(client_id):
            # With it ends every session; it is started again at once.
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()

    async def _reload(self) -> None:
        """Have the broker read its files; it has when this returns."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):  # the next one reads them anyway
                self._process.send_signal(signal.SIGHUP)
            await self._take_over(_NOBODY)

    async def _take_over(self, client_id: str) -> bool:
        folder = os.open(self._folder, os.O_PATH | os.O_DIRECTORY)
        try:
            # By way of the descriptor: a Unix socket's path must be short, a folder's need not.
            socket_path = Path(f"/proc/self/fd/{folder}", TAKE_OVER_SOCKET)
            return await mqtt.take_over(socket_path, client_id)
        finally:
            os.close(folder)

    async def _watch(self, program: str) -> None:
        """Start the broker again whenever it ends."""
        while self._process is not None:
            status = await self._process.wait()
            _log.error("the broker ended (status %d): starting it again", status)
            await asyncio.sleep(RESTART_PAUSE_S)
            try:
                await self._start_process(program)
            except StartupError as error:
                _log.error("%s", error.message)
                await asyncio.sleep(START_TIMEOUT_S)

    async def _start_process(self, program: str) -> None:
        # Left by a broker that was killed.
        (self._folder / TAKE_OVER_SOCKET).unlink(missing_ok=True)
        with (self._folder / _LOG_FILE).open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                program,
                *("-c", str(self._folder / _CONF_FILE)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                # Ctrl-C at the console is for the controller, which ends the broker last.
                start_new_session=True,
            )
        self._process = process
        try:
            await self._wait_listening(process)
        except BaseException:
            await _end(process)
            raise

    async def _wait_listening(self, process: Process) -> None:
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                while not await _listens(self._host, self._port, self._trust):
                    if process.returncode is not None:
                        raise self._not_started(f"it ended with status {process.returncode}")
                    await asyncio.sleep(_POLL_S)
        except TimeoutError as error:
            raise self._not_started(f"it did not listen within {START_TIMEOUT_S:.0f} s") from error

    def _not_started(self, found: str) -> StartupError:
        log = self._folder / _LOG_FILE
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        said = " | ".join(lines[-_LOG_LINES:]) or "nothing"
        return StartupError(
            "broker_not_started",
            f"mosquitto did not start on {self._host}:{self._port}: {found}; its log {log} ends:"
            f" {said}",
        )

    def _write_files(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        user = pwd.getpwuid(os.geteuid()).pw_name
        conf = mosquitto_conf(self._folder, host=self._host, port=self._port, user=user)
        for name, content in {
            "ca.pem": self._ca_pem,
            REVOKED_FILE: self._revocations,
            "certificate.pem": self._server.certificate_pem,
            "key.pem": self._server.key_pem,
            _ACCESS_FILE: access_list(self._denied).encode(),
            "no_access.txt": NO_ACCESS.encode(),
            _CONF_FILE: conf.encode(),
        }.items():
            write_private(self._folder / name, content)

    async def _end_forgotten(self) -> None:
        """End the broker of a controller that was killed: it holds the port and the data."""
        pid = _pid_of(self._folder / "mosquitto.pid", conf=self._folder / _CONF_FILE)
        if pid is None:
            return
        _log.warning("ending the broker %d that an earlier run of the controller left", pid)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        async with asyncio.timeout(START_TIMEOUT_S):
            # Not our child (its parent is gone), so there is no event to wait for.
            while _runs_with(pid, self._folder / _CONF_FILE):  # noqa: ASYNC110 - see above
                await asyncio.sleep(_POLL_S)


def find_mosquitto() -> str:
    """Return the path of mosquitto.

    Raises:
        StartupError: It is not installed.
    """
    found = shutil.which("mosquitto", path=f"{os.environ.get('PATH', os.defpath)}:{_MORE_PATH}")
    if found is None:
        raise StartupError(
            "mosquitto_missing",
            "a managed broker needs the program mosquitto, which is not on this machine: install"
            " the package `mosquitto` (apt-get install mosquitto), or run without --mqtt managed",
        )
    return found


async def _end(process: Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


async def _listens(host: str, port: int, trust: ssl.SSLContext) -> bool:
    """Tell whether our broker answers there.

    A handshake, not just a connection: Mosquitto opens its port before it reads its certificates,
    and may end over them.
    """
    try:
        _, writer = await asyncio.open_connection(host, port, ssl=trust)
    except OSError:
        return False
    writer.close()
    with contextlib.suppress(OSError):  # it ends the connection first, for want of a certificate
        await writer.wait_closed()
    return True


def _trust(ca_pem: bytes) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=ca_pem.decode())
    # Reached by the address it listens on, which its certificate need not name.
    context.check_hostname = False
    return context


def _free_port(host: str, port: int) -> int:
    """Return `port`, or any free one for 0; found out before a child fails over it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise StartupError(
                "broker_port",
                f"the broker cannot listen on {host}:{port}: {error}; choose another --mqtt-port",
            ) from error
        return int(probe.getsockname()[1])


def _pid_of(pid_file: Path, *, conf: Path) -> int | None:
    try:
        pid = int(pid_file.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None  # it ended in order, or never ran
    return pid if _runs_with(pid, conf) else None


def _runs_with(pid: int, conf: Path) -> bool:
    """Tell whether the process is the one that was started with this file, and alive."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return os.fsencode(conf) in command
