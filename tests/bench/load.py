"""Clients that each stream one completion, and what they saw; costs the machine next to nothing."""

from __future__ import annotations

import asyncio
import json
import random
import string
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Seen:
    """One client's answer; moments are of `time.perf_counter`."""

    asked: float
    first: float
    last: float
    tokens: int


@dataclass(frozen=True)
class Load:
    """What a burst of clients got."""

    answers: tuple[Seen, ...]

    @property
    def tokens_per_s(self) -> float:
        """All tokens over the time from the first question to the last token."""
        began = min(one.asked for one in self.answers)
        ended = max(one.last for one in self.answers)
        return sum(one.tokens for one in self.answers) / (ended - began)

    @property
    def ttft_s(self) -> float:
        """The mean time to the first token."""
        return sum(one.first - one.asked for one in self.answers) / len(self.answers)


def prompts(count: int, length: int, shared: int, seed: int) -> list[str]:
    """Return prompts that nobody asked before, of one token a letter; the first ones shared."""
    draw = random.Random(seed)  # noqa: S311 - letters

    def letters(number: int) -> str:
        return "".join(draw.choices(string.ascii_letters, k=number))

    prefix = letters(shared)
    return [prefix + letters(length) for _ in range(count)]


def burst(
    port: int, texts: Sequence[str], tokens: int, model: str, *, is_streamed: bool = True
) -> Load:
    """Ask all at once and wait for all answers; those not streamed come as one token, the last."""

    async def all_of_them() -> Load:
        asked = (
            _ask(port, _wanted(text, tokens, model, is_streamed=is_streamed)) for text in texts
        )
        return Load(tuple(await asyncio.gather(*asked)))

    return asyncio.run(all_of_them())


def _wanted(text: str, tokens: int, model: str, *, is_streamed: bool) -> dict[str, object]:
    wanted: dict[str, object] = {
        "model": model,
        "prompt": text,
        "max_tokens": tokens,
        "temperature": 0,
    }
    if is_streamed:
        wanted |= {"stream": True, "stream_options": {"include_usage": True}}
    return wanted


async def _ask(port: int, wanted: dict[str, object]) -> Seen:
    body = json.dumps(wanted).encode()
    asked = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = (
        "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + body)
    first = last = 0.0
    count = 0
    said: list[bytes] = []
    async for line in reader:
        said.append(line)
        event = _event(line)
        if event.get("usage"):
            count = event["usage"]["completion_tokens"]
        if any(choice.get("text") for choice in event.get("choices", [])):
            last = time.perf_counter()
            first = first or last
    writer.close()
    if not count or not first:
        raise RuntimeError(f"no answer on port {port}: {b''.join(said)[:500]!r}")
    return Seen(asked, first, last, count)


def _event(line: bytes) -> dict[str, Any]:
    """Return what a line of a stream, or of a whole answer, says; nothing for all other lines."""
    text = line.removeprefix(b"data: ")
    return json.loads(text) if text.startswith(b"{") else {}
