"""From what a request asks to the tokens that the model is given.

A text gets the beginning, and the end, that the model's own rule says. A conversation is what the
release's template makes of it and no more: templates write the beginning themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sprat_agent.runtime.wire import Conversation, Message, Prompt, Text, Tokens
from sprat_agent.worker.engine import EngineError
from sprat_agent.worker.prompting.formats import format_of
from sprat_agent.worker.prompting.teaching import taught
from sprat_agent.worker.prompting.template import ChatTemplate
from sprat_agent.worker.prompting.turns import described, turns
from sprat_agent.worker.vocabulary import Vocabulary


class Prompts:
    """Makes prompts for one model, by the template that its release signs."""

    def __init__(self, vocabulary: Vocabulary, template: str) -> None:
        """Compile the template; an empty one means that the model takes no messages.

        Raises:
            EngineError: load_failed: it is not Jinja, or takes too much to compile.
        """
        self._vocabulary = vocabulary
        self._template = ChatTemplate(template) if template else None
        self._format = format_of(template)

    def tokens(self, prompt: Prompt, context: int) -> list[int]:
        """Return the prompt's tokens, which leave room for one more in the context.

        Raises:
            EngineError: messages_refused, or context_length_exceeded.
        """
        match prompt:
            case Conversation():
                tokens = self._cut(self._render(prompt))
            case Text(text=text):
                tokens = self._vocabulary.framed(self._cut(text))
            case Tokens(tokens=given):
                tokens = self._known(given)
        return _fitting(tokens, context)

    def text(self, given: Text | Tokens, context: int, *, is_truncated: bool) -> list[int]:
        """Return the tokens of a text to make a vector of, which may fill the context.

        Args:
            given: The text; a beginning and an end are put to tokens as well.
            context: In tokens.
            is_truncated: What is too long loses its last tokens, and keeps its end.

        Raises:
            EngineError: messages_refused, or context_length_exceeded.
        """
        tokens = self._cut(given.text) if isinstance(given, Text) else self._known(given.tokens)
        if is_truncated:
            del tokens[max(context - len(self._vocabulary.framed(())), 0) :]
        return _fitting(self._vocabulary.framed(tokens), context + 1)

    def _render(self, conversation: Conversation) -> str:
        if self._template is None:
            raise EngineError(
                "messages_refused",
                "expected a chat template in the release's manifest, found none: messages cannot be"
                " put to this model; publish it with --chat-template",
            )
        tools = () if conversation.tool_choice == "none" else conversation.tools
        messages: Sequence[Message] = conversation.messages
        if self._format.is_taught:
            messages, tools = taught(messages, tools), ()
        variables: dict[str, Any] = {
            **conversation.template_arguments,
            "messages": turns(messages, self._format.id_length),
            "add_generation_prompt": True,
            "bos_token": self._name(self._vocabulary.bos),
            "eos_token": self._name(self._vocabulary.eos),
        }
        if tools:
            variables["tools"] = described(tools)
        return self._template.render(variables)

    def _name(self, token: int) -> str:
        return self._vocabulary.name(token).decode("utf-8", "replace")

    def _cut(self, text: str) -> list[int]:
        return self._vocabulary.tokenize(text, has_special=True)

    def _known(self, tokens: Sequence[int]) -> list[int]:
        """Return the tokens, if the model has them all: llama.cpp ends the process otherwise."""
        size = self._vocabulary.size
        for token in tokens:
            if not 0 <= token < size:
                message = f"expected tokens from 0 to {size - 1}, found {token}"
                raise EngineError("messages_refused", message)
        return list(tokens)


def _fitting(tokens: list[int], context: int) -> list[int]:
    if not tokens:
        raise EngineError("messages_refused", "expected some text to answer, found none")
    if len(tokens) >= context:
        raise EngineError(
            "context_length_exceeded",
            f"this model's context is {context} tokens;"
            f" the prompt takes {len(tokens)} and leaves none for an answer",
        )
    return tokens
