"""How fast models answered real requests here, each alone: medians of the newest ones.

What other requests slow down says nothing of a model: neither does an answer whose tokens were
guessed from its prompt, or that was made with an adapter. Counts and times only.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median_low
from typing import Final

from sprat_proto.probes import Traffic

from sprat_agent.runtime.faults import AnswerError, EngineFailedError, WorkerCrashedError
from sprat_agent.runtime.wire import Done, Request
from sprat_agent.sync.ports import SeenRates

WINDOW: Final = 64  # of the newest answers
TTFT_WINDOW: Final = 256
LEAST_TTFT: Final = 20  # fewer have no 95th percentile
MOST_MODELS: Final = 32  # those that answered last
LEAST_DECODED: Final = 16  # tokens after the first, which ends the prompt's time
LEAST_PROMPT: Final = 64  # tokens that were computed
_MILLI: Final = 1000
NO_TRAFFIC: Final = Traffic()
ANSWERED: Final = Traffic(requests=1)
FAILED: Final = Traffic(requests=1, errors=1)


@dataclass(eq=False)
class UnderWay:
    """A request from its arrival to its end."""

    is_alone: bool


@dataclass
class _Window:
    """The newest rates of one model, in thousandths of a token a second."""

    decode: deque[int] = field(default_factory=lambda: deque(maxlen=WINDOW))
    prefill: deque[int] = field(default_factory=lambda: deque(maxlen=WINDOW))
    ttft_ms: deque[float] = field(default_factory=lambda: deque(maxlen=TTFT_WINDOW))


class Observed:
    """The rates of this device's models, by digest; each start of the agent begins anew."""

    def __init__(self) -> None:
        self._open: set[UnderWay] = set()
        self._windows: dict[str, _Window] = {}

    @contextmanager
    def request(self) -> Generator[UnderWay]:
        """Let a request be under way: of two that overlap, on whatever models, none is alone."""
        for one in self._open:
            one.is_alone = False
        mine = UnderWay(is_alone=not self._open)
        self._open.add(mine)
        try:
            yield mine
        finally:
            self._open.discard(mine)

    def note(self, digest: str, request: Request, done: Done, mine: UnderWay) -> None:
        """Learn from an answer, if it says how fast its model is here."""
        if not mine.is_alone or request.adapter or done.finish == "cancelled":
            return
        window = self._window(digest)
        if tells_decode_rate(done):
            _add(window.decode, done.completion_tokens - 1, done.decode_ms)
        computed = done.prompt_tokens - done.cached_tokens
        if computed >= LEAST_PROMPT:
            _add(window.prefill, computed, done.prefill_ms)

    def note_ttft(self, digest: str, request: Request, done: Done, ttft_ms: float) -> None:
        """Learn how long an application waited for the first text; the queue counts."""
        if not request.adapter and done.finish != "cancelled":
            self._window(digest).ttft_ms.append(ttft_ms)

    def ttft_p95_ms(self, digest: str) -> int:
        """Return what 95 of 100 waits are not longer than; 0: too few are known."""
        window = self._windows.get(digest)
        if window is None or len(window.ttft_ms) < LEAST_TTFT:
            return 0
        waits = sorted(window.ttft_ms)
        return max(1, round(waits[math.ceil(len(waits) * 0.95) - 1]))

    def of(self, digest: str) -> SeenRates:
        """Return the medians of a model; nothing where nothing was seen."""
        window = self._windows.get(digest)
        if window is None:
            return SeenRates()
        return SeenRates(
            decode_milli_tps=_median(window.decode),
            prefill_milli_tps=_median(window.prefill),
            samples=max(len(window.decode), len(window.prefill)),
        )

    def _window(self, digest: str) -> _Window:
        """Return a model's window, the last of all now; the one of longest ago is forgotten."""
        window = self._windows.pop(digest, None) or _Window()
        self._windows[digest] = window
        if len(self._windows) > MOST_MODELS:
            del self._windows[next(iter(self._windows))]
        return window


def tells_decode_rate(done: Done) -> bool:
    """Tell whether an answer, made alone, says how fast its model decodes."""
    return done.completion_tokens > LEAST_DECODED and not done.drafted_tokens


def traffic_of(
    request: Request, done: Done | None, fault: AnswerError | None, mine: UnderWay
) -> Traffic:
    """Return what a request shows of the model that took it; see `Traffic`.

    Args:
        request: What was asked.
        done: The end of its answer, if it had one.
        fault: Why it had none, if it was answered with that.
        mine: Whether it was alone.
    """
    if fault:
        return FAILED if is_models_fault(fault) else NO_TRAFFIC
    if done is None or done.finish == "cancelled":
        return NO_TRAFFIC
    if request.adapter or not mine.is_alone or not tells_decode_rate(done):
        return ANSWERED
    took_us = max(1, round(done.decode_ms * _MILLI))
    return Traffic(requests=1, rated=1, decoded=done.completion_tokens - 1, decode_us=took_us)


def is_models_fault(fault: AnswerError) -> bool:
    """Tell whether the model failed at a request, which another might not have done."""
    return isinstance(fault, EngineFailedError | WorkerCrashedError)


def _add(rates: deque[int], tokens: int, milliseconds: float) -> None:
    if milliseconds > 0:
        rates.append(max(1, round(tokens * _MILLI * _MILLI / milliseconds)))


def _median(rates: deque[int]) -> int:
    return median_low(rates) if rates else 0
