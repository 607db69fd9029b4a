"""One engine worker as the agent sees it: start, load, ask, watch, end."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias, TypeVar

from sprat_agent.runtime import wire
from sprat_agent.runtime.faults import (
    AnswerError,
    EngineFailedError,
    ModelUnloadedError,
    RequestRefusedError,
    WorkerCrashedError,
)
from sprat_agent.runtime.limits import Limits
from sprat_agent.runtime.neighbours import Neighbours, regulate
from sprat_agent.runtime.said import line

_LOG = logging.getLogger(__name__)
_LAST_WORDS_LENGTH: Final = 200
_LAST_WORDS_S: Final = 1.0  # how long we listen for them after its death
_EXIT_S: Final = 1.0  # how long it may take to exit once it has closed its end

# What a worker learns of our environment. Others steer its libraries: LD_*, PYTHON*, GGML_*.
_PASSED_ON: Final = ("PATH", "LANG", "LC_ALL", "TZ")

WORKER_COMMAND: Final = (sys.executable, "-P", "-m", "sprat_agent.worker")


@dataclass(frozen=True)
class Inputs:
    """Texts to be made into vectors."""

    texts: tuple[wire.Text | wire.Tokens, ...]
    is_truncated: bool = False  # cut one that is too long instead of refusing it


@dataclass(frozen=True)
class Counting:
    """A prompt whose tokens are to be counted; that takes no slot."""

    prompt: wire.Prompt


@dataclass(frozen=True)
class Scoring:
    """A text that is to be scored; it takes no slot, but its chunks wait for a free one."""

    text: str
    chunk: int  # tokens
    limit: int  # of scored tokens


# What a worker may refuse a request for: clients and metrics see these codes.
_REFUSALS: Final = frozenset(
    {"context_length_exceeded", "messages_refused", "model_not_found", "not_supported"}
)

Order: TypeAlias = wire.Request | Inputs | Counting
_Other: TypeAlias = wire.Embedded | wire.Counted | wire.Scored  # no texts
_Wanted: TypeAlias = type[wire.Done] | type[_Other]
_End: TypeAlias = wire.Done | _Other | AnswerError
_Told = TypeVar("_Told", wire.Embedded, wire.Counted, wire.Scored)
# What a worker says that was asked for something else.
_UNWANTED: Final[Mapping[type, str]] = {
    wire.Embedded: "vectors",
    wire.Counted: "a count",
    wire.Scored: "a score",
}
_SLOTLESS: Final[frozenset[type]] = frozenset({wire.Counted, wire.Scored})


class Ask:
    """What a worker is answering: iterate over its pieces, then the `Done`, or ask for the rest.

    Raises, while iterated:
        AnswerError: The worker died, was ended, or refused the request.
    """

    def __init__(
        self, request_id: int, cancel: Callable[[int], None], wants: _Wanted = wire.Done
    ) -> None:
        self.id = request_id
        self.wants: _Wanted = wants
        self.is_over = False
        self._answers: asyncio.Queue[wire.Piece | _End] = asyncio.Queue()
        self._cancel = cancel

    def __aiter__(self) -> Ask:
        return self

    async def __anext__(self) -> wire.Piece | wire.Done:
        if self.is_over and self._answers.empty():
            raise StopAsyncIteration
        answer = await self._next()
        if isinstance(answer, _Other):
            raise TypeError(f"a request for {_UNWANTED[type(answer)]} is iterated over")
        return answer

    async def vectors(self) -> wire.Embedded:
        """Return the vectors of an order of `Inputs`.

        Raises:
            AnswerError: The worker died, was ended, or refused the order.
        """
        return await self._only(wire.Embedded)

    async def count(self) -> wire.Counted:
        """Return the count of an order of `Counting`.

        Raises:
            AnswerError: The worker died, was ended, or refused the order.
        """
        return await self._only(wire.Counted)

    async def score(self) -> wire.Scored:
        """Return the sums of an order of `Scoring`.

        Raises:
            AnswerError: The worker died, was ended, or refused the order.
        """
        return await self._only(wire.Scored)

    def cancel(self) -> None:
        """Stop the generation, if it goes on."""
        if not self.is_over:
            self._cancel(self.id)

    def take(self, answer: wire.Piece | _End) -> None:
        """Hand over what the worker sent."""
        self.is_over = not isinstance(answer, wire.Piece)
        self._answers.put_nowait(answer)

    async def _only(self, kind: type[_Told]) -> _Told:
        answer = await self._next()
        if not isinstance(answer, kind):
            raise TypeError(f"a request for something else is asked for {_UNWANTED[kind]}")
        return answer

    async def _next(self) -> wire.Piece | wire.Done | _Other:
        answer = await self._answers.get()
        if isinstance(answer, AnswerError):
            raise answer
        return answer


class WorkerProcess:
    """A started worker. `died` is done when it is gone, with the reason as one sentence."""

    def __init__(
        self,
        name: str,
        process: asyncio.subprocess.Process,
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        limits: Limits,
        on_free: Callable[[], None],
    ) -> None:
        self.name = name
        self.slots = 0  # none before it is loaded
        self.figures = wire.Figures()  # of the last answer to a ping
        self.idle = asyncio.Event()
        self.idle.set()
        self._busy = asyncio.Event()
        self.died: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._process = process
        self._reader, self._writer = streams
        self._limits = limits
        self._on_free = on_free
        self._asks: dict[int, Ask] = {}
        self._next_id = 1
        self._loaded: asyncio.Future[wire.Loaded | wire.LoadFailed] = (
            asyncio.get_running_loop().create_future()
        )
        self._pong = asyncio.Event()
        self._killed_for = ""
        self._is_ended = False
        self._last_words: deque[str] = deque(maxlen=3)
        self._draining = self._task(self._drain(), "stderr")
        self._receiving = self._task(self._receive(), "messages")
        self._watching: list[asyncio.Task[None]] = []

    @classmethod
    async def start(
        cls,
        name: str,
        *,
        command: Sequence[str],
        descriptors: Sequence[int],
        folder: Path,
        limits: Limits,
        on_free: Callable[[], None],
    ) -> WorkerProcess:
        """Start a worker process, which begins with its imports.

        Args:
            name: `model@release+variant`, for messages.
            command: What to run; the socket's descriptor and our process id are appended.
            descriptors: The model's open files, inherited under the same numbers.
            folder: An empty folder to run in: ggml loads backends from its working directory.
            limits: Times to allow.
            on_free: Called whenever a request is over and when the worker dies.
        """
        ours, theirs = socket.socketpair()
        with theirs, ExitStack() as on_failure:
            reader, writer = await asyncio.open_connection(sock=ours)
            on_failure.callback(writer.close)
            # The last thing awaited: a cancellation leaves no process that nobody knows of.
            process = await asyncio.create_subprocess_exec(
                *command,
                str(theirs.fileno()),
                str(os.getpid()),
                pass_fds=(theirs.fileno(), *descriptors),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                cwd=folder,
                env=worker_environment(os.environ),
                start_new_session=True,
            )
            on_failure.pop_all()
        return cls(name, process, (reader, writer), limits, on_free)

    @property
    def pid(self) -> int:
        """The worker's process id, which is also its process group."""
        return self._process.pid

    @property
    def is_ready(self) -> bool:
        """It holds its model, lives, and is not being ended."""
        return self.slots > 0 and not self._is_ended and not self.died.done()

    @property
    def has_crashed(self) -> bool:
        """It is gone, and was not ended."""
        return self.died.done() and not self._is_ended

    @property
    def free(self) -> int:
        """How many more requests it can answer at once now."""
        taken = sum(ask.wants not in _SLOTLESS for ask in self._asks.values())
        return self.slots - taken if self.is_ready else 0

    async def load(self, source: wire.Load) -> wire.Loaded:
        """Load the model; then the worker is watched.

        Raises:
            WorkerCrashedError: It died while loading, or took too long.
            EngineFailedError: The engine refused the file.
        """
        self._writer.write(wire.frame(source))
        waiting = (self._loaded, self.died)
        await asyncio.wait(
            waiting,
            timeout=self._limits.load_timeout_s,
            return_when=asyncio.FIRST_COMPLETED,
        )
        if not self._loaded.done():
            if not self.died.done():
                self._kill(f"did not load in {self._limits.load_timeout_s:.0f} s")
            raise WorkerCrashedError(await asyncio.shield(self.died))
        answer = self._loaded.result()
        if isinstance(answer, wire.LoadFailed):
            raise EngineFailedError(line(answer.message))
        self.slots = answer.slots
        neighbours = Neighbours(self.pid, source.threads)
        regulating = regulate(
            neighbours, self._busy, self._limits.look_interval_s, self._use_threads
        )
        self._watching = [
            self._task(self._watch(), "pings"),
            self._task(regulating, "threads"),
        ]
        return answer

    def ask(self, order: Order | Scoring) -> Ask:
        """Send a request; the caller has seen that a slot is `free`, or that it takes none."""
        number = self._next_id
        match order:
            case Inputs(texts, is_truncated):
                wants, message = wire.Embedded, wire.Embed(number, texts, is_truncated)
            case Counting(prompt):
                wants, message = wire.Counted, wire.Count(number, prompt)
            case Scoring(text, chunk, limit):
                wants, message = wire.Scored, wire.Score(number, text, chunk, limit)
            case _:
                wants, message = wire.Done, wire.Generate(number, order)
        self._next_id += 1
        ask = self._asks[number] = Ask(number, self._cancel, wants)
        self.idle.clear()
        self._busy.set()
        self._writer.write(wire.frame(message))
        return ask

    async def end(self) -> None:
        """End the process and give its memory back; requests get `ModelUnloadedError`."""
        self._is_ended = True
        self._kill("")
        await asyncio.shield(self.died)

    def _cancel(self, request_id: int) -> None:
        if not self._writer.is_closing():
            self._writer.write(wire.frame(wire.Cancel(request_id)))

    def _task(self, work: Coroutine[None, None, None], what: str) -> asyncio.Task[None]:
        return asyncio.create_task(work, name=f"worker {self.name}: {what}")

    def _kill(self, why: str) -> None:
        if self._process.returncode is None:
            self._killed_for = self._killed_for or why
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)

    async def _receive(self) -> None:
        """Pass on what the worker says until it dies, then tell everybody."""
        try:
            while (message := await wire.receive_from_worker(self._reader)) is not None:
                self._take(message)
        except wire.WireError as error:
            self._kill(f"broke the contract: {line(str(error))}")
        finally:
            with suppress(TimeoutError):
                async with asyncio.timeout(_EXIT_S):
                    await self._process.wait()
            self._kill("closed its end of the connection")  # it is of no use any more
            await self._process.wait()
            await asyncio.wait([self._draining], timeout=_LAST_WORDS_S)
            self._mourn()

    def _take(self, message: wire.WorkerMessage) -> None:
        match message:
            case wire.Loaded() | wire.LoadFailed():
                if not self._loaded.done():
                    self._loaded.set_result(message)
            case wire.Pong(stalled_s=stalled_s, figures=figures):
                self.figures = figures
                if stalled_s < self._limits.stall_timeout_s:
                    self._pong.set()
            case wire.Answers(items=answers):
                for answer in answers:
                    self._pass_on(answer)

    def _pass_on(self, answer: wire.Answer) -> None:
        ask = self._asks.get(answer.id)
        wanted = ask.wants if ask else wire.Done
        match answer:
            case wire.Embedded() | wire.Counted() | wire.Scored() if not isinstance(answer, wanted):
                self._kill(f"sent {_UNWANTED[type(answer)]} that nobody asked for")
            case wire.Piece() | wire.Done() if wanted in _UNWANTED and not _is_cancelled(answer):
                self._kill(f"sent a text, asked for {_UNWANTED[wanted]}")
            case wire.Piece():
                if ask:
                    ask.take(answer)
            case (
                wire.Done(id=request_id)
                | wire.Embedded(id=request_id)
                | wire.Counted(id=request_id)
                | wire.Scored(id=request_id)
            ):
                self._finish(request_id, answer)
            case wire.Failed(id=request_id, code=code, message=text):
                refused, why = code in _REFUSALS, line(text)
                error = RequestRefusedError(code, why) if refused else EngineFailedError(why)
                self._finish(request_id, error)

    def _finish(self, request_id: int, answer: _End) -> None:
        if ask := self._asks.pop(request_id, None):
            ask.take(answer)
        if not self._asks:
            self.idle.set()
            self._busy.clear()
        self._on_free()

    def _mourn(self) -> None:
        self._writer.close()
        for task in self._watching:
            task.cancel()
        reason = self._reason()
        self.died.set_result(reason)
        error: AnswerError = WorkerCrashedError(reason)
        if self._is_ended:
            error = ModelUnloadedError(f"{self.name} was unloaded while it answered; ask again")
        for request_id in list(self._asks):
            self._finish(request_id, error)
        self._on_free()

    def _reason(self) -> str:
        code = self._process.returncode or 0
        how = f"exited with code {code}"
        if code < 0:
            how = f"was killed by {signal.Signals(-code).name}"
        if code == -signal.SIGKILL:
            how += ", as the kernel does when memory runs out"
        if self._killed_for:
            how = f"was ended because it {self._killed_for}"
        words = "; ".join(self._last_words)[-_LAST_WORDS_LENGTH:]
        return f"the worker of {self.name} {how}" + (f" (it said: {words})" if words else "")

    async def _watch(self) -> None:
        """Kill the worker when it does not answer a ping, or answers that its engine hangs."""
        number = 0
        while True:
            await asyncio.sleep(self._limits.ping_interval_s)
            number += 1
            self._pong.clear()
            self._writer.write(wire.frame(wire.Ping(number)))
            try:
                async with asyncio.timeout(self._limits.ping_timeout_s):
                    await self._pong.wait()
            except TimeoutError:
                self._kill("hung")
                return

    def _use_threads(self, count: int) -> None:
        self._writer.write(wire.frame(wire.UseThreads(count)))

    async def _drain(self) -> None:
        """Pass the worker's standard error on to the log."""
        stream = self._process.stderr
        if stream is None:
            raise RuntimeError("the worker was started without a pipe for its standard error")
        while data := await stream.read(1 << 12):
            for words in map(line, data.decode("utf-8", "replace").splitlines()):
                if words.strip():
                    self._last_words.append(words.strip())
                    _LOG.info("worker of %s: %s", self.name, words.strip())


def _is_cancelled(answer: wire.Piece | wire.Done) -> bool:
    return isinstance(answer, wire.Done) and answer.finish == "cancelled"


def worker_environment(ours: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a worker."""
    return {name: ours[name] for name in _PASSED_ON if name in ours}


def peak_bytes(pid: int) -> int:
    """Return the most memory that a process had so far, from the kernel; 0 if it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    for told in lines.splitlines():
        if told.startswith("VmHWM:"):
            return int(told.split()[1]) << 10
    return 0
