"""The probe: is the candidate what its publisher says, here?

It asks the golden prompts, scores the signed text and measures meanwhile; `sprat_proto.probes` says
what is held against it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from time import monotonic
from typing import Final, NoReturn, TypeAlias

from msgspec.structs import replace
from sprat_proto import probes
from sprat_proto.manifest import Activation, GoldenPrompt
from sprat_proto.probes import Before, Breach, FailedCheck, ProbeResult, ScoredText
from sprat_proto.states import ReasonCode

from sprat_agent.runtime.faults import AnswerError, ModelUnloadedError, WorkerCrashedError
from sprat_agent.runtime.hosted import HostedModel
from sprat_agent.runtime.observed import UnderWay
from sprat_agent.runtime.process import Ask, Order, Scoring, peak_bytes
from sprat_agent.runtime.wire import Conversation, Done, Message, Piece, Request, Sampling
from sprat_agent.sync.ports import ExecutionError, Probed

FOUND_LENGTH: Final = probes.MAX_SAID  # characters of the answer that travel in the reason

# Asked where the publisher gave no golden prompt: a model that loads may yet fail to decode.
_GREEDY: Final = Sampling(temperature=0)
SIGN_OF_LIFE: Final = Request(
    Conversation((Message("user", "Hello"),)), _GREEDY, max_tokens=1, is_fresh=True
)
_VERBS: Final = {"equals": "be", "contains": "contain", "schema": "be JSON by"}
_MOST_SURPRISE: Final = 20.0  # nats a token; e to that is no use as a perplexity any more

_Open: TypeAlias = Callable[[], AbstractContextManager[UnderWay]]


async def probe(
    candidate: HostedModel, activation: Activation, before: Before, under_way: _Open
) -> Probed:
    """Put the candidate to its proof.

    Args:
        candidate: It is loaded.
        activation: What its publisher signed.
        before: What the figures are compared with.
        under_way: See `Observed.request`: what is asked at the same time tells no rates.

    Returns:
        What was measured, and PROBE_FAILED with expected and found or WORKER_CRASHED, if it failed.
    """
    proving = _Proving(candidate, activation, before, under_way)
    fault: ExecutionError | None = None
    try:
        async with asyncio.timeout(activation.probe_timeout_s):
            await proving.run()
    except TimeoutError:
        fault = proving.score_fault() or _out_of_time(candidate, activation.probe_timeout_s)
    except ExecutionError as error:
        fault = error
    return Probed(await proving.result(), fault)


def question(golden: GoldenPrompt) -> Request:
    """Return the request that asks a golden prompt, greedily and with nothing reused."""
    return Request(
        Conversation((Message("user", golden.prompt),)),
        _GREEDY,
        max_tokens=golden.max_tokens,
        is_fresh=True,
    )


def judge(golden: GoldenPrompt, answer: str) -> ExecutionError | None:
    """Return why the answer is not the expected one, or None. White space around does not count."""
    if probes.matches(answer, golden.match, golden.expect):
        return None
    expected, found = golden.expect.strip(), answer.strip()
    return ExecutionError(
        ReasonCode.PROBE_FAILED,
        f"the answer to the golden prompt {_short(golden.prompt, 60)!r} is to"
        f" {_VERBS[golden.match]} {_short(expected, 60)!r}; it was {_short(found, 60)!r}",
        expected=_short(expected, FOUND_LENGTH),
        found=_short(found, FOUND_LENGTH),
    )


@dataclass
class _Times:
    """What answers took, by the engine's own clock."""

    decoded: int = 0  # tokens after the first of each answer
    decode_ms: float = 0.0
    ttft_ms: float = 0.0  # the longest

    def note(self, done: Done) -> None:
        self.ttft_ms = max(self.ttft_ms, done.prefill_ms)
        if not done.drafted_tokens:  # how fast guessed tokens come says nothing of others
            self.decoded += max(0, done.completion_tokens - 1)
            self.decode_ms += done.decode_ms

    @property
    def decode_milli_tps(self) -> int:
        """The rate over all answers together; 0: too few tokens."""
        if self.decoded < probes.LEAST_DECODED or self.decode_ms <= 0:
            return 0
        return round(self.decoded * 1e6 / self.decode_ms)


@dataclass
class Answers:
    """What the answers to the golden prompts showed so far."""

    asked: int = 0
    passed: int = 0
    failed_weight: int = 0
    passed_weight: int = 0
    alone: _Times = field(default_factory=_Times)
    beside: _Times = field(default_factory=_Times)  # other requests, which slow each other down
    fault: ExecutionError | None = None  # of the first that was not as expected
    failed: tuple[FailedCheck, ...] = ()

    def note(self, golden: GoldenPrompt, answer: str, done: Done, *, is_alone: bool) -> None:
        """Judge an answer and learn from its times."""
        fault = judge(golden, answer)
        self.asked += 1
        self.passed += fault is None
        self.passed_weight += golden.counts if fault is None else 0
        self.failed_weight += golden.counts if fault else 0
        self.fault = self.fault or fault
        if fault:
            check = FailedCheck(_short(golden.prompt, FOUND_LENGTH), fault.expected, fault.found)
            self.failed += (check,)
        (self.alone if is_alone else self.beside).note(done)

    @property
    def decode_milli_tps(self) -> int:
        """The rate of answers that were alone; of the others where too few were."""
        return self.alone.decode_milli_tps or self.beside.decode_milli_tps

    @property
    def ttft_ms(self) -> int:
        """Of the slowest answer that was alone; of the others where none was."""
        return round(self.alone.ttft_ms or self.beside.ttft_ms)


