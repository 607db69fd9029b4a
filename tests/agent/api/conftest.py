"""A listening local API over models that answer as they are told."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from simulators.kept_account import KeptAccount
from simulators.told_models import ToldModels
from sprat_agent.api.app import build_app
from sprat_agent.api.server import LocalApi

NOW = datetime(2026, 11, 23, tzinfo=UTC)


@dataclass
class Listening:
    """Where the API listens."""

    url: str
    socket: Path

    def over_socket(self) -> httpx.AsyncClient:
        transport = httpx.AsyncHTTPTransport(uds=str(self.socket))
        return httpx.AsyncClient(transport=transport, base_url="http://localhost")


@pytest.fixture
def told() -> ToldModels:
    return ToldModels()


@pytest.fixture
def account() -> KeptAccount:
    return KeptAccount()


@pytest.fixture
async def listening(
    told: ToldModels, account: KeptAccount, tmp_path: Path
) -> AsyncIterator[Listening]:
    numbers = itertools.count(1)
    app = build_app(
        told,
        clock=lambda: NOW,
        new_id=lambda: str(next(numbers)),
        is_simulated=True,
        status=lambda: {"device_id": "device-1"},
        account=account,
    )
    socket = tmp_path / "sprat.sock"
    api = LocalApi(app, "127.0.0.1:0", socket)
    yield Listening(await api.start(), socket)
    await api.stop()
    assert not socket.exists()


@pytest.fixture
async def http(listening: Listening) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=listening.url) as client:
        yield client
