"""A template's text tells how its model writes calls."""

from __future__ import annotations

import pytest
from sprat_agent.worker.prompting.formats import (
    HERMES,
    LLAMA3,
    MISTRAL,
    MISTRAL_MARKED,
    MISTRAL_WITH_IDS,
    QWEN_CODER,
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
        ("{{- '[TOOL_CALLS]' + name + '[ARGS]' + arguments }}", MISTRAL_MARKED),
        ("{{- '[TOOL_CALLS]' + name + '[CALL_ID]' + id + '[ARGS]' }}", MISTRAL_WITH_IDS),
        ("<tool_call>\\n<function=example>\\n<parameter=one>\\n1\\n</parameter>", QWEN_CODER),
        ('<tool_call>{"name": ...}</tool_call> <function=other>', HERMES),
        ('{{- "<|python_tag|>" + call }}', LLAMA3),
        ('{"name": function name, "parameters": dictionary}', LLAMA3),
        ("{{ messages }}", TAUGHT),
        ("", TAUGHT),
    ],
)
def test_the_format_is_told_by_the_templates_text(template: str, expected: ToolFormat) -> None:
    assert format_of(template) == expected
