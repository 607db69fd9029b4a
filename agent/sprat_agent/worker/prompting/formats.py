"""How families of models write tool calls, told by the text of the chat template. Pure.

In all of them a call is a JSON object of a name and arguments; they differ in what is around it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final


@dataclass(frozen=True)
class ToolFormat:
    """What is around calls: `opens begins CALL ends between begins CALL ends closes`."""

    opens: str = ""
    begins: str = ""
    ends: str = ""
    between: str = ""
    closes: str = ""
    bracket: str = ""  # follows `opens`, which is a token of its own
    arguments: str = "arguments"  # the key
    is_bare: bool = False  # an answer may begin with a call without `opens`
    id_length: int = 0  # what the template asks of ids of earlier calls; 0: nothing
    is_taught: bool = False  # the template does not tell the tools: a system message has to

    @property
    def trigger(self) -> str:
        """The text by which calls are told from an answer."""
        return self.opens or self.begins


HERMES: Final = ToolFormat(begins="<tool_call>", ends="</tool_call>")  # Hermes, Qwen
MISTRAL: Final = ToolFormat(opens="[TOOL_CALLS]", bracket="[", between=",", closes="]", id_length=9)
LLAMA3: Final = ToolFormat(
    opens="<|python_tag|>", between=";", arguments="parameters", is_bare=True
)
TAUGHT: Final = replace(HERMES, is_taught=True)


def format_of(template: str) -> ToolFormat:
    """Return the format that a template asks its model for.

    One that knows no format, or one that is not here, is not asked to tell of tools at all: a
    system message asks for Hermes' format then, which more models have seen than any other.
    """
    if "[TOOL_CALLS]" in template:
        return MISTRAL
    if "<|python_tag|>" in template:
        return LLAMA3
    if "<tool_call>" in template:
        return HERMES
    if '"parameters":' in template:  # Hermes' say so too, of the tools
        return LLAMA3
    return TAUGHT
