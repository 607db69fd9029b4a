"""Figures of inference against the servers of llama.cpp and of llama-cpp-python, in pairs."""

from __future__ import annotations

import contextlib
import os
import queue
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import bootstrap
import llama_cpp_server
import llama_server
import load
import serve_model
import shapes
from figure import Figure
from sprat_agent.profile.cpu import usable_cores
from sprat_agent.runtime.wire import Answer, Load, Piece, Request, Sampling, Text
from sprat_agent.worker.batching.scheduler import Scheduler
from sprat_agent.worker.llama import LlamaBackend

CLIENTS: Final = 8
CONTEXT: Final = 1024
TOKENS: Final = 64  # of each answer
PROMPT: Final = 64
SHARED: Final = 512
PAIRS: Final = 5
START_S: Final = 120
# Design, section 7.
THROUGHPUT_BOUNDS: Final = {
    ("independent_prompts", "llama_server"): 1.0,
    ("independent_prompts", "llama_cpp_server"): 1.5,
    ("shared_prefix", "llama_server"): 2.0,
    ("one_client", "llama_server"): 0.95,  # not in the design: a client alone loses next to nothing
}
PREFIX_TTFT_BOUND: Final = 0.4
OVERHEAD_US_BOUND: Final = 150.0
OVERHEAD_SHARE_BOUND: Final = 0.01

Measure = Callable[[int, int], load.Load]  # port, seed


def figures() -> Iterator[Figure]:
    """Yield the figures of this area, each as it is measured."""
    model = shapes.write(bootstrap.wheel_cache().parents[1] / "bench")
    yield from overhead(model)
    with llama_cpp(model) as their_port, ours(model) as our_port:
        warm(their_port, our_port)
        others, mine = pairs(_burst(CLIENTS, 0, is_streamed=False), their_port, our_port)
        yield throughput("independent_prompts", "llama_cpp_server", others, mine)
    with theirs(llama_server.build(), model) as their_port, ours(model) as our_port:
        warm(their_port, our_port)
        others, mine = pairs(_burst(CLIENTS, 0), their_port, our_port)
        yield throughput("independent_prompts", "llama_server", others, mine)
        others, mine = pairs(_burst(CLIENTS, SHARED), their_port, our_port)
        yield throughput("shared_prefix", "llama_server", others, mine)
        yield waits("shared_prefix", "llama_server", others, mine)
        others, mine = pairs(_burst(1, 0), their_port, our_port)
        yield throughput("one_client", "llama_server", others, mine)


def warm(*ports: int) -> None:
    """Ask once: the first request of a process pays for its pages."""
    for port in ports:
        _burst(1, 0, is_streamed=False)(port, 0)


def pairs(
    measure: Measure, their_port: int, our_port: int
) -> tuple[list[load.Load], list[load.Load]]:
    """Measure both in each pair, now the one first and now the other; return theirs and ours."""
    mine: list[load.Load] = []
    others: list[load.Load] = []
    for number in range(PAIRS):
        turns = [(others, their_port), (mine, our_port)]
        for kept, port in turns if number % 2 == 0 else reversed(turns):
            kept.append(measure(port, 1 + number))
    return others, mine


def throughput(
    what: str, peer: str, others: Sequence[load.Load], mine: Sequence[load.Load]
) -> Figure:
    """Return the median of the pairs' ratios of tokens a second."""
    ratios = [a.tokens_per_s / b.tokens_per_s for a, b in zip(mine, others, strict=True)]
    return Figure(
        f"{what}_tokens_per_s_vs_{peer}",
        statistics.median(ratios),
        "ratio",
        THROUGHPUT_BOUNDS[what, peer],
        at_least=True,
        detail={
            "pairs": _rounded(ratios),
            "sprat_tokens_per_s": _rounded([one.tokens_per_s for one in mine]),
            f"{peer}_tokens_per_s": _rounded([one.tokens_per_s for one in others]),
        },
    )


def waits(what: str, peer: str, others: Sequence[load.Load], mine: Sequence[load.Load]) -> Figure:
    """Return the median of the pairs' ratios of the mean time to the first token."""
    ratios = [a.ttft_s / b.ttft_s for a, b in zip(mine, others, strict=True)]
    return Figure(
        f"{what}_ttft_vs_{peer}",
        statistics.median(ratios),
        "ratio",
        PREFIX_TTFT_BOUND,
        detail={
            "pairs": _rounded(ratios),
            "sprat_s": _rounded([one.ttft_s for one in mine]),
            f"{peer}_s": _rounded([one.ttft_s for one in others]),
        },
    )


