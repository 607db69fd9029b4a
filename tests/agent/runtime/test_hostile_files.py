"""T42: mutants of a model file that passed its hash, taken through all that a device does with one.

The registry's verification, then a real, jailed worker that loads the file and is asked: as a
candidate is, next to a good model that has to go on answering.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from collections import Counter
from collections.abc import AsyncGenerator, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from simulators import models, signed
from simulators.models import Shape
from simulators.mutants import mutants
from simulators.site import NoNetwork
from simulators.trusting import HARDWARE, judge, trusting
from simulators.tuf_world import TufWorld
from simulators.waiting import until
from simulators.workbench import CountedCrashes
from sprat_agent.registry.local import LocalRegistry
from sprat_agent.registry.store import Store
from sprat_agent.runtime.limits import Limits
from sprat_agent.runtime.supervisor import Supervisor
from sprat_agent.runtime.wire import Conversation, Message, Request, Sampling
from sprat_agent.state import State
from sprat_agent.sync.ports import ExecutionError, Loadable, Serving, ShardFile
from sprat_proto import gguf
from sprat_proto.manifest import Activation, Facts, GoldenPrompt
from sprat_proto.states import ReasonCode

SEED = 42
SHAPE = Shape(layers=1, width=32)
AT_ONCE = 2  # workers with mutants
ASK_EVERY = 50  # mutants, and after each that reached a worker and was not well
# Expects nothing: a mutant may say what it likes, as long as it is over in time.
PROBE = Activation(probe=[GoldenPrompt("Hello", "", max_tokens=4)], probe_timeout_s=60)
QUESTION = Request(
    Conversation((Message("user", "Are you well?"),)),
    Sampling(temperature=0),
    max_tokens=8,
    is_fresh=True,
)
BUDGET_BYTES = 2 << 30
LONGEST_MESSAGE = 1000
AGENT_GROWTH_BYTES = 64 << 20
RESTART_S = 1.0  # of T42, on a machine with nothing else to do
MACHINE_FACTOR = 10  # how much longer it may take on one that runs a whole test suite
HEADER = "refused by the header check"
ANSWERED = "answered"


@dataclass
class Device:
    """A device that answers with a good model, and whose publisher makes mutants of it."""

    folder: Path
    good: Loadable
    supervisor: Supervisor
    registry: LocalRegistry
    store: Store
    audited: Counter[str]
    outcomes: Counter[str] = field(default_factory=Counter[str])
    examples: dict[str, set[str]] = field(default_factory=dict[str, set[str]])

    async def answer(self) -> str:
        """Return what the good model says."""
        async with self.supervisor.answering("assistant", QUESTION) as answer:
            return "".join([piece.text async for piece in answer])

    async def take(self, alias: str, number: int, data: bytes) -> str:
        """Take a release in as an execution does; return what became of it."""
        made = signed.release(f"1.0.{number}", [data])
        for sha256, blob in made.blobs.items():
            path = self.store.blob(sha256)
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(blob)
        try:
            return await self._prove(alias, made, is_liar=number % 2 == 0)
        finally:
            for sha256, blob in made.blobs.items():
                assert self.store.blob(sha256).read_bytes() == blob
                self.store.remove_blob(sha256)

    async def _prove(self, alias: str, made: signed.Release, *, is_liar: bool) -> str:
        wanted = made.wanted("e")
        refusal = await refused(self.registry.verify(wanted))
        if refusal:
            assert refusal.code is ReasonCode.MODEL_FILE_INVALID
            return self._note(HEADER, refusal.message)
        candidate = self._loadable(alias, made, is_liar=is_liar)
        refusal = await refused(self.supervisor.load_candidate(candidate))
        refusal = refusal or (await self.supervisor.probe(alias, PROBE, 0)).fault
        await self.supervisor.drop_candidate(alias)
        if refusal is None:
            return self._note(ANSWERED, "")
        assert self.audited[wanted.name] or refusal.code is ReasonCode.PROBE_FAILED
        return self._note(refusal.code.value, refusal.message)

    def _loadable(self, alias: str, made: signed.Release, *, is_liar: bool) -> Loadable:
        """Return what would be installed; a liar's manifest gives the good file's facts."""
        (shard,) = made.manifest.shards
        path = self.store.blob(shard.sha256)
        found: Facts = self.good.facts if is_liar else gguf.facts(path, "f32")
        return Loadable(
            alias=alias,
            model=made.manifest.model,
            release=made.manifest.release,
            variant=made.manifest.variant,
            digest=made.digest,
            signer="publisher",
            files=(ShardFile(path, shard.sha256, shard.size),),
            facts=found,
            context=128,
            chat_template=models.TEMPLATE,
        )

    def _note(self, outcome: str, message: str) -> str:
        """Count an outcome, whose message is one sentence that a terminal can show."""
        assert message.isprintable(), message
        assert len(message) <= LONGEST_MESSAGE, message
        self.outcomes[outcome] += 1
        self.examples.setdefault(outcome, set()).add(message)
        return outcome


async def refused(step: Coroutine[Any, Any, object]) -> ExecutionError | None:
    """Return why a step was refused, or None; nothing else may come of it."""
    try:
        await step
    except ExecutionError as error:
        return error
    return None


@asynccontextmanager
async def started(folder: Path, file: Path) -> AsyncGenerator[Device]:
    """Start a device that answers with the model in `file`."""
    home = folder / "state"
    home.mkdir()
    state, store, world = State(home), Store(home), TufWorld()
    trust = trusting(world, state, home)
    audited: Counter[str] = Counter()

    def note(tag: str, subject: str, details: Mapping[str, object]) -> None:
        del details
        if tag in {"agent:model:crashed", "agent:model:refused"}:
            audited[subject] += 1

    supervisor = Supervisor(
        BUDGET_BYTES,
        home / "run",
        note,
        crashes=CountedCrashes(do_count=True),
        threads=1,
        limits=Limits(load_timeout_s=30, drain_timeout_s=60, stall_timeout_s=30),
    )
    good = replace(models.loadable([file]), serving=Serving(is_pinned=True))
    registry = LocalRegistry(store, NoNetwork(), judge(trust), trust.image_anchor, HARDWARE)
    try:
        await supervisor.load_committed(good)
        yield Device(folder, good, supervisor, registry, store, audited)
    finally:
        await supervisor.close()
        state.close()


async def take_in(device: Device, files: Iterator[tuple[int, bytes]]) -> None:
    """Have two workers at a time try the files; see that the good model answers as ever."""
    expected = await device.answer()

    async def work(alias: str) -> None:
        for number, data in files:
            outcome = await device.take(alias, number, data)
            if outcome not in (HEADER, ANSWERED) or number % ASK_EVERY == 0:
                assert await device.answer() == expected
            if number % 1000 == 0:
                print(f"T42: {number}: {dict(device.outcomes)}")  # noqa: T201 - it takes minutes

    async with asyncio.TaskGroup() as group:
        for at in range(AT_ONCE):
            group.create_task(work(f"candidate-{at}"))
    assert await device.answer() == expected


async def restarted_s(device: Device) -> float:
    """Kill the good model's worker; return how long it takes until another one is there."""
    (before,) = pids(device.supervisor)
    began = monotonic()
    os.kill(before, signal.SIGKILL)

    def is_back() -> bool:
        (status,) = device.supervisor.statuses()
        return status.worker_pid not in (None, before) and status.slots > 0

    await until(is_back)
    return monotonic() - began


