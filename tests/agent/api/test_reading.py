"""Reading status, lists, health and metrics loads and wakes nothing and is no use of a model."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from simulators.workbench import Bench
from sprat_agent.api.app import build_app
from sprat_agent.api.server import LocalApi
from sprat_agent.clock import system_clock
from sprat_agent.runtime.served import Condition
from sprat_agent.sync.ports import Loadable
from sprat_proto.fit import MIB

TWO_FIT = 150 * MIB  # a tiny model takes 66 MiB
LOOKS = (
    *("/livez", "/readyz", "/metrics", "/agent/v1/status"),
    *("/v1/models", "/v1/models/b", "/v1/models/c"),
    *("/api/tags", "/api/ps", "/api/version"),
)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    made = Bench(tmp_path, budget_bytes=TWO_FIT)
    yield made
    await made.supervisor.close()


@pytest.fixture
async def http(bench: Bench) -> AsyncIterator[httpx.AsyncClient]:
    app = build_app(
        bench.supervisor,
        clock=system_clock,
        new_id=lambda: uuid.uuid4().hex,
        is_simulated=False,
        status=dict,
    )
    api = LocalApi(app, "127.0.0.1:0", bench.folder / "sprat.sock")
    async with httpx.AsyncClient(base_url=await api.start()) as client:
        yield client
    await api.stop()


async def test_looking_loads_nothing_and_keeps_the_order_of_use(
    bench: Bench, http: httpx.AsyncClient, two: Loadable
) -> None:
    for name in "abc":
        await bench.supervisor.load_committed(replace(two, alias=name))
    await bench.ask("hello", "a")
    before = bench.pids()
    for path in LOOKS:
        assert (await http.get(path)).status_code == 200, path
    for name in "bc":
        assert (await http.post("/api/show", json={"model": name})).status_code == 200
    async with http.stream("GET", "/agent/v1/events") as events:
        assert await anext(events.aiter_lines())
    assert bench.pids() == before
    assert bench.statuses()["c"].condition is Condition.COLD
    await bench.ask("hello", "c")  # in the place of the one that was used longest ago
    assert [name for name, one in bench.statuses().items() if one.worker_pid] == ["a", "c"]
