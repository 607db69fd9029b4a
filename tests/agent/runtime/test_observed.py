"""How fast a model is here is learnt from requests that ran alone, and from no others."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import ExitStack
from dataclasses import replace
from statistics import median_low
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulators.waiting import until
from simulators.workbench import Bench
from sprat_agent.runtime.faults import (
    AnswerError,
    EngineFailedError,
    ModelUnloadedError,
    RequestRefusedError,
    WorkerCrashedError,
)
from sprat_agent.runtime.observed import (
    ANSWERED,
    FAILED,
    LEAST_DECODED,
    LEAST_TTFT,
    MOST_MODELS,
    NO_TRAFFIC,
    TTFT_WINDOW,
    WINDOW,
    Observed,
    UnderWay,
    traffic_of,
)
from sprat_agent.runtime.wire import Done, Request, Text
from sprat_agent.sync.ports import Loadable, SeenRates
from sprat_proto.probes import Traffic

ASKED = Request(Text("x"))


def done(**changes: Any) -> Done:
    """Return an answer of 10 tokens a second to a prompt of 200 tokens a second."""
    said: dict[str, Any] = {
        "id": 1,
        "finish": "stop",
        "prompt_tokens": 100,
        "completion_tokens": 21,
        "prefill_ms": 500.0,
        "decode_ms": 2000.0,
    }
    return Done(**{**said, **changes})


def note(observed: Observed, answer: Done, request: Request = ASKED, digest: str = "d") -> None:
    with observed.request() as mine:
        observed.note(digest, request, answer, mine)


def test_an_answer_alone_says_how_fast_its_model_is() -> None:
    observed = Observed()
    assert observed.of("d") == SeenRates()
    note(observed, done())
    assert observed.of("d") == SeenRates(10_000, 200_000, 1)
    assert observed.of("e") == SeenRates()


def test_the_median_of_the_newest_counts() -> None:
    observed = Observed()
    for _ in range(WINDOW):
        note(observed, done(decode_ms=1.0))
    for took_ms in (1000.0, 2000.0, 4000.0) * WINDOW:
        note(observed, done(decode_ms=took_ms))
    assert observed.of("d").decode_milli_tps == 10_000
    assert observed.of("d").samples == WINDOW


@pytest.mark.parametrize(
    ("answer", "request_", "expected"),
    [
        (done(finish="cancelled"), ASKED, SeenRates()),
        (done(), Request(Text("x"), adapter="french"), SeenRates()),
        (done(completion_tokens=LEAST_DECODED), ASKED, SeenRates(0, 200_000, 1)),
        (done(drafted_tokens=1), ASKED, SeenRates(0, 200_000, 1)),
        (done(cached_tokens=37), ASKED, SeenRates(10_000, 0, 1)),
        (done(prefill_ms=0.0, decode_ms=0.0), ASKED, SeenRates()),
    ],
)
def test_what_says_nothing_of_the_model_is_left_out(
    answer: Done, request_: Request, expected: SeenRates
) -> None:
    observed = Observed()
    note(observed, answer, request_)
    assert observed.of("d") == expected


@given(st.lists(st.sampled_from(["begin", "end"]), max_size=30))
def test_of_two_that_overlap_none_is_alone(steps: list[str]) -> None:
    observed = Observed()
    open_: list[tuple[int, ExitStack, UnderWay]] = []
    overlapped: set[int] = set()
    for number, step in enumerate(steps):
        if step == "begin":
            stack = ExitStack()
            open_.append((number, stack, stack.enter_context(observed.request())))
            if len(open_) > 1:
                overlapped |= {one for one, _, _ in open_}
        elif open_:
            which, stack, mark = open_.pop(0)
            stack.close()
            assert mark.is_alone == (which not in overlapped)


@given(st.lists(st.floats(1.0, 1e6), min_size=1, max_size=3 * WINDOW))
def test_medians_are_those_of_a_bounded_window(took: list[float]) -> None:
    observed = Observed()
    for one in took:
        note(observed, done(decode_ms=one))
    rates = [max(1, round(20 * 1e6 / one)) for one in took[-WINDOW:]]
    assert observed.of("d").decode_milli_tps == median_low(rates)
    assert observed.of("d").samples == min(len(took), WINDOW)


def test_the_models_that_answered_last_are_kept() -> None:
    observed = Observed()
    for number in range(MOST_MODELS + 1):
        note(observed, done(), digest=f"m{number}")
        note(observed, done(), digest="m0")
    assert observed.of("m1") == SeenRates()
    assert observed.of("m0").samples == MOST_MODELS + 2
    assert observed.of(f"m{MOST_MODELS}").samples == 1


async def test_what_runs_tells_what_its_worker_was_seen_to_do(bench: Bench, one: Loadable) -> None:
    await bench.supervisor.load_committed(one)
    await asyncio.gather(bench.ask("word " * 21), bench.ask("word " * 21))
    assert bench.supervisor.running()[0].seen == SeenRates()
    await bench.ask("word " * 21)  # which takes the scripted engine a millisecond
    seen = SeenRates(20_000_000, 0, 1)
    assert (bench.supervisor.running()[0].seen, bench.supervisor.seen(one.digest)) == (seen, seen)


@pytest.mark.parametrize(
    ("answer", "fault", "expected"),
    [
        (done(), None, Traffic(1, 0, 1, 20, 2_000_000)),
        (done(completion_tokens=LEAST_DECODED), None, ANSWERED),
        (done(drafted_tokens=1), None, ANSWERED),
        (done(finish="cancelled"), None, NO_TRAFFIC),
        (None, None, NO_TRAFFIC),  # whoever asked went away
        (None, EngineFailedError("told to"), FAILED),
        (None, WorkerCrashedError("it died"), FAILED),
        (None, ModelUnloadedError("superseded"), NO_TRAFFIC),
        (None, RequestRefusedError("context_length_exceeded", "too long"), NO_TRAFFIC),
    ],
)
def test_what_a_request_shows_of_its_model(
    answer: Done | None, fault: AnswerError | None, expected: Traffic
) -> None:
    assert traffic_of(ASKED, answer, fault, UnderWay(is_alone=True)) == expected


def test_a_rate_beside_others_or_of_an_adapter_is_none_of_the_model() -> None:
    assert traffic_of(ASKED, done(), None, UnderWay(is_alone=False)) == ANSWERED
    adapted = Request(Text("x"), adapter="a")
    assert traffic_of(adapted, done(), None, UnderWay(is_alone=True)) == ANSWERED


def test_a_95th_percentile_is_of_the_newest_waits_and_of_enough() -> None:
    observed = Observed()
    for number in range(LEAST_TTFT - 1):
        observed.note_ttft("d", ASKED, done(), 1.0 + number)
    assert observed.ttft_p95_ms("d") == 0
    observed.note_ttft("d", ASKED, done(finish="cancelled"), 1.0)
    observed.note_ttft("d", Request(Text("x"), adapter="a"), done(), 1.0)
    assert observed.ttft_p95_ms("d") == 0
    observed.note_ttft("d", ASKED, done(), 9000.0)
    assert observed.ttft_p95_ms("d") == 19  # one late answer of 20 is none of 95 %
    for _ in range(TTFT_WINDOW):
        observed.note_ttft("d", ASKED, done(), 5.4)
    assert observed.ttft_p95_ms("d") == 5
    assert observed.ttft_p95_ms("e") == 0


async def test_metrics_are_of_the_committed_model_and_of_its_candidate(
    bench: Bench, one: Loadable
) -> None:
    await bench.supervisor.load_committed(one)
    for _ in range(LEAST_TTFT):
        await bench.ask("word " * 21)
    await bench.supervisor.load_candidate(replace(one, release="2.0.0", digest="b" * 64))
    committed, candidate = bench.supervisor.metrics()
    assert (committed.alias, committed.digest) == (one.alias, one.digest)
    assert (committed.requests, committed.errors, committed.crashes) == (LEAST_TTFT, 0, 0)
    assert committed.decode_milli_tps == 20_000_000
    assert committed.ttft_p95_ms > 0
    assert committed.peak_bytes > 1 << 20
    assert committed.declared_bytes > 0
    assert (candidate.digest, candidate.requests, candidate.ttft_p95_ms) == ("b" * 64, 0, 0)


async def test_metrics_count_what_crashed_and_remember_a_peak(bench: Bench, one: Loadable) -> None:
    bench.crashes.do_count = True
    await bench.supervisor.load_committed(one)
    peak = bench.supervisor.metrics()[0].peak_bytes
    os.kill(bench.pid(), signal.SIGKILL)
    await until(lambda: bench.supervisor.metrics()[0].crashes)
    assert bench.supervisor.metrics()[0].peak_bytes >= peak
