"""Many clients that cancel, vanish and ask for too much, at once: the others see nothing of it."""

from __future__ import annotations

import asyncio
import random
import string
from collections.abc import AsyncIterator, Generator, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx
import pytest
from simulators import models
from simulators.dialects import DIALECTS, OPENAI, stream
from simulators.resident import resident_bytes
from simulators.served_models import Model, Order, Served, served
from simulators.waiting import until
from sprat_proto.fit import MIB

ALIAS = "assistant"
CONTEXT = 256  # tokens, which are bytes here
SLOTS = 4
CLIENTS = 12
WARM_UP = 100
# Other steps sum in another order: logits differ by some 1e-3 (docs/adr/0016). Answers are compared
# up to where two tokens are almost as likely.
NEAR_TIE = 0.01
SHARED = "Many prompts begin with these very words. "
# What they may leave behind in the agent and in the worker: 2 KiB each would be too much. Less than
# 0.6 MiB were measured, most of it in the first hundred.
GROWTH_BYTES = 2 * MIB


@dataclass(frozen=True)
class Question:
    """A prompt and what is answered when nobody else asks."""

    prompt: str
    tokens: int
    answer: str


@dataclass
class Crowd:
    """Clients that do at random what clients do."""

    http: httpx.AsyncClient
    questions: Sequence[Question]
    draw: random.Random

    async def listen(self) -> None:
        asked, dialect = self.draw.choice(self.questions), self.draw.choice([*DIALECTS.values()])
        async with stream(self.http, dialect, ALIAS, asked.prompt, asked.tokens) as answer:
            said = await answer.rest()
            assert answer.error is None, answer.error
            assert said == asked.answer
            assert answer.is_over

    async def cancel(self) -> None:
        """Go away after some pieces."""
        asked, dialect = self.draw.choice(self.questions), self.draw.choice([*DIALECTS.values()])
        async with stream(self.http, dialect, ALIAS, asked.prompt, CONTEXT) as answer:
            for _ in range(self.draw.randint(1, 8)):
                await answer.piece()

    async def vanish(self) -> None:
        """Go away at any moment: while queued, while the prompt is computed, in mid-answer."""
        try:
            async with asyncio.timeout(self.draw.uniform(0, 0.05)):
                await self.cancel()
        except TimeoutError:
            pass

    async def break_off(self) -> None:
        """Go away in the middle of the request itself."""
        url = urlsplit(str(self.http.base_url))
        _, writer = await asyncio.open_connection(url.hostname, url.port)
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"
            b'content-type: application/json\r\ncontent-length: 1000\r\n\r\n{"model": "assi'
        )
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def ask_too_much(self) -> None:
        prompt = "z" * self.draw.randint(CONTEXT, 20 * CONTEXT)
        dialect = self.draw.choice([*DIALECTS.values()])
        async with stream(self.http, dialect, ALIAS, prompt, 8) as answer:
            await answer.rest()
            assert answer.error is not None
            assert answer.error["code"] == "context_length_exceeded", answer.error
            assert answer.status == 400

    async def send(self, count: int) -> None:
        """Send so many requests, `CLIENTS` at a time."""
        left = iter(range(count))
        kinds = [self.listen, self.cancel, self.vanish, self.break_off, self.ask_too_much]

        async def client() -> None:
            for _ in left:
                (kind,) = self.draw.choices(kinds, (40, 20, 20, 5, 15))
                await kind()

        async with asyncio.TaskGroup() as group:
            for _ in range(CLIENTS):
                group.create_task(client())


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Generator[Served]:
    folder = tmp_path_factory.mktemp("device")
    (path,) = models.write_model(folder / "one.gguf")
    with served(Order(str(folder), [Model(ALIAS, str(path), CONTEXT, SLOTS)])) as made:
        yield made


@pytest.fixture
async def http(device: Served) -> AsyncIterator[httpx.AsyncClient]:
    limits = httpx.Limits(max_connections=CLIENTS)
    async with httpx.AsyncClient(base_url=device.url, timeout=60, limits=limits) as client:
        yield client


@pytest.mark.parametrize("requests", [300, pytest.param(1000, marks=pytest.mark.full)])
async def test_cancels_disconnects_and_long_prompts_leave_nothing_behind(
    device: Served, http: httpx.AsyncClient, requests: int
) -> None:
    draw = random.Random(0)  # noqa: S311 - a test's choices
    crowd = Crowd(http, await undisturbed(http, draw), draw)
    await crowd.send(WARM_UP)
    pid = device.worker_pid()
    before = resident_bytes(pid), resident_bytes(device.pid)
    await crowd.send(requests)
    await until(lambda: is_idle(device))
    after = resident_bytes(pid), resident_bytes(device.pid)
    assert after[0] - before[0] <= GROWTH_BYTES
    assert after[1] - before[1] <= GROWTH_BYTES
    assert device.worker_pid() == pid
    assert device.alias().crashes == []
    logged = device.log.read_text()
    assert "Traceback" not in logged
    assert not [one for one in (SHARED.strip(), "z" * CONTEXT) if one in logged]
    for asked in crowd.questions:  # in every slot, with what the others left in it
        async with stream(http, OPENAI, ALIAS, asked.prompt, asked.tokens) as answer:
            assert await answer.rest() == asked.answer


def is_idle(device: Served) -> bool:
    """Tell whether all slots are free, for the agent and for the engine."""
    alias = device.alias()
    (entry,) = device.status()["models"]
    return entry["queued"] == alias.busy == alias.engine_busy == 0 and alias.slots >= SLOTS


async def undisturbed(http: httpx.AsyncClient, draw: random.Random) -> list[Question]:
    """Ask one after another; return what was answered, each up to a near tie."""
    questions: list[Question] = []
    for number in range(24):
        prompt = SHARED * (number % 2) + "".join(draw.choices(string.ascii_letters, k=60))
        body = OPENAI.body(ALIAS, prompt, 64)
        asked = {**body, "stream": False, "logprobs": True, "top_logprobs": 2}
        (choice,) = (await http.post(OPENAI.path, json=asked)).json()["choices"]
        tokens = 0
        for one in choice["logprobs"]["content"]:
            first, second = (other["logprob"] for other in one["top_logprobs"])
            if first - second < NEAR_TIE:
                break
            tokens += 1
        if tokens >= 16:
            async with stream(http, OPENAI, ALIAS, prompt, tokens) as answer:
                questions.append(Question(prompt, tokens, await answer.rest()))
    assert len(questions) >= 8
    return questions
