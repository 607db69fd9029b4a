"""A controller, agents and the `sprat` command as real processes in one folder.

The demo runs on this, and so do the system tests: both see exactly what a person at a shell sees.
Everything binds to loopback on free ports.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

BIN = Path(sys.executable).parent
T = TypeVar("T")
POLL_S = 0.05
# Of the ports for servers: from here, and at least this many.
_FIRST_PORT: Final = 10_000
_PORTS: Final = 1_000
_LENT_PORTS: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
# How many times longer to wait for each thing, where much else runs: tests side by side.
PATIENCE = float(os.environ.get("SPRAT_PATIENCE", "1"))


class ProcessError(Exception):
    """A process did not do what the next step needs; the message says which and shows its log."""


def wait_for(
    what: str, look: Callable[[], T | None], *, timeout_s: float = 60, alive: Process | None = None
) -> T:
    """Return the first true thing that `look` returns.

    Raises:
        ProcessError: Nothing came in time, or the process `alive` ended meanwhile.
    """
    timeout_s *= PATIENCE
    end = time.monotonic() + timeout_s
    while True:
        found = look()
        if found:
            return found
        if alive is not None and not alive.is_running:
            raise ProcessError(f"{alive.name} ended while waiting for {what}:\n{alive.log_tail()}")
        if time.monotonic() > end:
            log = f":\n{alive.log_tail()}" if alive else ""
            raise ProcessError(f"no {what} within {timeout_s:.0f} s{log}")
        time.sleep(POLL_S)


@dataclass
class Process:
    """One started program, its log and its ready file."""

    name: str
    command: list[str]
    folder: Path
    ready_file: Path
    environment: dict[str, str] = field(default_factory=dict[str, str])
    _process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        """Where the program's output goes."""
        return self.folder / f"{self.name}.log"

    @property
    def pid(self) -> int:
        """Process id; only while running."""
        if self._process is None:
            raise ProcessError(f"{self.name} is not started")
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """The process has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self, *, timeout_s: float = 60) -> dict[str, Any]:
        """Start it and return what its ready file says."""
        self.spawn()
        return self.wait_ready(timeout_s=timeout_s)

    def spawn(self) -> None:
        """Start it without waiting."""
        self.ready_file.unlink(missing_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | self.environment,
                start_new_session=True,
            )

    def wait_ready(self, *, timeout_s: float = 60) -> dict[str, Any]:
        """Wait for the ready file and return its content."""
        pid = self.pid

        def look() -> dict[str, Any] | None:
            with contextlib.suppress(OSError, ValueError):
                content = json.loads(self.ready_file.read_text(encoding="utf-8"))
                return content if content["pid"] == pid else None
            return None

        return wait_for(f"{self.ready_file.name}", look, timeout_s=timeout_s, alive=self)

    def wait_end(self, *, timeout_s: float = 60) -> int:
        """Wait until it ends and return its exit status (negative: the signal)."""
        if self._process is None:
            raise ProcessError(f"{self.name} is not started")
        return self._process.wait(timeout_s)

    def kill(self) -> None:
        """End it as a power cut would: SIGKILL."""
        self._end(signal.SIGKILL)

    def terminate(self) -> int:
        """End it as a service manager would: SIGTERM; return the exit status."""
        return self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals, *, patience_s: float = 20) -> int:
        if self._process is None:
            return 0
        if self._process.poll() is None:
            self._process.send_signal(how)
        try:
            return self._process.wait(patience_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def log_tail(self, lines: int = 30) -> str:
        """Return the end of the log."""
        with contextlib.suppress(OSError):
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        return "(no log)"


class Controller(Process):
    """`sprat-controller` in a folder; its ports stay the same over restarts."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.data = folder / "controller"
        # Where `init` leaves the keys that are to be carried away.
        self.offline = self.data / "offline"
        self._options = options
        listens = [f"--{name}-port={lasting_port()}" for name in ("api", "grpc", "mqtt")]
        self._ports: Final = tuple(listens)
        super().__init__("controller", [], folder, self.data / "controller.json")

    def init(self, *options: str) -> None:
        """Create keys, database and the first administrator's token."""
        _run("sprat-controller", "init", "--data", str(self.data), *options)

    def start(self, *, timeout_s: float = 60) -> dict[str, Any]:
        """Start it, on free ports the first time and on the same ones later."""
        self.command = [
            str(BIN / "sprat-controller"),
            *("run", "--data", str(self.data), *self._ports, *self._options),
        ]
        ready = super().start(timeout_s=timeout_s)
        self.url = str(ready["api"])
        return ready

    def cli_environment(self) -> dict[str, str]:
        """Return the variables that point `sprat` here, as the administrator."""
        return {
            "SPRAT_URL": self.url,
            "SPRAT_TOKEN": (self.data / "admin.token").read_text(encoding="utf-8").strip(),
            "SPRAT_CA": str(self.data / "ca.pem"),
        }

    def sprat(self, *arguments: str, check: bool = True) -> Answer:
        """Run the operators' command with `-o json`."""
        done = subprocess.run(
            [BIN / "sprat", *arguments],
            check=False,
            capture_output=True,
            text=True,
            env=os.environ | self.cli_environment(),
        )
        answer = Answer(arguments, done.returncode, done.stdout, done.stderr)
        if check and done.returncode != 0:
            raise ProcessError(f"sprat {' '.join(arguments)}: {done.stderr.strip()}")
        return answer


