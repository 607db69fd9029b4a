"""The real worker with a real model, as the agent starts it: the jail lets it work, and holds."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from simulators import models
from sprat_agent.runtime.wire import (
    AgentMessage,
    Answers,
    Conversation,
    Done,
    Failed,
    Generate,
    Load,
    Loaded,
    Message,
    Piece,
    Ping,
    Pong,
    Request,
    Sampling,
    WorkerMessage,
    body_length,
    frame,
    read_worker_message,
)
from sprat_agent.worker.jail import landlock

TEMPLATE = "{% for one in messages %}{{ one.content }}{% endfor %}"
CONTEXT = 128
DEADLINE_S = 2.0  # of T45
PRESSURE = Path("/proc/pressure/cpu")


class Worker:
    """The agent's end of a worker."""

    def __init__(self, process: subprocess.Popen[bytes], end: socket.socket) -> None:
        self.process = process
        self.stream = end.makefile("rb")
        self.end = end

    def ask(self, message: AgentMessage) -> WorkerMessage | None:
        """Return its next message; None if it died instead."""
        self.end.sendall(frame(message))
        return self.receive()

    def receive(self) -> WorkerMessage | None:
        header = self.stream.read(4)
        return read_worker_message(self.stream.read(body_length(header))) if header else None

    def answer(self, text: str, schema: dict[str, Any] | None = None) -> str | Failed | None:
        """Return the text that follows, or what went wrong; None if the worker died."""
        prompt = Conversation((Message("user", text),))
        request = Request(prompt, Sampling(temperature=0), max_tokens=8, schema=schema)
        self.end.sendall(frame(Generate(1, request)))
        said = ""
        while isinstance(message := self.receive(), Answers):
            for item in message.items:
                if isinstance(item, Piece):
                    said += item.text
                elif isinstance(item, Failed):
                    return item
                elif isinstance(item, Done):
                    return said
        return None

    def cpu_s(self) -> float:
        """Return the processor time that it has taken."""
        whole_process = 2  # CPUCLOCK_SCHED; see clock_getcpuclockid(3)
        return time.clock_gettime((~self.process.pid << 3) | whole_process)

    def status(self) -> Mapping[str, str]:
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return dict(line.split(":\t", 1) for line in lines)


WORKER = ("-P", "-m", "sprat_agent.worker")
# As somebody who may not even see where Python is, which is therefore read before.
AS_NOBODY = (
    "-P",
    "-c",
    """
import os
from sprat_agent.worker import __main__, serve

engine = __main__._llama_engine()
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
serve.run(lambda: engine)
""",
)

# On a kernel that does not know Landlock's first call.
ON_AN_OLD_KERNEL = (
    "-P",
    "-c",
    """
import os
from sprat_agent.worker import __main__, serve
from sprat_agent.worker.jail import kernel, seccomp

kernel.prctl(38, 1)  # no new privileges
refuse = (0x06, 0, 0, seccomp.ERROR | 38)  # ENOSYS
steps = [(0x20, 0, 0, 0), (0x15, 0, 1, 444), refuse, (0x06, 0, 0, seccomp.ALLOW)]
seccomp.install(seccomp.ARCHITECTURES[os.uname().machine], steps)
serve.run(__main__._llama_engine)
""",
)


@contextmanager
def started(
    folder: Path, descriptors: Sequence[int], program: Sequence[str] = WORKER
) -> Generator[Worker]:
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            process = subprocess.Popen(
                [sys.executable, *program, str(theirs.fileno()), str(os.getpid())],
                pass_fds=(theirs.fileno(), *descriptors),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                cwd=folder,
            )
        try:
            yield Worker(process, ours)
        finally:
            process.kill()
            process.wait()


