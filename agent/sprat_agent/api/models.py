"""What the local API asks of the models; `runtime.models.ServedModels` is them."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Protocol

from sprat_agent.runtime.answer import Answer, PromptLength, Vectors
from sprat_agent.runtime.served import Status
from sprat_agent.runtime.wire import Prompt, Request, Text, Tokens
from sprat_agent.sync.ports import Loadable


class Models(Protocol):
    """The models of this device."""

    def statuses(self) -> tuple[Status, ...]:
        """Return how each alias is doing, in order of alias."""
        ...

    def offered(self) -> tuple[tuple[str, Loadable], ...]:
        """Return each alias that applications may ask and the model it stands for, in order."""
        ...

    def find(self, name: str) -> Loadable:
        """Return the model that an alias, a model name or `model@release[+variant]` stands for.

        Raises:
            AnswerError: There is none, or it cannot be asked yet.
        """
        ...

    def answering(
        self, name: str, request: Request, *, is_batch: bool = False
    ) -> AbstractAsyncContextManager[Answer]:
        """Have a request answered; leaving the context stops the generation.

        Args:
            name: What is asked.
            request: And for what.
            is_batch: Nobody waits for it: others go first.

        Raises:
            AnswerError: It was not admitted; later errors come while the answer is iterated.
        """
        ...

    async def embedding(
        self,
        name: str,
        inputs: tuple[Text | Tokens, ...],
        *,
        is_truncated: bool = False,
        is_batch: bool = False,
    ) -> Vectors:
        """Have texts made into vectors, as one order.

        Args:
            name: What is asked.
            inputs: The texts.
            is_truncated: One that is too long is cut, not refused.
            is_batch: Nobody waits for them: others go first.

        Raises:
            AnswerError: They were not admitted, or the model cannot do this.
        """
        ...

    async def counting(self, name: str, prompt: Prompt, *, is_batch: bool = False) -> PromptLength:
        """Have the tokens of a prompt counted; a model that is not in memory is loaded for it.

        Raises:
            AnswerError: It was not admitted, or the model takes no such prompt.
        """
        ...
