from __future__ import annotations

import gc
import os
from collections.abc import Generator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from simulators.postgres import Cluster

# Files of tests run side by side, on machines that do other things too: what is waited for comes
# late, and only what never comes is a failure. Before `processes` is imported, which reads it.
os.environ.setdefault("SPRAT_PATIENCE", "4")


def pytest_collection_finish() -> None:
    """Leave what collecting made out of each later collection of garbage: it lives to the end."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def cluster() -> Generator[Cluster]:
    """A PostgreSQL server, started when the first test asks for it."""
    # Most tests need none, and then not its driver either.
    from simulators import postgres  # noqa: PLC0415 - as said

    with postgres.running() as made:
        yield made