def overhead(model: Path) -> Iterator[Figure]:
    """Time in Python between two calls of llama.cpp, with as many answers as clients at once."""
    scheduler, said = Scheduler(LlamaBackend()), queue.SimpleQueue[Answer]()

    def take(answers: Sequence[Answer]) -> None:
        for one in answers:
            said.put(one)

    source = Load(str(model), CONTEXT, usable_cores(), shapes.TEMPLATE, slots=CLIENTS)
    scheduler.load(source, take)
    per_token_us: list[float] = []
    shares: list[float] = []
    before = scheduler.figures()
    for run in range(PAIRS):
        for number, text in enumerate(load.prompts(CLIENTS, PROMPT, 0, seed=run)):
            request = Request(Text(text), Sampling(temperature=0), max_tokens=TOKENS)
            scheduler.submit(run * CLIENTS + number, request)
        left = CLIENTS
        while left:
            left -= not isinstance(said.get(timeout=START_S), Piece)
        now = scheduler.figures()
        scheduling, computing = now.schedule_s - before.schedule_s, now.decode_s - before.decode_s
        per_token_us.append(scheduling / (now.decode_tokens - before.decode_tokens) * 1e6)
        shares.append(scheduling / (scheduling + computing))
        before = now
    scheduler.close()
    for name, values, unit, bound in (
        ("scheduler_overhead", per_token_us, "us/token", OVERHEAD_US_BOUND),
        ("scheduler_share_of_step", shares, "ratio", OVERHEAD_SHARE_BOUND),
    ):
        detail: dict[str, object] = {"runs": [round(value, 4) for value in values]}
        yield Figure(name, statistics.median(values), unit, bound, detail=detail)


@contextmanager
def ours(model: Path) -> Generator[int]:
    """Serve the model with Sprat; yield the port."""
    script = [sys.executable, serve_model.__file__, str(model), str(CLIENTS), str(CONTEXT)]
    paths = ":".join(path for path in sys.path if path)
    with subprocess.Popen(
        script,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": paths, "PATH": "/usr/bin:/bin"},
    ) as process:
        if process.stdout is None or process.stdin is None:
            raise RuntimeError("the server was started without pipes")
        try:
            yield int(process.stdout.readline())
        finally:
            process.stdin.close()


@contextmanager
def theirs(program: Path, model: Path) -> Generator[int]:
    """Serve the model with llama-server; yield the port."""
    port = _free_port()
    command = [str(program), "-m", str(model), "--port", str(port), "--host", "127.0.0.1"]
    command += ["-t", str(usable_cores()), "-np", str(CLIENTS), "-c", str(CLIENTS * CONTEXT)]
    with _running(command, {}):
        _wait_until_ready(port, "/health")
        yield port


@contextmanager
def llama_cpp(model: Path) -> Generator[int]:
    """Serve the model with llama_cpp.server; yield the port."""
    port = _free_port()
    command = llama_cpp_server.command(model, port, CONTEXT, usable_cores())
    with _running(command, {"PYTHONPATH": str(llama_cpp_server.packages())}):
        _wait_until_ready(port, "/v1/models")
        yield port


@contextmanager
def _running(command: Sequence[str], environment: Mapping[str, str]) -> Generator[None]:
    with subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **environment},
    ) as process:
        try:
            yield
        finally:
            process.terminate()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _wait_until_ready(port: int, path: str) -> None:
    ends = time.monotonic() + START_S
    while time.monotonic() < ends:
        with (
            contextlib.suppress(urllib.error.URLError, ConnectionError),
            urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5),
        ):
            return
        time.sleep(0.1)
    raise RuntimeError(f"the server on port {port} did not become ready in {START_S} s")


def _burst(clients: int, shared: int, *, is_streamed: bool = True) -> Measure:
    def measure(port: int, seed: int) -> load.Load:
        texts = load.prompts(clients, PROMPT, shared, seed=seed * 1000 + shared)
        return load.burst(port, texts, TOKENS, serve_model.ALIAS, is_streamed=is_streamed)

    return measure


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(value, 3) for value in values]
