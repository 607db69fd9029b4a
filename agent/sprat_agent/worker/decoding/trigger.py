"""Telling the beginning of tool calls from an answer's text, as it comes. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence

from sprat_agent.runtime.wire import Tool
from sprat_agent.worker.decoding.stops import StopFilter


def bare(tools: Sequence[Tool], arguments: str) -> list[str]:
    """Return how an answer begins that is a call with nothing around it, without white space.

    Args:
        tools: What can be called; an object of any other name is an answer.
        arguments: The key of the arguments.
    """
    names = ["".join(json.dumps(tool.name, ensure_ascii=False).split()) for tool in tools]
    typed = ("", '"type":"function",')
    return [f'{{{kind}"name":{name},"{arguments}":' for kind in typed for name in names]


class Trigger:
    """Passes text on up to where calls begin, holding back what may be their beginning."""

    def __init__(self, literal: str, first: Sequence[str] = ()) -> None:
        """Watch.

        Args:
            literal: Begins calls wherever it comes; empty: nothing does.
            first: What begins calls only as the first thing of an answer, without white space.
        """
        self._literal = literal
        self._filter = StopFilter([literal])
        self._first = tuple(first)
        self._head = ""

    def feed(self, text: str) -> tuple[str, str]:
        """Return what is text, and from where calls begin what is not."""
        if self._first:
            self._head += text
            seen = "".join(self._head.split())
            if any(seen.startswith(first) for first in self._first):
                return "", self._head.lstrip()
            if any(first.startswith(seen) for first in self._first):
                return "", ""
            text = self._only_literal()
        shown = self._filter.feed(text)
        return shown, self._filter.held if self._filter.is_stopped else ""

    def go_on(self, text: str) -> tuple[str, str]:
        """Take `text`, which was said not to be text, for some of it after all, and go on."""
        if self._first:
            self._only_literal()
            return self.feed(text)
        self._filter = StopFilter([self._literal])
        size = len(self._literal)
        shown, calls = self.feed(text[size:])
        return text[:size] + shown, calls

    def flush(self) -> str:
        """Return what was held back: the answer has ended."""
        return self._only_literal() + self._filter.flush()

    def _only_literal(self) -> str:
        head, self._head, self._first = self._head, "", ()
        return head
