"""What a listener is told of the models, and when."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulators.told_models import ToldModels
from simulators.waiting import until
from sprat_agent.api.events import ModelEvents, changes
from sprat_agent.api.server import LocalApi
from sprat_agent.runtime.served import Status


class Watched(ToldModels):
    """Counts how often its statuses are looked at."""

    def __init__(self) -> None:
        super().__init__()
        self.looks = 0

    def statuses(self) -> tuple[Status, ...]:
        self.looks += 1
        return super().statuses()


def entry(status: Status) -> dict[str, Any]:
    return {"alias": status.alias, "state": status.condition.value}


@pytest.fixture
def watched() -> Watched:
    return Watched()


@pytest.fixture
async def url(watched: Watched, tmp_path: Path) -> AsyncIterator[str]:
    app = ModelEvents(watched, entry, look_s=0.01, heartbeat_s=0.05)
    api = LocalApi(app, "127.0.0.1:0", tmp_path / "sprat.sock")
    yield await api.start()
    await api.stop()


async def test_a_listener_hears_how_things_are_then_each_change(url: str, watched: Watched) -> None:
    async with (
        asyncio.timeout(20),
        httpx.AsyncClient() as http,
        http.stream("GET", url) as response,
    ):
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = response.aiter_lines()
        assert await anext(lines) == "event: model"
        assert json.loads((await anext(lines))[6:]) == {"alias": "assistant", "state": "READY"}
        watched.reason = "it is being loaded"
        while (line := await anext(lines)) != "event: model":
            assert line in {"", ": the agent lives"}
        assert json.loads((await anext(lines))[6:])["state"] == "RESTARTING"
    assert watched.asked == []


async def test_where_nothing_changes_a_comment_keeps_the_connection(url: str) -> None:
    async with (
        asyncio.timeout(20),
        httpx.AsyncClient() as http,
        http.stream("GET", url) as response,
    ):
        lines = response.aiter_lines()
        while await anext(lines) != ": the agent lives":
            pass


async def test_nobody_looks_once_the_listener_is_gone(url: str, watched: Watched) -> None:
    async with httpx.AsyncClient() as http, http.stream("GET", url) as response:
        await anext(response.aiter_lines())

    def is_telling() -> bool:
        return any(task.get_name() == "answer a request" for task in asyncio.all_tasks())

    await until(lambda: not is_telling())
    assert watched.looks > 0


async def test_it_is_where_the_api_says(http: httpx.AsyncClient) -> None:
    async with http.stream("GET", "/agent/v1/events") as response:
        lines = response.aiter_lines()
        assert await anext(lines) == "event: model"
        assert json.loads((await anext(lines))[6:])["can_answer"] is True


_ALIASES = st.dictionaries(st.sampled_from("abc"), st.fixed_dictionaries({"n": st.integers(0, 2)}))


@given(_ALIASES, _ALIASES)
def test_who_obeys_the_events_knows_what_is(
    before: dict[str, dict[str, int]], now: dict[str, dict[str, int]]
) -> None:
    named = {alias: {"alias": alias, **one} for alias, one in now.items()}
    known: dict[str, Any] = {alias: {"alias": alias, **one} for alias, one in before.items()}
    for event in changes(known, named).decode().split("\n\n")[:-1]:
        name, data = event.split("\n")
        told = json.loads(data.removeprefix("data: "))
        if name == "event: gone":
            del known[told["alias"]]
        else:
            known[told["alias"]] = told
    assert known == named
