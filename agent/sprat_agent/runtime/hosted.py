"""One loadable model and the worker that holds it, if one does at the moment."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Final

from sprat_proto import fit
from sprat_proto.probes import Traffic
from sprat_proto.states import ReasonCode

from sprat_agent.runtime import prefixes
from sprat_agent.runtime.faults import AnswerError, WorkerCrashedError
from sprat_agent.runtime.limits import Limits
from sprat_agent.runtime.opened import OpenedFiles
from sprat_agent.runtime.prefixes import PrefixFile
from sprat_agent.runtime.process import Ask, Order, WorkerProcess, peak_bytes
from sprat_agent.runtime.said import line
from sprat_agent.runtime.spare import Spare
from sprat_agent.runtime.wire import AdapterFile, Load
from sprat_agent.sync.ports import ExecutionError, Loadable

_LOG = logging.getLogger(__name__)
# Of address space: a stack of 8 MiB, and the two heaps of 64 MiB that malloc maps to align one.
_THREAD_BYTES: Final = 136 * fit.MIB


@dataclass(frozen=True)
class Workshop:
    """What it takes to start a worker."""

    command: Sequence[str]
    run_dir: Path
    threads: int
    limits: Limits
    # Returns what a model that is about to be loaded gets beyond what it must have.
    spare: Callable[[HostedModel], Spare]
    prefix_dir: Path | None = None  # where workers keep prefixes of prompts, if anywhere


class HostedModel:
    """A model that is to be in memory; `start` and `end` may alternate."""

    def __init__(
        self, loadable: Loadable, workshop: Workshop, on_change: Callable[[], None]
    ) -> None:
        self.loadable = loadable
        self.worker: WorkerProcess | None = None
        self.trouble = ""  # why it is not ready, one sentence
        self.context = 0  # tokens, once loaded
        self.load_ms = 0.0
        self.last_lived_s = 0.0  # how long the last worker was ready
        self.is_proved = False  # a candidate that passed its probe
        self.is_given_up = False  # nobody will start it again: it takes no memory
        self.is_cold = False  # evicted, or never loaded: it is loaded when a request needs it
        self.last_used = monotonic()  # when a request last began or ended
        self.spare = Spare()  # while it is in memory, by the room that there was
        self.traffic = Traffic()  # what real requests showed of it
        self.since = monotonic()  # when it was taken on
        self._peak_bytes = 0  # of workers that are gone, too
        self._workshop = workshop
        self._on_change = on_change
        self._ready_since = 0.0

    @property
    def is_ready(self) -> bool:
        """A worker holds it and lives."""
        return self.worker is not None and self.worker.is_ready

    @property
    def has_crashed(self) -> bool:
        """Its worker is gone, and we did not end it."""
        return self.worker is not None and self.worker.has_crashed

    @property
    def pid(self) -> int | None:
        """The worker's process id."""
        return self.worker.pid if self.worker else None

    @property
    def free(self) -> int:
        """How many more requests it can answer at once now."""
        return self.worker.free if self.worker else 0

    @property
    def slots(self) -> int:
        """How many requests it answers at once."""
        return self.worker.slots if self.worker and self.is_ready else 0

    @property
    def is_busy(self) -> bool:
        """It answers a request."""
        return self.worker is not None and not self.worker.idle.is_set()

    @property
    def is_pinned(self) -> bool:
        """It is never evicted for another model."""
        return self.loadable.serving.is_pinned

    @property
    def is_in_memory(self) -> bool:
        """A process of it lives."""
        return self.worker is not None and not self.worker.died.done()

    @property
    def reserved_bytes(self) -> int:
        """What it takes of the budget: all of it while it is, or is to be, in memory."""
        is_out = (self.is_cold or self.is_given_up) and not self.is_in_memory
        return 0 if is_out else self.memory_bytes

    @property
    def memory_bytes(self) -> int:
        """What it takes when it is loaded, by the rule of fit."""
        return self.need.memory

    @property
    def address_bytes(self) -> int:
        """How much address space its process may take beyond what it starts with.

        More than its memory: weights are there twice while llama.cpp repacks them, and each thread
        reserves space that it does not use. A model file that makes the engine take more than any
        model like this one can need is stopped by it.
        """
        threads = self._workshop.threads + 1  # one reads the vocabulary
        return self.need.memory + self.need.weights + threads * _THREAD_BYTES

    @property
    def least_bytes(self) -> int:
        """What it takes with the slots that it must have."""
        return self._need_with(self.loadable.serving.slots).memory

    @property
    def longest_prefix_bytes(self) -> int:
        """What keys and values of one context take, where prefixes of prompts are kept; else 0."""
        shop = self._workshop
        keeps = shop.prefix_dir is not None and shop.limits.prefix_bytes > 0
        return self._need_with(1).kv if keeps else 0

    @property
    def slot_bytes(self) -> int:
        """What one more slot takes."""
        slots = self.loadable.serving.slots
        return self._need_with(slots + 1).memory - self._need_with(slots).memory

    @property
    def need(self) -> fit.Need:
        """What it takes when it is loaded, part by part."""
        need = self._need_with(self.loadable.serving.slots + self.spare.slots)
        return replace(need, worker=need.worker + self.spare.copy_bytes)

    def _need_with(self, slots: int) -> fit.Need:
        one = self.loadable
        candidate = fit.Candidate(one.variant, one.digest, "", (), 0, one.facts, one.adapters_bytes)
        return fit.need(candidate, one.context, slots, one.serving.kv_type)

    def ask(self, order: Order) -> Ask:
        """Send a request; the caller has seen that it has a slot `free`."""
        if self.worker is None:
            raise RuntimeError(f"{self.loadable.name} is not in memory")
        self.last_used = monotonic()
        return self.worker.ask(order)

    def note(self, traffic: Traffic) -> None:
        """Learn from a real request."""
        self.traffic = self.traffic.plus(traffic)

    def peak_bytes(self) -> int:
        """Return the most resident memory that a worker of it was seen to have."""
        if self.pid is not None:
            self._peak_bytes = max(self._peak_bytes, peak_bytes(self.pid))
        return self._peak_bytes

    async def start(self) -> None:
        """Verify the files and load them in a new worker.

        Raises:
            ExecutionError: SIZE_MISMATCH, DIGEST_MISMATCH, MODEL_FILE_INVALID, LOAD_FAILED,
                WORKER_CRASHED, with no worker left over.
        """
        began = monotonic()
        self.trouble = ""
        self.spare = Spare()  # what a worker that died had is free again
        self.spare = self._workshop.spare(self)
        try:
            with TemporaryDirectory(dir=self._workshop.run_dir, prefix="worker-") as folder:
                await self._start(Path(folder))
        except ExecutionError as error:
            self.trouble = error.message
            raise
        finally:
            if not self.is_ready:
                await self.end()
        self._ready_since = monotonic()
        self.load_ms = (self._ready_since - began) * 1000
        self._on_change()

    async def end(self) -> bool:
        """End the worker and give its memory back; tell whether there was one to end.

        Of two who end it at once, both wait until it is gone and one is told so.
        """
        worker = self.worker
        if worker is None:
            return False
        await worker.end()
        is_first = self.worker is worker
        if is_first:
            self.worker = None
            self.spare = Spare()
        return is_first

    async def died(self) -> str:
        """Wait until the worker dies; return why as one sentence."""
        if self.worker is None:
            return self.trouble or f"{self.loadable.name} is not loaded"
        reason = await asyncio.shield(self.worker.died)
        self.last_lived_s = monotonic() - self._ready_since
        self.trouble = self.trouble or reason
        return reason

    def _freed(self) -> None:
        self.last_used = monotonic()
        self._on_change()

    async def _start(self, folder: Path) -> None:
        work = folder / "work"
        work.mkdir()
        shop = self._workshop
        most = shop.limits.prefix_bytes if self.spare.copy_bytes else 0
        with (
            _opened(self.loadable) as files,
            prefixes.opened(shop.prefix_dir, self.loadable, most) as kept,
        ):
            worker = await WorkerProcess.start(
                self.loadable.name,
                command=shop.command,
                descriptors=(*files.descriptors, *kept.descriptors),
                folder=work,
                limits=shop.limits,
                on_free=self._freed,
            )
            self.worker = worker
            if self.is_given_up:  # meanwhile: `start` ends it
                message = f"{self.loadable.name} is not to be loaded any more"
                raise ExecutionError(ReasonCode.LOAD_FAILED, message)
            await _verify(files)  # while the worker imports its libraries
            path = files.path_for_engine(folder)
            await self._load(worker, path, files.adapters_for_engine(), kept)

    async def _load(
        self,
        worker: WorkerProcess,
        path: str,
        adapters: tuple[AdapterFile, ...],
        kept: PrefixFile,
    ) -> None:
        one = self.loadable
        trained = one.facts.context_length
        context = min(one.context, trained) if trained else one.context
        try:
            loaded = await worker.load(
                Load(
                    path,
                    context,
                    self._workshop.threads,
                    one.chat_template,
                    slots=one.serving.slots + self.spare.slots,
                    kv_type=one.serving.kv_type,
                    adapters=adapters,
                    memory_bytes=self.address_bytes,
                    prefix_file=kept.descriptor,
                    prefix_bytes=kept.limit,
                    prefix_key=kept.key,
                    prefix_copies=self.spare.copy_bytes,
                )
            )
        except AnswerError as error:
            crashed = isinstance(error, WorkerCrashedError)
            code = ReasonCode.WORKER_CRASHED if crashed else ReasonCode.LOAD_FAILED
            message = f"{one.name} could not be loaded: {error.message}"
            raise ExecutionError(code, message) from error
        self.context = loaded.context
        if loaded.unjailed:
            lacking = line(", ".join(loaded.unjailed))
            _LOG.warning("%s runs without parts of its jail: %s", one.name, lacking)
        if not worker.is_ready:
            raise ExecutionError(ReasonCode.WORKER_CRASHED, await asyncio.shield(worker.died))


@contextmanager
def _opened(loadable: Loadable) -> Generator[OpenedFiles]:
    files = OpenedFiles(loadable)
    try:
        yield files
    finally:
        files.close()


async def _verify(files: OpenedFiles) -> None:
    """Run the verification in a thread; when cancelled, wait for the thread to let go of it."""
    checking = asyncio.ensure_future(asyncio.to_thread(files.verify_blocking))
    try:
        await asyncio.shield(checking)
    except asyncio.CancelledError:
        files.abandon()
        await asyncio.wait([checking])
        if not checking.cancelled():
            checking.exception()  # ours: nobody else asks for it
        raise
