"""A release's chat template, as devices run it; imported in children only.

What templates may use beyond Jinja is what an agent gives them, so that a golden prompt is put to a
variant here exactly as there (`sprat_agent/worker/prompting/template.py`; a test holds both to the
same). The time and memory that a device allows a template are not held here.
"""

from __future__ import annotations

import json
import time
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment


class ChatTemplateError(Exception):
    """The template is none, or refuses a prompt; one sentence."""


class ChatTemplate:
    """A compiled template."""

    def __init__(self, source: str) -> None:
        """Compile it.

        Raises:
            ChatTemplateError: It is empty, or not Jinja.
        """
        if not source:
            raise ChatTemplateError(
                "expected a chat template to put golden prompts with, found none: add"
                " --chat-template"
            )
        functions: dict[str, Any] = {
            "raise_exception": _raise_exception,
            "strftime_now": time.strftime,
        }
        try:
            self._template = _environment().from_string(source, functions)
        except Exception as error:
            # Jinja computes constants, and Python refuses what is nested too deep.
            raise ChatTemplateError(f"the chat template is not Jinja: {_line(error)}") from error

    def render(self, prompt: str, begin: str, end: str) -> str:
        """Return what the model is given for one message of a user.

        Args:
            prompt: The message.
            begin: The name of the token that begins a text.
            end: Of the one that ends it.

        Raises:
            ChatTemplateError: The template raised.
        """
        try:
            return self._template.render(
                messages=[{"role": "user", "content": prompt}],
                add_generation_prompt=True,
                bos_token=begin,
                eos_token=end,
            )
        except Exception as error:
            # A template is a program and may raise anything.
            raise ChatTemplateError(
                f"the chat template refuses the golden prompt {prompt[:60]!r}: {_line(error)}"
            ) from error


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


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
