"""The probe: does the candidate give the answers that its publisher expects?"""

from __future__ import annotations

import asyncio
from typing import Final

from sprat_proto.manifest import Activation, GoldenPrompt
from sprat_proto.states import ReasonCode

from sprat_agent.runtime.faults import AnswerError, ModelUnloadedError, WorkerCrashedError
from sprat_agent.runtime.hosted import HostedModel
from sprat_agent.runtime.wire import Conversation, Message, Piece, Request, Sampling
from sprat_agent.sync.ports import ExecutionError

FOUND_LENGTH: Final = 200  # characters of the answer that travel in the reason

# Asked where the publisher gave no golden prompt: a model that loads may yet fail to decode.
_GREEDY: Final = Sampling(temperature=0)
SIGN_OF_LIFE: Final = Request(
    Conversation((Message("user", "Hello"),)), _GREEDY, max_tokens=1, is_fresh=True
)


async def probe(candidate: HostedModel, activation: Activation) -> None:
    """Ask the candidate its golden prompts.

    Raises:
        ExecutionError: PROBE_FAILED with expected and found, or WORKER_CRASHED.
    """
    limit_s = activation.probe_timeout_s
    try:
        async with asyncio.timeout(limit_s):
            if not activation.probe:
                await _answer(candidate, SIGN_OF_LIFE)
            for golden in activation.probe:
                fault = judge(golden, await _answer(candidate, question(golden)))
                if fault:
                    raise fault
    except TimeoutError as error:
        raise ExecutionError(
            ReasonCode.PROBE_FAILED,
            f"{candidate.loadable.name} is to answer its golden prompts in {limit_s} s; it did not",
            expected=f"answers in {limit_s} s",
            found="no answer in time",
        ) from error


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
    expected, found = golden.expect.strip(), answer.strip()
    matches = found == expected if golden.match == "equals" else expected in found
    if matches:
        return None
    verb = "be" if golden.match == "equals" else "contain"
    return ExecutionError(
        ReasonCode.PROBE_FAILED,
        f"the answer to the golden prompt {_short(golden.prompt, 60)!r} is to {verb}"
        f" {_short(expected, 60)!r}; it was {_short(found, 60)!r}",
        expected=_short(expected, FOUND_LENGTH),
        found=_short(found, FOUND_LENGTH),
    )


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


async def _answer(candidate: HostedModel, request: Request) -> str:
    if candidate.worker is None or not candidate.is_ready:
        raise ExecutionError(ReasonCode.WORKER_CRASHED, await candidate.died())
    ask = candidate.worker.ask(request)
    try:
        return "".join([one.text async for one in ask if isinstance(one, Piece)])
    except (WorkerCrashedError, ModelUnloadedError) as error:
        raise ExecutionError(ReasonCode.WORKER_CRASHED, error.message) from error
    except AnswerError as error:
        message = f"{candidate.loadable.name} cannot answer a golden prompt: {error.message}"
        raise ExecutionError(ReasonCode.PROBE_FAILED, message) from error
    finally:
        ask.cancel()
