"""The signer as a child of the controller: for who has no service manager to run both.

When the controller is root and there is a user `sprat-signer`, the child is that user, and the
folder is its own. It ends when its standard input does: also when the controller was killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import pwd
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

from sprat_controller.errors import StartupError
from sprat_controller.signer.client import SignerClient
from sprat_controller.signer.folder import SignerFolder

USER: Final = "sprat-signer"
START_TIMEOUT_S: Final = 15.0
STOP_TIMEOUT_S: Final = 5.0
RESTART_PAUSE_S: Final = 0.5
_POLL_S: Final = 0.02
_LOG_FILE: Final = "signer.log"
_LOG_LINES: Final = 3
_log = logging.getLogger(__name__)


@asynccontextmanager
async def managed_signer(folder: SignerFolder) -> AsyncGenerator[SignerClient]:
    """Have a signer of the folder's keys; it is started again whenever it ends.

    Raises:
        StartupError: It does not start; the sentence says why.
    """
    child = _Child(folder)
    await child.start()
    watching = asyncio.create_task(child.watch(), name="signer")
    client = SignerClient(folder.socket)
    try:
        yield client
    finally:
        client.close()
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching
        await child.stop()


class _Child:
    def __init__(self, folder: SignerFolder) -> None:
        self._folder = folder
        self._process: Process | None = None
        self._log_begins = 0  # of what this run said

    async def start(self) -> None:
        folder = self._folder
        folder.socket.unlink(missing_ok=True)
        # uvloop cannot start a process as another user: it becomes that user itself.
        user = ("--user", USER) if _own(folder) else ()
        with (folder.path / _LOG_FILE).open("ab") as log:
            self._log_begins = log.tell()
            self._process = process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "sprat_controller.signer.main", "run", "--child", *user),
                *("--data", str(folder.path)),
                stdin=asyncio.subprocess.PIPE,
                stdout=log,
                stderr=log,
                # Ctrl-C at the console is for the controller, which ends the signer last.
                start_new_session=True,
            )
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                # A socket that appears: there is no event to wait for.
                while not folder.socket.exists():
                    if process.returncode is not None:
                        raise self._not_started(f"it ended with status {process.returncode}")
                    await asyncio.sleep(_POLL_S)
        except TimeoutError as error:
            await self.stop()
            raise self._not_started(f"no socket within {START_TIMEOUT_S:.0f} s") from error

    async def watch(self) -> None:
        """Start it again whenever it ends."""
        while self._process is not None:
            status = await self._process.wait()
            _log.error("the signer ended (status %d): starting it again", status)
            await asyncio.sleep(RESTART_PAUSE_S)
            try:
                await self.start()
            except StartupError as error:
                _log.error("%s", error.message)
                await asyncio.sleep(START_TIMEOUT_S)

    async def stop(self) -> None:
        process = self._process
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    def _not_started(self, found: str) -> StartupError:
        log = self._folder.path / _LOG_FILE
        lines = log.read_bytes()[self._log_begins :].decode(errors="replace").splitlines()
        said = " | ".join(lines[-_LOG_LINES:]) or "nothing"
        return StartupError(
            "signer_not_started", f"the signer did not start: {found}; its log {log} ends: {said}"
        )


def _own(folder: SignerFolder) -> bool:
    """Give the folder to the signer's own user; False: there is none, or we may not."""
    if os.geteuid() != 0:
        return False
    try:
        user = pwd.getpwnam(USER)
    except KeyError:
        return False
    # To pass through the controller's folder, not to read it.
    os.chown(folder.path.parent, -1, user.pw_gid)
    folder.path.parent.chmod(0o710)
    for path in (folder.path, *folder.path.iterdir()):
        os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)
    return True
