from __future__ import annotations

from pathlib import Path

import pytest
from simulators.models import Shape, write_model
from simulators.site import Site


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    (path,) = write_model(tmp_path_factory.mktemp("model") / "model.gguf", Shape())
    return path.read_bytes()


@pytest.fixture
def site(tmp_path: Path, weights: bytes) -> Site:
    return Site(tmp_path, weights)
