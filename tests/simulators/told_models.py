"""The local API's models without any process: what they answer is told by the test."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from time import monotonic

from sprat_agent.runtime.answer import Answer, PromptLength, Vectors
from sprat_agent.runtime.faults import AnswerError, ModelNotFoundError
from sprat_agent.runtime.process import Ask
from sprat_agent.runtime.served import Condition, Status
from sprat_agent.runtime.wire import Done, Piece, Prompt, Request, Text, Tokens
from sprat_agent.sync.ports import Loadable
from sprat_proto.manifest import Facts
from sprat_proto.probes import Traffic

LOADABLE = Loadable(
    alias="assistant",
    model="tiny",
    release="1.0.0",
    variant="q4_0",
    digest="ab" * 32,
    signer="Ålesund (0123456789ab)",
    files=(),
    facts=Facts("llama", "q4_0", 1, 1, 1, 1, 1, 1, 1, 1, 1, 1),
    context=256,
    chat_template="",
)
DONE = Done(1, "stop", 3, 2, 10.0, 20.0)


class ToldModels:
    """One alias, `assistant`; see `api.models.Models`."""

    def __init__(self) -> None:
        # Text, or a whole piece; None: never ends.
        self.script: Sequence[str | Piece | AnswerError | None] = ("Hello ", "there")
        self.done = DONE
        self.loadable = LOADABLE
        self.refusal: AnswerError | None = None
        self.reason = ""  # why it cannot answer
        self.asked: list[tuple[str, Request]] = []
        self.traffic: list[Traffic] = []  # what the answers showed
        self.batches: list[bool] = []  # for each asked: whether nobody waits for it
        self.embedded: list[tuple[str, tuple[Text | Tokens, ...], bool]] = []
        self.counted: list[tuple[str, Prompt]] = []
        self.has_begun = asyncio.Event()
        self.cancelled = asyncio.Event()

    def statuses(self) -> tuple[Status, ...]:
        """Return the one alias's status."""
        condition = Condition.RESTARTING if self.reason else Condition.READY
        can_answer = not self.reason
        status = Status(
            "assistant", self.loadable, None, condition, can_answer, self.reason, 0, 4711, None
        )
        return (status,)

    def offered(self) -> tuple[tuple[str, Loadable], ...]:
        """Return the one alias."""
        return (("assistant", self.loadable),)

    def find(self, name: str) -> Loadable:
        """Return the one model."""
        if name not in {"assistant", "tiny", "tiny@1.0.0"}:
            raise ModelNotFoundError(f"the model {name!r} is not here; there are: assistant")
        return self.loadable

    @asynccontextmanager
    async def answering(
        self, name: str, request: Request, *, is_batch: bool = False
    ) -> AsyncGenerator[Answer]:
        """Answer as told."""
        found = self.find(name)
        if self.refusal:
            raise self.refusal
        self.asked.append((name, request))
        self.batches.append(is_batch)
        self.has_begun.set()
        ask = Ask(1, self._cancel)
        for step in self.script:
            if step is None:
                break
            ask.take(Piece(1, step) if isinstance(step, str) else step)
        else:
            if not ask.is_over:
                ask.take(self.done)
        answer = Answer(found, ask, monotonic(), self.traffic.append)
        try:
            yield answer
        finally:
            answer.stop()

    async def embedding(
        self,
        name: str,
        inputs: tuple[Text | Tokens, ...],
        *,
        is_truncated: bool = False,
        is_batch: bool = False,
    ) -> Vectors:
        """Return a vector of two numbers for each text: its place in this order, and 0.5."""
        found = self.find(name)
        if self.refusal:
            raise self.refusal
        self.embedded.append((name, inputs, is_truncated))
        self.batches.append(is_batch)
        vectors = tuple(struct.pack("<2f", at, 0.5) for at in range(len(inputs)))
        return Vectors(found, vectors, len(inputs) * 2)

    async def counting(self, name: str, prompt: Prompt, *, is_batch: bool = False) -> PromptLength:
        """Say that each prompt has 11 tokens."""
        found = self.find(name)
        if self.refusal:
            raise self.refusal
        self.counted.append((name, prompt))
        self.batches.append(is_batch)
        return PromptLength(found, 11)

    def _cancel(self, request_id: int) -> None:
        assert request_id == 1
        self.cancelled.set()
