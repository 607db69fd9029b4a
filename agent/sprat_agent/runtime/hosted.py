"""One loadable model and the worker that holds it, if one does at the moment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic

from sprat_proto import fit
from sprat_proto.states import ReasonCode

from sprat_agent.runtime.faults import AnswerError, WorkerCrashedError
from sprat_agent.runtime.limits import Limits
from sprat_agent.runtime.opened import OpenedFiles
from sprat_agent.runtime.process import WorkerProcess
from sprat_agent.runtime.wire import Load
from sprat_agent.sync.ports import ExecutionError, Loadable


@dataclass(frozen=True)
class Workshop:
    """What it takes to start a worker."""

    command: Sequence[str]
    run_dir: Path
    threads: int
    limits: Limits


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
    def memory_bytes(self) -> int:
        """What it takes when it is loaded, by the rule of fit."""
        one = self.loadable
        candidate = fit.Candidate(one.variant, one.digest, "", (), 0, one.facts)
        return fit.need(candidate, one.context).memory

    async def start(self) -> None:
        """Verify the files and load them in a new worker.

        Raises:
            ExecutionError: SIZE_MISMATCH, DIGEST_MISMATCH, MODEL_FILE_INVALID, LOAD_FAILED,
                WORKER_CRASHED, with no worker left over.
        """
        began = monotonic()
        self.trouble = ""
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
        return is_first

    async def died(self) -> str:
        """Wait until the worker dies; return why as one sentence."""
        if self.worker is None:
            return self.trouble or f"{self.loadable.name} is not loaded"
        reason = await asyncio.shield(self.worker.died)
        self.last_lived_s = monotonic() - self._ready_since
        self.trouble = self.trouble or reason
        return reason

    async def _start(self, folder: Path) -> None:
        work = folder / "work"
        work.mkdir()
        with _opened(self.loadable) as files:
            worker = await WorkerProcess.start(
                self.loadable.name,
                command=self._workshop.command,
                descriptors=files.descriptors,
                folder=work,
                limits=self._workshop.limits,
                on_free=self._on_change,
            )
            self.worker = worker
            if self.is_given_up:  # meanwhile: `start` ends it
                message = f"{self.loadable.name} is not to be loaded any more"
                raise ExecutionError(ReasonCode.LOAD_FAILED, message)
            await _verify(files)  # while the worker imports its libraries
            await self._load(worker, files.path_for_engine(folder))

    async def _load(self, worker: WorkerProcess, path: str) -> None:
        one = self.loadable
        trained = one.facts.context_length
        context = min(one.context, trained) if trained else one.context
        try:
            loaded = await worker.load(
                Load(path, context, self._workshop.threads, one.chat_template)
            )
        except AnswerError as error:
            crashed = isinstance(error, WorkerCrashedError)
            code = ReasonCode.WORKER_CRASHED if crashed else ReasonCode.LOAD_FAILED
            message = f"{one.name} could not be loaded: {error.message}"
            raise ExecutionError(code, message) from error
        self.context = loaded.context
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
