from __future__ import annotations

from collections.abc import Generator

import pytest
from simulators.controlled import World


@pytest.fixture
def world() -> Generator[World]:
    """A controller in memory with release 1.0.0."""
    made = World()
    made.publish("1.0.0")
    yield made
    made.close()
