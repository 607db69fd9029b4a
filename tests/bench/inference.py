"""Figures of inference against llama.cpp's own server, in alternating pairs of one run."""

from __future__ import annotations

import contextlib
import queue
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import bootstrap
import llama_server
import load
import qwen_shape
import serve_model
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
THROUGHPUT_BOUND: Final = 1.0
PREFIX_THROUGHPUT_BOUND: Final = 2.0
PREFIX_TTFT_BOUND: Final = 0.4
OVERHEAD_US_BOUND: Final = 150.0
OVERHEAD_SHARE_BOUND: Final = 0.01

Measure = Callable[[int, int], load.Load]  # port, seed


def figures() -> Iterator[Figure]:
    """Yield the figures of this area, each as it is measured."""
    model = qwen_shape.write(bootstrap.wheel_cache().parents[1] / "bench")
    yield from overhead(model)
    program = llama_server.build()
    with theirs(program, model) as their_port, ours(model) as our_port:
        for port in (their_port, our_port):
            _burst(1, 0)(port, 0)  # the first request of a process pays for its pages
        yield from pairs("independent_prompts", _burst(CLIENTS, 0), their_port, our_port)
        yield from pairs("shared_prefix", _burst(CLIENTS, SHARED), their_port, our_port)
        yield from pairs("one_client", _burst(1, 0), their_port, our_port)


def pairs(name: str, measure: Measure, their_port: int, our_port: int) -> Iterator[Figure]:
    """Measure both, the other one first each time; yield the medians of the pairs' ratios."""
    mine: list[load.Load] = []
    others: list[load.Load] = []
    for number in range(PAIRS):
        turns = [(others, their_port), (mine, our_port)]
        for kept, port in turns if number % 2 == 0 else reversed(turns):
            kept.append(measure(port, 1 + number))
    rates = [a.tokens_per_s / b.tokens_per_s for a, b in zip(mine, others, strict=True)]
    waits = [a.ttft_s / b.ttft_s for a, b in zip(mine, others, strict=True)]
    is_shared = name == "shared_prefix"
    yield Figure(
        f"{name}_tokens_per_s_vs_llama_server",
        statistics.median(rates),
        "ratio",
        PREFIX_THROUGHPUT_BOUND if is_shared else THROUGHPUT_BOUND,
        at_least=True,
        detail={
            "pairs": _rounded(rates),
            "sprat_tokens_per_s": _rounded([one.tokens_per_s for one in mine]),
            "llama_server_tokens_per_s": _rounded([one.tokens_per_s for one in others]),
        },
    )
    if is_shared:
        yield Figure(
            f"{name}_ttft_vs_llama_server",
            statistics.median(waits),
            "ratio",
            PREFIX_TTFT_BOUND,
            detail={
                "pairs": _rounded(waits),
                "sprat_s": _rounded([one.ttft_s for one in mine]),
                "llama_server_s": _rounded([one.ttft_s for one in others]),
            },
        )


def overhead(model: Path) -> Iterator[Figure]:
    """Time in Python between two calls of llama.cpp, with as many answers as clients at once."""
    scheduler, said = Scheduler(LlamaBackend()), queue.SimpleQueue[Answer]()

    def take(answers: Sequence[Answer]) -> None:
        for one in answers:
            said.put(one)

    source = Load(str(model), CONTEXT, usable_cores(), qwen_shape.TEMPLATE, slots=CLIENTS)
    scheduler.load(source, take)
    for number, text in enumerate(load.prompts(CLIENTS, PROMPT, 0, seed=0)):
        request = Request(Text(text), Sampling(temperature=0), max_tokens=TOKENS)
        scheduler.submit(number, request)
    left = CLIENTS
    while left:
        left -= not isinstance(said.get(timeout=START_S), Piece)
    seen = scheduler.figures()
    scheduler.close()
    per_token_us = seen.schedule_s / seen.decode_tokens * 1e6
    share = seen.schedule_s / (seen.schedule_s + seen.decode_s)
    yield Figure("scheduler_overhead", per_token_us, "us/token", OVERHEAD_US_BOUND)
    yield Figure("scheduler_share_of_step", share, "ratio", OVERHEAD_SHARE_BOUND)


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
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    command = [program, "-m", model, "--port", str(port), "--host", "127.0.0.1"]
    command += ["-t", str(usable_cores()), "-np", str(CLIENTS), "-c", str(CLIENTS * CONTEXT)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            _wait_until_ready(port)
            yield port
        finally:
            process.terminate()


def _wait_until_ready(port: int) -> None:
    ends = time.monotonic() + START_S
    while time.monotonic() < ends:
        with (
            contextlib.suppress(urllib.error.URLError, ConnectionError),
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5),
        ):
            return
        time.sleep(0.1)
    raise RuntimeError(f"llama-server did not become ready in {START_S} s")


def _burst(clients: int, shared: int) -> Measure:
    def measure(port: int, seed: int) -> load.Load:
        texts = load.prompts(clients, PROMPT, shared, seed=seed * 1000 + shared)
        return load.burst(port, texts, TOKENS, serve_model.ALIAS)

    return measure


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(value, 3) for value in values]
