"""How families of models write tool calls, told by the text of the chat template. Pure.

In most of them a call is a JSON object of a name and arguments; they differ in what is around it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Final


class Writing(Enum):
    """How a call itself is written."""

    OBJECT = auto()  # {"name": "weather", "arguments": {"days": 2}}
    MARKED = auto()  # weather[ARGS]{"days": 2}
    TAGS = auto()  # <function=weather><parameter=days>2</parameter></function>


@dataclass(frozen=True)
class ToolFormat:
    """What is around calls: `opens begins CALL ends between begins CALL ends closes`."""

    opens: str = ""
    begins: str = ""
    ends: str = ""
    between: str = ""
    closes: str = ""
    bracket: str = ""  # follows `opens`, which is a token of its own
    writing: Writing = Writing.OBJECT
    arguments: str = "arguments"  # the key, or the mark before them
    call_id: str = ""  # the mark before an id, which comes before the arguments; empty: none does
    is_bare: bool = False  # an answer may begin with a call without `opens`
    id_length: int = 0  # what the template asks of ids of earlier calls; 0: nothing
    is_taught: bool = False  # the template does not tell the tools: a system message has to

    @property
    def trigger(self) -> str:
        """The text by which calls are told from an answer."""
        return self.opens or self.begins

    @property
    def marks(self) -> tuple[str, ...]:
        """The texts that may be control tokens of the model."""
        marked = (self.call_id, self.arguments) if self.writing is Writing.MARKED else ()
        return tuple(filter(None, (self.opens, self.begins, self.ends, *marked)))


HERMES: Final = ToolFormat(begins="<tool_call>", ends="</tool_call>")  # Hermes, Qwen
MISTRAL: Final = ToolFormat(opens="[TOOL_CALLS]", bracket="[", between=",", closes="]", id_length=9)
# Mistral's since version 11 of its tokenizer, of which only that one has ids.
MISTRAL_MARKED: Final = ToolFormat(
    begins="[TOOL_CALLS]", writing=Writing.MARKED, arguments="[ARGS]", id_length=9
)
MISTRAL_WITH_IDS: Final = replace(MISTRAL_MARKED, call_id="[CALL_ID]")
QWEN_CODER: Final = replace(HERMES, writing=Writing.TAGS)
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
        if "[ARGS]" not in template:
            return MISTRAL
        return MISTRAL_WITH_IDS if "[CALL_ID]" in template else MISTRAL_MARKED
    if "<|python_tag|>" in template:
        return LLAMA3
    if "<tool_call>" in template:
        return QWEN_CODER if "<function=" in template and "<parameter=" in template else HERMES
    if '"parameters":' in template:  # Hermes' say so too, of the tools
        return LLAMA3
    return TAUGHT
