"""How an answer begins: what kind of decoding a request asks for."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence

from sprat_agent.runtime.wire import Conversation, Request, Tool
from sprat_agent.worker.decoding import grammar
from sprat_agent.worker.decoding.calls import CallReader, ObjectReader
from sprat_agent.worker.decoding.constraint import Grammars, nothing
from sprat_agent.worker.decoding.decoding import Decoding
from sprat_agent.worker.decoding.tags import TagReader
from sprat_agent.worker.decoding.text import TextDecoding
from sprat_agent.worker.decoding.tools import ToolDecoding
from sprat_agent.worker.decoding.trigger import Trigger, bare
from sprat_agent.worker.engine import EngineError
from sprat_agent.worker.prompting.formats import Writing, format_of
from sprat_agent.worker.vocabulary import Vocabulary


def new_id() -> str:
    """Return a call's id, as OpenAI's API has them."""
    return f"call_{secrets.token_hex(12)}"


class Decodings:
    """Begins answers of one model, whose chat template says how it writes tool calls."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        template: str,
        new_id: Callable[[], str] = new_id,
        on_ready: Callable[[], None] = nothing,
    ) -> None:
        """Begin nothing yet.

        Args:
            vocabulary: The model's.
            template: Its chat template.
            new_id: Makes a call's id.
            on_ready: Called from another thread when `may_begin` became true of all requests.
        """
        self._vocabulary = vocabulary
        self._format = format_of(template)
        self._new_id = new_id
        self._grammars = Grammars(vocabulary, on_ready)

    def prepare(self) -> None:
        """Begin to make ready what requests need that are held to a grammar; see `Grammars`."""
        self._grammars.prepare()

    def may_begin(self, request: Request) -> bool:
        """Tell whether `begin` does not wait; if not, what it waits for is made ready."""
        if self._grammars.is_ready or not _is_held(request):
            return True
        self.prepare()
        return False

    def close(self) -> None:
        """Let go of the vocabulary."""
        self._grammars.close()

    def begin(self, request: Request) -> Decoding:
        """Return an answer's state before its first token.

        Raises:
            EngineError: not_supported: the schema, or that of a tool, cannot be held to.
        """
        prompt = request.prompt
        if isinstance(prompt, Conversation) and prompt.tool_choice != "none":
            if prompt.tool_choice != "auto":
                return self._called(request, prompt)
            if prompt.tools:
                return self._callable(request, prompt)
        if request.schema is None:
            return TextDecoding(self._vocabulary, request.stop)
        constraint = self._grammars.constraint(grammar.answer(request.schema), "the JSON schema")
        return TextDecoding(self._vocabulary, request.stop, constraint)

    def _called(self, request: Request, prompt: Conversation) -> Decoding:
        """Return an answer that is a call; a schema for the text has nothing to say then."""
        calls = grammar.Calls(self._format, _asked(prompt), prompt.is_parallel)
        return self._tools(request, calls.tools, grammar.only_calls(calls, self._marks()), None)

    def _callable(self, request: Request, prompt: Conversation) -> Decoding:
        """Return an answer that is text or calls, as the model likes."""
        calls = grammar.Calls(self._format, prompt.tools, prompt.is_parallel)
        marks, literal = self._marks(), self._format.trigger
        if request.schema is not None:
            lark = grammar.answer_or_calls(request.schema, calls, marks)
            trigger = Trigger("", [literal])
            return self._tools(request, calls.tools, lark, trigger, is_constrained=True)
        first = bare(prompt.tools, self._format.arguments) if self._format.is_bare else ()
        trigger = Trigger(literal, first)
        lark = grammar.only_calls(calls, marks)
        return self._tools(request, calls.tools, lark, trigger, is_constrained=False)

    def _tools(
        self,
        request: Request,
        tools: Sequence[Tool],
        lark: str,
        trigger: Trigger | None,
        *,
        is_constrained: bool = True,
    ) -> Decoding:
        return ToolDecoding(
            self._vocabulary,
            request.stop,
            self._grammars.constraint(lark, "the schemas of the tools' arguments"),
            marks=self._marks(),
            trigger=trigger,
            is_constrained=is_constrained,
            reader=self._reader(tools),
        )

    def _reader(self, tools: Sequence[Tool]) -> CallReader:
        if self._format.writing is Writing.TAGS:
            return TagReader(tools, self._new_id)
        return ObjectReader(self._format, self._new_id)

    def _marks(self) -> dict[str, int]:
        """Return the texts around calls that are control tokens: these have no bytes to match."""
        marks: dict[str, int] = {}
        for text in self._format.marks:
            tokens = self._vocabulary.tokenize(text, has_special=True)
            if len(tokens) == 1 and self._vocabulary.is_control(tokens[0]):
                marks[text] = tokens[0]
        return marks


def _is_held(request: Request) -> bool:
    """Tell whether an answer is, or may come to be, held to a grammar."""
    if request.schema is not None:
        return True
    prompt = request.prompt
    return isinstance(prompt, Conversation) and prompt.tool_choice != "none" and bool(prompt.tools)


def _asked(prompt: Conversation) -> Sequence[Tool]:
    """Return the tools one of which is to be called."""
    choice = prompt.tool_choice
    tools = [tool for tool in prompt.tools if choice in ("required", tool.name)]
    if not tools:
        message = f"expected tools to call, found none for tool_choice {choice!r}"
        raise EngineError("not_supported", message)
    return tools
