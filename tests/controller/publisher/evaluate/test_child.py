# pyright: reportPrivateUsage=false
# What is private here is asked in a child only.

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sprat_controller.publisher.evaluate import child


def test_a_full_disk_is_noticed_before_it_is_full(tmp_path: Path) -> None:
    with pytest.raises(child._RefusedError, match="MiB free in"):
        child._check_room(tmp_path, 1 << 62)
    child._check_room(tmp_path, 1)


@pytest.mark.parametrize(
    ("found", "limit", "chunks"),
    [(1024, 2048, 2), (9999, 2048, 8), (9999, 2040, 8), (9999, 2039, 7), (9999, 1, 1)],
)
def test_whole_chunks_are_scored_from_the_beginning(found: int, limit: int, chunks: int) -> None:
    tokens = np.arange(found, dtype=np.int32)
    cut = child._chunks(tokens, 512, limit)
    assert cut.shape == (chunks, 512)
    assert np.array_equal(cut.ravel(), tokens[: chunks * 512])


def test_memory_of_this_process_is_counted() -> None:
    assert 10 << 20 < child._peak_bytes() < 1 << 40