def pids(supervisor: Supervisor) -> list[int]:
    return [one.worker_pid for one in supervisor.statuses() if one.worker_pid is not None]


def seen(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Return all that is in a folder but the state: mode, size, and when it was changed."""
    found = [path for path in folder.rglob("*") if path.relative_to(folder).parts[0] != "state"]
    return {
        str(path): (path.stat().st_mode, path.stat().st_size, path.stat().st_mtime_ns)
        for path in found
    }


def files(folder: Path) -> set[Path]:
    """Return the files in a folder, SQLite's own aside."""
    return {one for one in folder.rglob("*") if one.is_file() and "sqlite" not in one.name}


def children() -> set[int]:
    """Return our child processes, also those that are gone and were not waited for."""
    found: set[int] = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:  # it ended meanwhile
            continue
        if int(fields[1]) == os.getpid():
            found.add(int(stat.parent.name))
    return found


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def judge_mutants(folder: Path, count: int) -> None:
    outside = folder / "outside"
    outside.mkdir()
    (outside / "key").write_text("secret")
    (file,) = models.write_model(outside / "good.gguf", SHAPE)
    waiting = enumerate(mutants(file.read_bytes(), SEED))
    began = monotonic()
    async with started(folder, file) as device:
        await take_in(device, islice(waiting, 5))  # what is imported and opened once is there now
        before = seen(folder), files(folder / "state"), pids(device.supervisor), children()
        gc.collect()  # what tests before this one left open is not to go meanwhile
        opened, resident = descriptors(), resident_bytes()
        await take_in(device, islice(waiting, count - 5))
        assert (
            seen(folder),
            files(folder / "state"),
            pids(device.supervisor),  # the good model was never started again
            children(),
        ) == before
        gc.collect()
        assert descriptors() <= opened
        assert resident_bytes() - resident < AGENT_GROWTH_BYTES
        restart_s = await restarted_s(device)
        took_s = monotonic() - began
    tell(device, count, took_s, restart_s)
    assert restart_s < RESTART_S * MACHINE_FACTOR
    assert device.outcomes.total() == count
    assert device.outcomes[HEADER] > count // 4
    assert count - device.outcomes[HEADER] > count // 10  # reached a worker
    assert device.outcomes[ANSWERED] > count // 20
    assert set(device.outcomes) <= {
        HEADER,
        ANSWERED,
        *map(str, (ReasonCode.LOAD_FAILED, ReasonCode.WORKER_CRASHED, ReasonCode.PROBE_FAILED)),
        str(ReasonCode.INSUFFICIENT_MEMORY),
    }


def tell(device: Device, count: int, took_s: float, restart_s: float) -> None:
    """Print the figures, and what the engine died of."""
    outcomes = ", ".join(f"{number} {what}" for what, number in device.outcomes.most_common())
    reached = count - device.outcomes[HEADER]
    print(  # noqa: T201 - figures that a log of `make test-full` keeps
        f"T42: {count} mutants in {took_s:.0f} s: {outcomes}; {reached} reached a worker; the good"
        f" model's worker was back in {restart_s:.2f} s"
    )
    for message in sorted(device.examples.get(ReasonCode.WORKER_CRASHED, ())):
        print(f"T42: {message}")  # noqa: T201


async def test_what_the_engine_quotes_of_a_file_is_shown_as_one_line(tmp_path: Path) -> None:
    (file,) = models.write_model(tmp_path / "good.gguf", SHAPE)
    data = file.read_bytes().replace(b"gpt-2", b"\x1b[2J\n")  # clears a terminal's screen
    async with started(tmp_path, file) as device:
        assert await device.take("candidate", 1, data) == "LOAD_FAILED"
        (said,) = device.examples["LOAD_FAILED"]
    assert r"unknown pre-tokenizer type: '\x1b[2J\n'" in said


async def test_t42_300_mutants_leave_the_agent_up_and_nothing_outside_its_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    await judge_mutants(tmp_path, 300)


@pytest.mark.full
@pytest.mark.timeout(4 * 3600)
async def test_t42_10000_mutants_leave_the_agent_up_and_nothing_outside_its_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    await judge_mutants(tmp_path, 10_000)
