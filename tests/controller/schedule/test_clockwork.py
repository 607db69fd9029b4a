# pyright: reportPrivateUsage=false
# A call that was due is made as the scheduler makes it.

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import timedelta
from itertools import pairwise
from typing import Any, cast

import pytest
from sprat_controller.clock import system_clock
from sprat_controller.schedule.clockwork import Clockwork, each

PATIENCE_S = 20


@contextmanager
def running(clockwork: Clockwork) -> Generator[Clockwork]:
    clockwork.start()
    try:
        yield clockwork
    finally:
        clockwork.stop()


def counter(needed: int) -> tuple[Callable[[], None], threading.Event]:
    """Return a call and what is set once it was made so often."""
    reached, calls = threading.Event(), [0]

    def call() -> None:
        calls[0] += 1
        if calls[0] >= needed:
            reached.set()

    return call, reached


def test_the_first_call_is_made_at_once() -> None:
    call, reached = counter(1)
    with running(Clockwork(call, interval_s=3600)):
        assert reached.wait(PATIENCE_S)


def test_it_calls_again_and_again() -> None:
    call, reached = counter(3)
    with running(Clockwork(call, interval_s=0.05)):
        assert reached.wait(PATIENCE_S)


def test_wake_has_the_call_made_long_before_its_time() -> None:
    call, reached = counter(3)
    calls = threading.Semaphore(0)

    def counted() -> None:
        call()
        calls.release()

    with running(Clockwork(counted, interval_s=3600, min_pause_s=0.01)) as clockwork:
        for _ in range(3):
            assert calls.acquire(timeout=PATIENCE_S)
            clockwork.wake()
        assert reached.wait(PATIENCE_S)


def test_a_wake_during_a_call_is_not_lost() -> None:
    entered, go_on, again = threading.Event(), threading.Event(), threading.Event()

    def call() -> None:
        if entered.is_set():
            again.set()
        entered.set()
        go_on.wait(PATIENCE_S)

    with running(Clockwork(call, interval_s=3600, min_pause_s=0.05)) as clockwork:
        assert entered.wait(PATIENCE_S)
        clockwork.wake()
        go_on.set()
        assert again.wait(PATIENCE_S)


def test_it_never_calls_twice_at_a_time_and_keeps_its_pause() -> None:
    """However often it is woken."""
    busy, overlaps, starts = threading.Lock(), [0], list[float]()
    enough = threading.Event()

    def call() -> None:
        if not busy.acquire(blocking=False):
            overlaps[0] += 1
            return
        starts.append(time.monotonic())
        if len(starts) >= 5:
            enough.set()
        busy.release()

    with running(Clockwork(call, interval_s=3600, min_pause_s=0.1)) as clockwork:
        deadline = time.monotonic() + PATIENCE_S
        while not enough.wait(0.001) and time.monotonic() < deadline:
            clockwork.wake()
    assert enough.is_set()
    assert overlaps == [0]
    # The pause is one of the wall clock's, which may be made to run a little faster.
    assert min(after - before for before, after in pairwise(starts)) > 0.1 * 0.98


def test_a_call_that_was_due_already_when_another_ended_waits_for_the_pause() -> None:
    """As when it was woken between the moment at which it was due and its beginning."""
    call, reached = counter(2)
    with running(Clockwork(call, interval_s=3600, min_pause_s=3600)) as clockwork:
        clockwork._tick()
        clockwork._tick()
    assert not reached.is_set()


def test_a_call_that_fails_is_logged_and_the_next_one_is_made(
    caplog: pytest.LogCaptureFixture,
) -> None:
    call, reached = counter(2)

    def failing() -> None:
        call()
        raise ValueError("the rows are on fire")

    with caplog.at_level(logging.ERROR), running(Clockwork(failing, interval_s=0.05)):
        assert reached.wait(PATIENCE_S)
    assert "the rows are on fire" in caplog.text


def test_stop_waits_for_the_call_and_makes_no_other() -> None:
    entered, ended, calls = threading.Event(), threading.Event(), [0]

    def call() -> None:
        calls[0] += 1
        entered.set()
        ended.wait(0.2)

    clockwork = Clockwork(call, interval_s=0.01)
    clockwork.wake()  # before start: nothing to bring forward
    clockwork.start()
    assert entered.wait(PATIENCE_S)
    clockwork.stop()
    made = calls[0]
    clockwork.wake()
    assert not ended.wait(0.1)
    assert calls[0] == made


def test_what_was_woken_while_it_stops_keeps_nobody_waiting() -> None:
    entered, going = threading.Event(), threading.Event()

    def call() -> None:
        entered.set()
        going.wait(PATIENCE_S)

    clockwork = Clockwork(call, interval_s=3600)
    clockwork.start()
    assert entered.wait(PATIENCE_S)
    clockwork.wake()  # so that the end of the call asks for the next one
    stopping = threading.Thread(target=clockwork.stop, daemon=True)
    stopping.start()
    lock = cast("Any", clockwork._scheduler)._jobstores_lock
    end = time.monotonic() + PATIENCE_S
    while lock.acquire(blocking=False):  # until the scheduler waits for the call
        lock.release()
        assert time.monotonic() < end
    going.set()
    stopping.join(PATIENCE_S)
    assert not stopping.is_alive()


def test_wake_at_has_the_call_made_at_that_moment_and_never_later_than_it_would_be() -> None:
    call, reached = counter(2)
    first = threading.Event()

    def counted() -> None:
        call()
        first.set()

    with running(Clockwork(counted, interval_s=3600)) as clockwork:
        assert first.wait(PATIENCE_S)
        asked = system_clock()
        clockwork.wake_at(asked + timedelta(seconds=0.3))
        clockwork.wake_at(asked + timedelta(hours=2))
        assert reached.wait(PATIENCE_S)
        assert system_clock() >= asked + timedelta(seconds=0.3)


def test_what_fails_does_not_hold_up_the_others(caplog: pytest.LogCaptureFixture) -> None:
    def fails() -> int:
        raise ValueError("of a test")

    assert each(lambda: 1, fails, lambda: 2) == [1, 2]
    assert "ValueError: of a test" in caplog.text