class _Proving:
    """One probe on its way."""

    def __init__(
        self, candidate: HostedModel, activation: Activation, before: Before, under_way: _Open
    ) -> None:
        self._candidate = candidate
        self._under_way = under_way
        self._golden = activation.probe
        self._proof = activation.terms
        self._before = before
        self._answers = Answers()
        self._began = monotonic()
        self._measured = ProbeResult()
        self._broken: tuple[FailedCheck, ...] = ()  # bounds

    async def run(self) -> None:
        """Raise an ExecutionError for what is not as it must be."""
        if not self._golden:
            await self._answer(SIGN_OF_LIFE)
        for golden in self._golden:
            with self._under_way() as mine:
                answer, done = await self._answer(question(golden))
            self._answers.note(golden, answer, done, is_alone=mine.is_alone)
        if fault := self.score_fault():
            raise fault
        if text := self._proof.text:
            await self._score(text)
            self._hold(probes.breach_of_text(text, self._measured))
        measured = await self.result()
        self._hold(probes.breach_of_bounds(self._proof.bounds, measured, self._before))

    def score_fault(self) -> ExecutionError | None:
        """Return that too many answers were not as expected to pass any more, or None."""
        answers, least = self._answers, self._proof.min_score_permille
        total = sum(golden.counts for golden in self._golden)
        best = probes.score_permille(total - answers.failed_weight, total)
        if best >= least or answers.fault is None:
            return None
        if answers.asked == 1:
            return answers.fault
        return ExecutionError(
            answers.fault.code,
            f"{answers.passed} of {answers.asked} golden prompts were answered as expected, a"
            f" score of at most {best} of 1000 where {least} are the least; the first that was"
            f" not: {answers.fault.message}",
            expected=answers.fault.expected,
            found=answers.fault.found,
        )

    async def result(self) -> ProbeResult:
        """Return what was measured so far."""
        answers, pid = self._answers, self._candidate.pid
        total = sum(golden.counts for golden in self._golden)
        return replace(
            self._measured,
            score_permille=probes.score_permille(answers.passed_weight, total),
            prompts=answers.asked,
            passed=answers.passed,
            decode_milli_tps=answers.decode_milli_tps,
            ttft_ms=answers.ttft_ms,
            peak_bytes=await asyncio.to_thread(peak_bytes, pid) if pid else 0,
            took_ms=round((monotonic() - self._began) * 1000),
            failed=(*self._broken, *answers.failed)[: probes.MOST_FAILED],
        )

    async def _score(self, text: ScoredText) -> None:
        chunk = probes.chunk_of(self._candidate.loadable.facts.context_length)
        ask = self._ask(Scoring(text.text, chunk, text.tokens))
        try:
            with self._under_way():
                scored = await ask.score()
        except AnswerError as error:
            _give_up(self._candidate, error, "have the signed text scored")
        finally:
            ask.cancel()
        surprise = min(scored.surprise / scored.tokens, _MOST_SURPRISE)
        self._measured = replace(
            self._measured,
            perplexity_milli=round(math.exp(surprise) * 1000),
            scored_tokens=scored.tokens,
        )

    def _hold(self, breach: Breach | None) -> None:
        if breach:
            self._broken += (FailedCheck(breach.bound, breach.expected, breach.found),)
            raise ExecutionError(
                ReasonCode.PROBE_FAILED,
                f"{self._candidate.loadable.name}: {breach.message}",
                expected=breach.expected,
                found=breach.found,
            )

    async def _answer(self, request: Request) -> tuple[str, Done]:
        if self._candidate.worker is None or not self._candidate.is_ready:
            raise ExecutionError(ReasonCode.WORKER_CRASHED, await self._candidate.died())
        ask = self._ask(request)
        text = ""
        try:
            async for one in ask:
                if isinstance(one, Piece):
                    text += one.text
                else:
                    return text, one
        except AnswerError as error:
            _give_up(self._candidate, error, "answer a golden prompt")
        finally:
            ask.cancel()
        raise AssertionError("an answer ends with Done or an error")

    def _ask(self, order: Order | Scoring) -> Ask:
        if self._candidate.worker is None:
            message = f"{self._candidate.loadable.name} was ended while it was probed"
            raise ExecutionError(ReasonCode.WORKER_CRASHED, message)
        return self._candidate.worker.ask(order)


def _out_of_time(candidate: HostedModel, limit_s: int) -> ExecutionError:
    return ExecutionError(
        ReasonCode.PROBE_FAILED,
        f"{candidate.loadable.name} is to answer its golden prompts in {limit_s} s; it did not",
        expected=f"answers in {limit_s} s",
        found="no answer in time",
    )


def _give_up(candidate: HostedModel, error: AnswerError, what: str) -> NoReturn:
    if isinstance(error, WorkerCrashedError | ModelUnloadedError):
        raise ExecutionError(ReasonCode.WORKER_CRASHED, error.message) from error
    message = f"{candidate.loadable.name} cannot {what}: {error.message}"
    raise ExecutionError(ReasonCode.PROBE_FAILED, message) from error


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
