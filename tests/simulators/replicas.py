"""Two controllers over one PostgreSQL and one signer, as an operator would set them up."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from processes import BIN, Controller, Process, wait_for
from sprat_controller.signer.folder import SignerFolder

from simulators.fleet import MODEL, Fleet
from simulators.postgres import Cluster

# What a second controller is given of the first one's folder; blobs lie in one place.
_COPIED: Final = ("ca.pem", "blob.secret", "settings.json", "admin.token")


@dataclass(frozen=True)
class Held:
    """A lease as its row says it is held."""

    rollout_id: str
    owner: str
    number: int

    @property
    def pid(self) -> int:
        """Of the controller, as its name has it."""
        return int(self.owner.split("/")[1])


class Replicas:
    """The processes, and what their rows say."""

    def __init__(self, folder: Path, cluster: Cluster) -> None:
        self._cluster = cluster
        self._name = cluster.create()
        self.fleet = Fleet(folder / "first")
        (folder / "first").mkdir()
        (folder / "second").mkdir()
        socket = SignerFolder(self.fleet.controller.data / "signer").socket
        options = ("--heartbeat", "1", "--signer", str(socket))
        self.first = Controller(folder / "first", *options)
        self.second = Controller(folder / "second", *options)
        self.fleet.controller = self.first
        self._signer = Process(
            "signer",
            [str(BIN / "sprat-signer"), "run", "--data", str(self.first.data / "signer")],
            folder,
            socket,
        )

    def open(self) -> None:
        """Make the controller, and start it twice."""
        self.first.init("--database", self._cluster.url(self._name))
        self._signer.spawn()
        wait_for("the signer", self._signer.ready_file.exists, alive=self._signer)
        self.first.start()
        self.fleet.new_publisher("publisher")
        self.second.data.mkdir(mode=0o700)
        for name in _COPIED:
            shutil.copy2(self.first.data / name, self.second.data / name)
        (self.second.data / "blobs").symlink_to(self.first.data / "blobs")
        self.second.start()

    def close(self) -> None:
        """End everything."""
        for one in (self.first, self.second, self._signer):
            one.terminate()
        self._cluster.drop(self._name)

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Return what a query finds."""
        with self._cluster.connect(self._name) as connection:
            return connection.execute(query.encode(), values).fetchall()

    def grpc(self) -> list[str]:
        """Return where devices reach the two."""
        ready = (one.ready_file.read_text() for one in (self.first, self.second))
        return [str(json.loads(one)["grpc"]) for one in ready]

    def start_rollout(self, alias: str) -> str:
        """Start a rollout of few devices at a time, so that there is often something to decide."""
        started = self.fleet.sprat(
            *("rollout", "start", f"{MODEL}@1.0.0", "--alias", alias, "--context", "256"),
            *("--max-in-progress", "2", "--yes", "-o", "json"),
        )
        return str(started["id"])

    def are_finished(self, rollouts: Sequence[str]) -> bool:
        """Whether all of them are."""
        query = "SELECT count(*) FROM rollout WHERE id = ANY(%s) AND state = 'FINISHED'"
        return self.rows(query, list(rollouts)) == [(len(rollouts),)]

    def held(self) -> list[Held]:
        """Return the leases that are held."""
        query = "SELECT id, lease_owner, lease_number FROM rollout WHERE lease_owner IS NOT NULL"
        return [Held(*row) for row in self.rows(query)]

    def owners(self, rollout_id: str) -> tuple[int, str | None]:
        """Return how often a rollout was claimed, and by whom it is held."""
        query = "SELECT lease_number, lease_owner FROM rollout WHERE id = %s"
        ((number, owner),) = self.rows(query, rollout_id)
        return number, owner

    def wait_taken_over(self, held: Held) -> float:
        """Return the seconds until another controller has claimed what one held."""
        began = time.monotonic()
        wait_for(
            "the other to take over",
            lambda: self.owners(held.rollout_id)[0] > held.number,
            timeout_s=30,
        )
        return time.monotonic() - began

    def process_of(self, pid: int) -> Controller:
        """Return the controller with this process id."""
        return self.first if self.first.pid == pid else self.second

    def other(self, one: Controller) -> Controller:
        """Return the other controller."""
        return self.second if one is self.first else self.first

    @contextmanager
    def frozen_at_work(self, timeout_s: float = 120) -> Generator[tuple[Controller, Held]]:
        """Freeze a controller while it holds a lease, and let it go on in the end if it lives."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            for held in self.held():
                os.kill(held.pid, signal.SIGSTOP)
                if held in self.held():
                    controller = self.process_of(held.pid)
                    try:
                        yield controller, held
                    finally:
                        if controller.is_running:
                            os.kill(held.pid, signal.SIGCONT)
                    return
                os.kill(held.pid, signal.SIGCONT)
        raise AssertionError(f"no controller was met at work within {timeout_s:.0f} s")
