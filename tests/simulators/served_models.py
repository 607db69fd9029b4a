"""A device's inference in a process of its own: supervisor and local API, real workers, no link.

Tests start it by `served`, and may do to its workers what they like.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
import subprocess
import sys
import uuid
from collections import defaultdict
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
from sprat_agent.api.app import build_app
from sprat_agent.api.server import LocalApi
from sprat_agent.clock import system_clock
from sprat_agent.runtime.limits import Limits
from sprat_agent.runtime.process import WORKER_COMMAND
from sprat_agent.runtime.supervisor import Supervisor
from sprat_agent.sync.ports import Loadable, Serving

from simulators import models
from simulators.workbench import PLENTY, CountedCrashes

LIMITS = Limits(ping_interval_s=0.1, max_queued=64)  # the rest as on devices
TESTS = Path(__file__).resolve().parent.parent
CODE = (
    f"import sys; sys.path.insert(0, {str(TESTS)!r});"
    " from simulators import served_models; served_models.main()"
)
COMMAND = (sys.executable, "-c", CODE)


class Model(msgspec.Struct):
    """A GGUF file under an alias."""

    alias: str
    path: str
    context: int = 512
    slots: int = 1

    def loadable(self) -> Loadable:
        one = models.loadable([Path(self.path)], alias=self.alias, context=self.context)
        return replace(one, serving=Serving(slots=self.slots))


class Order(msgspec.Struct):
    """What to serve."""

    folder: str
    models: list[Model]
    budget_bytes: int = PLENTY
    # One more would wait for a processor, at each step, where tests run side by side.
    threads: int = 1
    command: tuple[str, ...] = WORKER_COMMAND


class Alias(msgspec.Struct):
    """How a model is doing, beside what the local API says of it."""

    slots: int
    busy: int  # as the supervisor counts
    engine_busy: int  # as the engine counted at the last ping
    worker_pid: int | None
    loads_ms: list[float]
    crashes: list[str]  # the reasons
    refusals: list[str]


@dataclass(frozen=True)
class Served:
    """A process that serves."""

    url: str
    pid: int
    log: Path  # what it and its workers say

    def status(self) -> dict[str, Any]:
        # Not httpx: its client loads all certificate authorities first.
        connection = http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=10)
        with closing(connection):
            connection.request("GET", "/agent/v1/status")
            return json.loads(connection.getresponse().read())

    def alias(self, name: str = "assistant") -> Alias:
        return msgspec.convert(self.status()["details"][name], Alias)

    def worker_pid(self, name: str = "assistant") -> int:
        pid = self.alias(name).worker_pid
        assert pid is not None
        return pid


@contextmanager
def served(order: Order, command: Sequence[str] = COMMAND) -> Generator[Served]:
    """Serve until the context is left; the order becomes the command's last argument."""
    log = Path(order.folder) / "log"
    with log.open("wb") as said:
        process = subprocess.Popen(
            [*command, msgspec.json.encode(order).decode()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
        )
    with process:
        assert process.stdout is not None
        try:
            url = process.stdout.readline().decode().strip()
            assert url, log.read_text()
            yield Served(url, process.pid, log)
        finally:
            process.communicate(timeout=30)  # closes its standard input, at which it ends
    assert process.returncode == 0, log.read_text()


def main() -> None:
    """Be the process, which logs whatever it can."""
    logging.basicConfig(level=logging.DEBUG)
    asyncio.run(_serve(msgspec.json.decode(sys.argv[1], type=Order)))


async def _serve(order: Order) -> None:
    folder = Path(order.folder)
    said: dict[str, list[tuple[str, Mapping[str, Any]]]] = defaultdict(list)

    def take(tag: str, _subject: str, details: Mapping[str, object]) -> None:
        if "alias" in details:  # else it is about an answer, of which there are many
            said[str(details["alias"])].append((tag, details))

    supervisor = Supervisor(
        order.budget_bytes,
        folder / "run",
        take,
        crashes=CountedCrashes(),
        threads=order.threads,
        limits=LIMITS,
        command=order.command,
    )
    for one in order.models:
        await supervisor.load_committed(one.loadable())

    def details() -> dict[str, object]:
        return {
            "details": {
                one.alias: msgspec.to_builtins(
                    Alias(
                        one.slots,
                        one.busy,
                        one.figures.busy_slots,
                        one.worker_pid,
                        loads_ms=_told(said[one.alias], "agent:model:loaded", "ms"),
                        crashes=_told(said[one.alias], "agent:model:crashed", "reason"),
                        refusals=_told(said[one.alias], "agent:model:refused", "reason"),
                    )
                )
                for one in supervisor.statuses()
            }
        }

    app = build_app(
        supervisor,
        clock=system_clock,
        new_id=lambda: uuid.uuid4().hex,
        is_simulated=False,
        status=details,
    )
    api = LocalApi(app, "127.0.0.1:0", folder / "sprat.sock")
    print(await api.start(), flush=True)  # noqa: T201 - for who started it
    await asyncio.to_thread(sys.stdin.read)
    await api.stop()
    await supervisor.close()


def _told(said: Sequence[tuple[str, Mapping[str, Any]]], tag: str, name: str) -> list[Any]:
    return [details[name] for what, details in said if what == tag]
