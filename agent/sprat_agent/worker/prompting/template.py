"""A release's chat template: a signed program, in jinja2's sandbox and within bounds.

What templates may use beyond Jinja is what those in the wild use: `break` and `continue`,
`{% generation %}` (which means nothing here), `raise_exception`, `strftime_now`, and a `tojson`
that leaves `<`, `>` and `&` as they are.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from sprat_agent.worker.engine import EngineError
from sprat_agent.worker.prompting.rendering import MAX_PROMPT, bounded


class ChatTemplate:
    """A compiled template."""

    def __init__(self, source: str, strftime_now: Callable[[str], str] = time.strftime) -> None:
        """Compile it.

        Raises:
            EngineError: load_failed: it is not Jinja, or takes too much to compile.
        """
        functions: dict[str, Any] = {
            "raise_exception": _raise_exception,
            "strftime_now": strftime_now,
        }
        try:
            self._template = bounded(lambda: _environment().from_string(source, functions))
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


class _GenerationTag(Extension):
    """`{% generation %}` marks what is learnt from in training; its inside is rendered as it is."""

    tags = {"generation"}  # noqa: RUF012 - jinja2's own declaration, not to be narrowed

    def parse(self, parser: Parser) -> list[nodes.Node]:
        parser.stream.skip(1)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _GenerationTag]
    )
    environment.filters["tojson"] = _tojson
    return environment


def _tojson(
    value: Any,
    indent: int | None = None,
    *,
    ensure_ascii: bool = False,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)
