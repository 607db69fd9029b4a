from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest
from simulators.http_world import HttpWorld


@pytest.fixture
def world(tmp_path: Path) -> Generator[HttpWorld]:
    """The API over real parts in an empty folder."""
    folder = tmp_path / "world"
    folder.mkdir()
    made = HttpWorld(folder)
    yield made
    made.close()
