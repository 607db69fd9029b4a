"""What the local API asks of the models: which there are, and their answers.

Nothing here but asking for an answer loads a model, or makes one look used.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager

from sprat_agent.runtime.answer import Answer, PromptLength, Vectors, count, embed
from sprat_agent.runtime.faults import ModelNotFoundError
from sprat_agent.runtime.observed import Observed
from sprat_agent.runtime.process import Counting, Inputs
from sprat_agent.runtime.served import ServedAlias, Status
from sprat_agent.runtime.wire import Done, Prompt, Request, Text, Tokens
from sprat_agent.sync.ports import Loadable, SeenRates


class ServedModels:
    """The models of this device as applications see them; see `api.models.Models`."""

    def __init__(self, aliases: Mapping[str, ServedAlias]) -> None:
        self._aliases = aliases
        self._observed = Observed()

    def statuses(self) -> tuple[Status, ...]:
        """Return how each alias is doing, in order of alias."""
        return tuple(
            self._aliases[name].status()
            for name in sorted(self._aliases)
            if self._aliases[name].all_hosted()
        )

    def offered(self) -> tuple[tuple[str, Loadable], ...]:
        """Return each alias that applications may ask and the model it stands for, in order."""
        aliases = sorted(self._aliases.items())
        return tuple((name, one) for name, alias in aliases if (one := alias.offered()))

    def seen(self, digest: str) -> SeenRates:
        """Return how fast a variant answered here."""
        return self._observed.of(digest)

    def find(self, name: str) -> Loadable:
        """Return the model that a name stands for; see `answering` for the names.

        Raises:
            ModelNotFoundError: There is none, or it is not proved yet.
        """
        found = self._resolve(name)[0].offered()
        if found is None:
            raise ModelNotFoundError(
                f"the model {name[:100]!r} is being proved and not offered yet"
            )
        return found

    def _note_ttft(self, answer: Answer, request: Request, done: Done) -> None:
        if answer.ttft_ms is not None:
            self._observed.note_ttft(answer.loadable.digest, request, done, answer.ttft_ms)

    @asynccontextmanager
    async def answering(
        self, name: str, request: Request, *, is_batch: bool = False
    ) -> AsyncGenerator[Answer]:
        """Have a request answered; leaving the context stops the generation.

        Args:
            name: An alias, a model, `model@release` or `model@release+variant`.
            request: What is asked.
            is_batch: It yields to requests that somebody waits for.

        Raises:
            AnswerError: It was not admitted; later errors come while the answer is iterated.
        """
        alias, pinned = self._resolve(name)
        with self._observed.request() as under_way:
            answer = await Answer.begin(alias, request, pinned=pinned, is_batch=is_batch)
            try:
                yield answer
            finally:
                answer.stop()
                answer.note(request, under_way)
                if answer.done:
                    self._note_ttft(answer, request, answer.done)
                    alias.note(answer.done)
                    self._observed.note(answer.loadable.digest, request, answer.done, under_way)

    async def embedding(
        self,
        name: str,
        inputs: tuple[Text | Tokens, ...],
        *,
        is_truncated: bool = False,
        is_batch: bool = False,
    ) -> Vectors:
        """Have texts made into vectors, admitted as requests for an answer are.

        Args:
            name: See `answering`.
            inputs: The texts.
            is_truncated: One that is too long is cut instead of refused.
            is_batch: It yields to requests that somebody waits for.

        Raises:
            AnswerError: They were not admitted, or the model cannot do this.
        """
        alias, pinned = self._resolve(name)
        asked = Inputs(inputs, is_truncated)
        with self._observed.request():
            return await embed(alias, asked, pinned=pinned, is_batch=is_batch)

    async def counting(self, name: str, prompt: Prompt, *, is_batch: bool = False) -> PromptLength:
        """Have the tokens of a prompt counted, by the model's own template and vocabulary.

        A model that is not in memory is loaded for it. One that is counts at once, however busy.

        Args:
            name: See `answering`.
            prompt: It may be longer than the model's context.
            is_batch: It yields to requests that somebody waits for.

        Raises:
            AnswerError: It was not admitted, or the model takes no such prompt.
        """
        alias, pinned = self._resolve(name)
        return await count(alias, Counting(prompt), pinned=pinned, is_batch=is_batch)

    def _resolve(self, name: str) -> tuple[ServedAlias, str | None]:
        """Return the alias that a name stands for, and the digest if it names a release."""
        alias = self._aliases.get(name)
        if alias and alias.all_hosted():
            return alias, None
        for found, one in self.offered():
            if name == one.model:
                return self._aliases[found], None
            if name in (one.name, f"{one.model}@{one.release}"):
                return self._aliases[found], one.digest
        here = ", ".join(alias for alias, _ in self.offered()) or "none"
        raise ModelNotFoundError(f"the model {name[:100]!r} is not here; there are: {here}")
