"""A template's text tells how its model writes calls."""

from __future__ import annotations

import pytest
from sprat_agent.worker.prompting.formats import (
    HERMES,
    LLAMA3,
    MISTRAL,
    TAUGHT,
    ToolFormat,
    format_of,
)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ('<tool_call>\\n{"name": <function-name>, "arguments": ...}', HERMES),
        ('{"name": ..., "parameters": {...}} <tool_call>', HERMES),
        ("{{- '[TOOL_CALLS] [' }}", MISTRAL),
        ('{{- "<|python_tag|>" + call }}', LLAMA3),
        ('{"name": function name, "parameters": dictionary}', LLAMA3),
        ("{{ messages }}", TAUGHT),
        ("", TAUGHT),
    ],
)
def test_the_format_is_told_by_the_templates_text(template: str, expected: ToolFormat) -> None:
    assert format_of(template) == expected
