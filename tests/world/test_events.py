"""Events come out in order, all of them, once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulators.world.events import Calendar, Events

ROWS = st.tuples(st.integers(0, 50_000), st.integers(0, 99), st.integers(0, 3), st.integers(0, 9))


def columns(rows: list[tuple[int, int, int, int]]) -> Events:
    at = np.array(rows, dtype=np.int64).reshape(-1, 4)
    return Events(at[:, 0], at[:, 1], at[:, 2], at[:, 3])


def rows_of(events: Events) -> list[tuple[int, ...]]:
    parts = (events.at_ms, events.device, events.what, events.number)
    return list(zip(*(part.tolist() for part in parts), strict=True))


@given(st.lists(st.lists(ROWS, max_size=20), max_size=5), st.integers(1, 10_000))
def test_everything_comes_out_once_and_in_order(
    batches: list[list[tuple[int, int, int, int]]], tick_ms: int
) -> None:
    calendar = Calendar(tick_ms)
    for batch in batches:
        calendar.add(columns(batch))
    out: list[tuple[int, ...]] = []
    while (end := calendar.next_ms()) is not None:
        taken = rows_of(calendar.pop())
        assert taken
        assert all(end - tick_ms <= at < end for at, *_ in taken)
        out += taken
    assert sorted(out) == sorted(row for batch in batches for row in batch)
    assert [row[:2] for row in out] == sorted(row[:2] for row in out)


def test_an_empty_calendar_has_nothing() -> None:
    calendar = Calendar(1_000)
    assert calendar.next_ms() is None
    with pytest.raises(IndexError):
        calendar.pop()


def test_a_tick_takes_time() -> None:
    with pytest.raises(ValueError, match="at least 1 ms, not 0"):
        Calendar(0)