@pytest.fixture
def model(model_files: list[Path]) -> Generator[int]:
    descriptor = os.open(model_files[0], os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


def loading(model: int, template: str = TEMPLATE, memory_bytes: int = 0) -> Load:
    return Load(f"/proc/self/fd/{model}", CONTEXT, 2, template, memory_bytes=memory_bytes)


@pytest.mark.parametrize(
    "program",
    [
        WORKER,
        pytest.param(
            AS_NOBODY,
            marks=pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else"),
        ),
    ],
)
def test_a_model_loads_and_answers_in_the_jail(
    model: int, tmp_path: Path, program: Sequence[str]
) -> None:
    with started(tmp_path, [model], program) as worker:
        loaded = worker.ask(loading(model))
        assert isinstance(loaded, Loaded)
        assert loaded.unjailed == landlock.lacking(landlock.version())
        assert isinstance(worker.answer("Hello"), str)
        status = worker.status()
        assert (status["Seccomp"], status["NoNewPrivs"]) == ("2", "1")
        assert int(status["CapPrm"], 16) == 0


def test_what_is_imported_at_its_first_use_is_there_in_the_jail(model: int, tmp_path: Path) -> None:
    schema = {"type": "boolean"}  # held to by a library that has libraries of its own
    with started(tmp_path, [model]) as worker:
        assert isinstance(worker.ask(loading(model)), Loaded)
        assert worker.answer("Hello", schema) in {"true", "false"}


def test_an_old_kernel_is_reported_and_does_not_keep_a_model_from_answering(
    model: int, tmp_path: Path
) -> None:
    with started(tmp_path, [model], ON_AN_OLD_KERNEL) as worker:
        loaded = worker.ask(loading(model))
        assert isinstance(loaded, Loaded)
        assert loaded.unjailed == ("landlock",)
        assert isinstance(worker.answer("Hello"), str)
        assert worker.status()["Seccomp"] == "2"


@pytest.mark.parametrize(("given", "fits"), [(0, True), (1 << 30, True), (128 << 20, False)])
def test_t44_a_model_cannot_take_more_memory_than_it_was_given(
    given: int, *, fits: bool, tmp_path: Path
) -> None:
    context = 1 << 19  # tokens, whose keys and values take 256 MiB
    (path,) = models.write_model(tmp_path / "long.gguf", models.Shape(context=context))
    with path.open("rb") as file, started(tmp_path, [file.fileno()]) as worker:
        load = loading(file.fileno(), memory_bytes=given)
        assert isinstance(worker.ask(replace(load, context=context)), Loaded) == fits


# Calls into C that hold the interpreter's lock: only the kernel ends them. Jinja computes the
# constant one while it compiles, at load. (Its ** begins at the left.)
ENDLESS = [
    "{{ 10 ** (10 ** 9) }}",
    "{{ (messages | length + 9) ** (10 ** 9) }}",
]
DOUBLING = (
    "{% set space = namespace(x='12') %}"
    "{% for a in range(99) %}{% set space.x = space.x ~ space.x %}{% endfor %}"
)
# What Python itself sees and refuses.
REFUSED = [
    "{{ messages.__class__.__base__.__subclasses__() }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ self.__init__.__globals__ }}",
    "{{ cycler.__init__.__globals__.os.system('true') }}",
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    DOUBLING,
    "{{ messages[0].content * 2000000000 }}",
    "{{ range(99999999999) | sum }}",
]


@pytest.mark.parametrize("template", ENDLESS)
def test_t45_a_template_that_cannot_be_interrupted_is_killed_before_two_seconds(
    template: str, model: int, tmp_path: Path
) -> None:
    reaped_s = children_s()
    with started(tmp_path, [model]) as worker:
        before_s, clock = imported(worker), Stopwatch()
        assert told(worker, template, model) is None
        assert worker.process.wait() == -signal.SIGKILL
        assert clock.s() < DEADLINE_S
        assert children_s() - reaped_s - before_s < DEADLINE_S


@pytest.mark.parametrize("template", REFUSED)
def test_t45_a_template_that_breaks_out_or_grows_is_refused_before_two_seconds(
    template: str, model: int, tmp_path: Path
) -> None:
    with started(tmp_path, [model]) as worker:
        before_s, clock = imported(worker), Stopwatch()
        assert isinstance(told(worker, template, model), Failed)
        assert clock.s() < DEADLINE_S
        assert worker.cpu_s() - before_s < DEADLINE_S


class Stopwatch:
    """Measures the time in which nobody on this machine had to wait for a processor.

    Where nothing else runs, that is the time of the clock; a worker's own limits are processor
    time, of which a busy machine gives it less.
    """

    def __init__(self) -> None:
        self._began_s, self._waited_s = time.monotonic(), waited_s()

    def s(self) -> float:
        return time.monotonic() - self._began_s - (waited_s() - self._waited_s)


def waited_s() -> float:
    """Return how long, since the start of the machine, something waited for a processor."""
    try:
        some = PRESSURE.read_text(encoding="ascii").splitlines()[0]
    except OSError:  # this kernel does not count it: then the clock alone has to do
        return 0.0
    return int(some.rpartition("total=")[2]) / 1e6


def imported(worker: Worker) -> float:
    """Wait until it has its libraries; return the processor time that they took."""
    assert isinstance(worker.ask(Ping(1)), Pong)
    return worker.cpu_s()


def told(worker: Worker, template: str, model: int) -> str | Failed | None:
    """Return what comes of a template; None if the worker died of it."""
    loaded = worker.ask(loading(model, template))
    return worker.answer("Hello") if isinstance(loaded, Loaded) else None


def children_s() -> float:
    """Return the processor time of those that ended; that of the clock depends on others."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
