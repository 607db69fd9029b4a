"""Models on disk, and supervisors whose workers do as they are told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from simulators import models
from simulators.workbench import Bench
from sprat_agent.sync.ports import Loadable


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    made = Bench(tmp_path)
    yield made
    await made.supervisor.close()


@pytest.fixture(scope="session")
def model_files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return models.write_model(tmp_path_factory.mktemp("model") / "one.gguf")


@pytest.fixture(scope="session")
def one(model_files: list[Path]) -> Loadable:
    return models.loadable(model_files)


@pytest.fixture(scope="session")
def two(one: Loadable) -> Loadable:
    return models.with_release(one, "2.0.0")
