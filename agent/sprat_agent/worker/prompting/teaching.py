"""Tools for a model whose chat template does not tell of them, in messages that it does know."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

from sprat_agent.runtime.wire import Message, Tool
from sprat_agent.worker.prompting.turns import described, parsed

_INSTRUCTION: Final = """\
You may call functions. These are the ones you have, each with the JSON schema of its arguments:
<tools>
{tools}
</tools>
To call one, answer with its name and its arguments and nothing else, in this form:
<tool_call>
{{"name": "its name", "arguments": {{"a parameter": "a value"}}}}
</tool_call>"""


def taught(messages: Sequence[Message], tools: Sequence[Tool]) -> list[Message]:
    """Return the messages with an instruction first, and with calls and results as text."""
    turns = [_as_text(message) for message in messages]
    if not tools:
        return turns
    listed = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in described(tools))
    instruction = _INSTRUCTION.format(tools=listed)
    if turns and turns[0].role == "system":
        return [Message("system", f"{turns[0].content}\n\n{instruction}"), *turns[1:]]
    return [Message("system", instruction), *turns]


def _as_text(message: Message) -> Message:
    if message.role == "tool":
        return Message("user", f"<tool_response>\n{message.content}\n</tool_response>")
    if not message.tool_calls:
        return message
    calls = [
        {"name": call.name, "arguments": parsed(call.arguments)} for call in message.tool_calls
    ]
    texts = [f"<tool_call>\n{json.dumps(call, ensure_ascii=False)}\n</tool_call>" for call in calls]
    return Message(message.role, "\n".join(filter(None, [message.content, *texts])))
