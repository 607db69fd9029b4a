from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from simulators.postgres import Cluster


@pytest.fixture(scope="session")
def cluster() -> Generator[Cluster]:
    """A PostgreSQL server, started when the first test asks for it."""
    # Most tests need none, and then not its driver either.
    from simulators import postgres  # noqa: PLC0415 - as said

    with postgres.running() as made:
        yield made
