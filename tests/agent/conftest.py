"""Tiny real models on disk."""

from __future__ import annotations

from pathlib import Path

import pytest
from simulators import models
from sprat_agent.sync.ports import Loadable


@pytest.fixture(scope="session")
def model_files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return models.write_model(tmp_path_factory.mktemp("model") / "one.gguf")


@pytest.fixture(scope="session")
def one(model_files: list[Path]) -> Loadable:
    return models.loadable(model_files)


@pytest.fixture(scope="session")
def two(one: Loadable) -> Loadable:
    return models.with_release(one, "2.0.0")