@dataclass(frozen=True)
class Answer:
    """What a `sprat` call said."""

    arguments: Sequence[str]
    status: int
    output: str
    errors: str

    @property
    def json(self) -> Any:
        """The output as JSON."""
        return json.loads(self.output)


class Agent(Process):
    """`sprat-agent` of one device in a folder."""

    def __init__(self, folder: Path, device_id: str, *options: str) -> None:
        self.device_id = device_id
        self.state = folder / device_id
        super().__init__(
            device_id,
            [
                str(BIN / "sprat-agent"),
                *("run", "--state", str(self.state), "--listen", "127.0.0.1:0"),
                # Many agents share this machine: one that measured would slow the others.
                *("--no-measure", *options),
            ],
            folder,
            self.state / "agent.json",
        )

    def enrol(
        self,
        controller: Controller,
        *labels: str,
        claim: Sequence[str] = (),
        options: Sequence[str] = (),
    ) -> None:
        """Mint a claim token for this device and redeem it.

        Args:
            controller: Where.
            labels: `key=value`, set by the token.
            claim: More flags for `sprat enrolment create`.
            options: More flags for `sprat-agent enrol`.
        """
        flags = [*(word for label in labels for word in ("--label", label)), *claim]
        created = controller.sprat("enrolment", "create", self.device_id, *flags, "-o", "json")
        _run(
            *("sprat-agent", "enrol", "--controller", controller.url),
            *("--token", created.json["token"], "--state", str(self.state), *options),
        )

    def start(self, *, timeout_s: float = 60) -> dict[str, Any]:
        """Start it and remember where its local API is."""
        ready = super().start(timeout_s=timeout_s)
        self.url = str(ready["http"])
        self.socket = str(ready["socket"])
        return ready


def _run(program: str, *arguments: str) -> None:
    done = subprocess.run([BIN / program, *arguments], check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise ProcessError(f"{program} {arguments[0]}: {done.stderr.strip()}")


def lasting_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """Return a port of loopback that is free, also when its server is started anew.

    The ports that the system gives for 0 are those that it lends to outgoing connections: while
    a server is down, its port may be the near end of anybody's (ip(7), `ip_local_port_range`).
    """
    lent_from = int(_LENT_PORTS.read_text(encoding="ascii").split()[0])
    while True:
        port = random.randrange(_FIRST_PORT, max(lent_from, _FIRST_PORT + _PORTS))  # noqa: S311 - it is no secret
        with socket.socket(type=kind) as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
