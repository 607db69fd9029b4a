from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest
from simulators.fleet import Fleet


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Generator[Fleet]:
    """A controller with a publisher and the releases 1.0.0 and 2.0.0, shared by a module."""
    with_folder: Path = tmp_path_factory.mktemp("fleet")
    made = Fleet(with_folder)
    try:
        made.open()
        made.push("1.0.0", "This is the first release.")
        made.push("2.0.0", "This is the second release.", "--soak", "2")
        yield made
    finally:
        made.close()
