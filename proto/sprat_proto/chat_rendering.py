"""What a chat template (Jinja) may use, the same on a publisher's machine as on devices. Pure.

That is what those in the wild use beside Jinja: `break` and `continue`, `{% generation %}` (which
means nothing here), `raise_exception`, `strftime_now`, and a `tojson` that leaves `<`, `>` and `&`
as they are. The sandbox keeps a template from the process that renders it, not from taking all of
its time and memory: bounds are set by who renders.

Needs the extra `templates`; `chat_template` tells what can be told without it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment


def compiled(source: str, strftime_now: Callable[[str], str]) -> jinja2.Template:
    """Return a template that is ready to be rendered.

    Args:
        source: Jinja.
        strftime_now: Formats the time at which it is called.

    Raises:
        jinja2.TemplateError: It is not Jinja.
        Exception: Jinja computes constants while it compiles, which may raise anything.
    """
    functions: dict[str, Any] = {
        "raise_exception": _raise_exception,
        "strftime_now": strftime_now,
    }
    return _environment().from_string(source, functions)


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
