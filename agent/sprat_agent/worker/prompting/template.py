"""A release's chat template: a signed program, in jinja2's sandbox and within bounds."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import jinja2
from sprat_proto.chat_rendering import compiled

from sprat_agent.worker.engine import EngineError
from sprat_agent.worker.prompting.rendering import MAX_PROMPT, bounded


class ChatTemplate:
    """A compiled template."""

    def __init__(self, source: str, strftime_now: Callable[[str], str] = time.strftime) -> None:
        """Compile it.

        Raises:
            EngineError: load_failed: it is not Jinja, or takes too much to compile.
        """
        try:
            self._template = bounded(lambda: compiled(source, strftime_now))
        except jinja2.TemplateError as error:
            message = f"the release's chat template is not Jinja: {error}"
            raise EngineError("load_failed", message) from error
        except Exception as error:
            # Jinja computes constants, and Python refuses what is nested too deep.
            message = f"the release's chat template cannot be compiled: {error}"
            raise EngineError("load_failed", message) from error

    def render(self, variables: Mapping[str, Any]) -> str:
        """Return the prompt.

        Raises:
            EngineError: messages_refused: the template raised, or made or took too much.
        """
        try:
            text = bounded(lambda: self._template.render(variables))
        except Exception as error:
            # A template is a program and may raise anything.
            message = f"the release's chat template refuses these messages: {error}"
            raise EngineError("messages_refused", message) from error
        if len(text) > MAX_PROMPT:
            raise EngineError(
                "messages_refused",
                f"expected a prompt of at most {MAX_PROMPT} characters from the release's chat"
                f" template, found {len(text)}",
            )
        return text
