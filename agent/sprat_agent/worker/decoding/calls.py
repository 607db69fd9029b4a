"""Reading tool calls as their text comes. Pure, but for the ids that it is given.

The text obeys the grammar of `grammar.only_calls`, so what is around calls may be passed over: each
one has a name, and arguments that are an object, which ends where its braces do. Calls in tags are
in `tags`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Final, Protocol

from sprat_agent.runtime.wire import ToolCallPart
from sprat_agent.worker.prompting.formats import ToolFormat, Writing

_HEAD: Final = re.compile(
    r'\{\s*(?:"type"\s*:\s*"function"\s*,\s*)?"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,'
    r'\s*"(?:arguments|parameters)"\s*:\s*(?=\S)'
)
_MARKED_HEAD: Final = re.compile(r"\[TOOL_CALLS\]\s*(.+?)(?:\[CALL_ID\]\w+)?\[ARGS\]\s*(?=\S)")
_TURNS: Final = re.compile(r'\\.|[\\"{}]', re.DOTALL)  # a backslash alone is the last character


class CallReader(Protocol):
    """Takes text and returns parts of calls, as early as can be."""

    @property
    def count(self) -> int:
        """How many calls have begun."""
        ...

    def feed(self, text: str) -> tuple[ToolCallPart, ...]:
        """Return what more can be told."""
        ...


class ObjectReader:
    """Reads calls whose arguments are an object, and come last; see `CallReader`."""

    def __init__(self, form: ToolFormat, new_id: Callable[[], str]) -> None:
        self._is_marked = form.writing is Writing.MARKED
        self._new_id = new_id
        self._held = ""  # what no part was made of yet
        self._depth = 0  # braces that are open in the arguments
        self._is_string = False  # the text is inside a string of the arguments
        self.count = 0  # calls that have begun

    def feed(self, text: str) -> tuple[ToolCallPart, ...]:
        """Return what more can be told."""
        self._held += text
        parts: list[ToolCallPart] = []
        while self._depth or self._begins(parts):
            size = self._scan()
            if size:
                parts.append(ToolCallPart(self.count - 1, arguments=self._held[:size]))
                self._held = self._held[size:]
            if self._depth:
                break
        return tuple(parts)

    def _begins(self, parts: list[ToolCallPart]) -> bool:
        """Take the text up to the next call's arguments, if it is there already."""
        head = (_MARKED_HEAD if self._is_marked else _HEAD).search(self._held)
        if head is None:
            return False
        name = head[1] if self._is_marked else json.loads(head[1])
        parts.append(ToolCallPart(self.count, self._new_id(), name))
        self._held = self._held[head.end() :]
        self.count += 1
        return True

    def _scan(self) -> int:
        """Return how much of the held text belongs to the arguments.

        A backslash at the end is left for later: what it escapes is not there yet.
        """
        for turn in _TURNS.finditer(self._held):
            match turn[0]:
                case "\\":
                    return turn.start()
                case '"':
                    self._is_string = not self._is_string
                case "{" if not self._is_string:
                    self._depth += 1
                case "}" if not self._is_string:
                    self._depth -= 1
                    if not self._depth:
                        return turn.end()
                case _:
                    pass  # something escaped, or a brace in a string
        return len(self._held)
