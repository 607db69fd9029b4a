"""The streams of the three APIs as clients see them: pieces of text, then an end or an error."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

Json = dict[str, Any]


@dataclass(frozen=True)
class Dialect:
    """How to ask greedily for a stream, and what the objects in it say."""

    path: str
    limit: Callable[[int], Json]  # the fields that bound an answer, and make it greedy
    text: Callable[[Json], str]
    is_end: Callable[[Json], bool]

    def body(self, model: str, prompt: str, tokens: int) -> Json:
        messages = [{"role": "user", "content": prompt}]
        return {"model": model, "messages": messages, "stream": True, **self.limit(tokens)}


def _openai_text(event: Json) -> str:
    return "".join(one["delta"].get("content") or "" for one in event.get("choices", []))


def _is_openai_end(event: Json) -> bool:
    return any(one["finish_reason"] for one in event.get("choices", []))


OPENAI = Dialect(
    "/v1/chat/completions",
    lambda tokens: {"max_tokens": tokens, "temperature": 0},
    _openai_text,
    _is_openai_end,
)
OLLAMA = Dialect(
    "/api/chat",
    lambda tokens: {"options": {"num_predict": tokens, "temperature": 0}},
    lambda event: event.get("message", {}).get("content", ""),
    lambda event: bool(event.get("done")),
)
ANTHROPIC = Dialect(
    "/v1/messages",
    lambda tokens: {"max_tokens": tokens, "temperature": 0},
    lambda event: event.get("delta", {}).get("text", ""),
    lambda event: event["type"] == "message_stop",
)
DIALECTS = {"openai": OPENAI, "ollama": OLLAMA, "anthropic": ANTHROPIC}


@dataclass
class Stream:
    """What came so far. Pieces come by iterating; then it is over, or there is an `error`."""

    status: int
    lines: AsyncIterator[str]
    dialect: Dialect
    text: str = ""
    is_over: bool = False
    error: Json | None = None  # of the body instead of a stream, or of the stream's last event

    async def piece(self) -> str:
        """Return the next piece; empty where nothing more comes."""
        async for line in self.lines:
            event = _event(line)
            if event is None:
                continue
            if "error" in event:
                # Ollama's are a sentence, with the code beside it.
                told = event["error"]
                self.error = {"message": told, **event} if isinstance(told, str) else told
                continue
            self.is_over |= self.dialect.is_end(event)
            if text := self.dialect.text(event):
                self.text += text
                return text
        return ""

    async def rest(self) -> str:
        """Read to the end; return the whole text."""
        while await self.piece():
            pass
        return self.text


@asynccontextmanager
async def stream(
    client: httpx.AsyncClient, dialect: Dialect, model: str, prompt: str, tokens: int
) -> AsyncGenerator[Stream]:
    """Ask for a stream; leaving the context before its end is going away."""
    body = dialect.body(model, prompt, tokens)
    async with client.stream("POST", dialect.path, json=body) as response:
        yield Stream(response.status_code, response.aiter_lines(), dialect)


def _event(line: str) -> Json | None:
    """Return the JSON of a line, if it has any."""
    data = line.removeprefix("data: ")
    return json.loads(data) if data.startswith("{") else None
