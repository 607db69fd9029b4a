"""What is due is found when it is, and only as long as its column says so."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from simulators.world.due import Due

ROWS = 12
NEVER = 10**15
CHANGES = st.lists(st.tuples(st.integers(0, ROWS - 1), st.integers(0, 50)), max_size=4)


@given(
    st.integers(1, 20),
    st.lists(st.tuples(CHANGES, st.booleans(), st.integers(0, 12)), max_size=12),
)
def test_each_row_is_due_when_its_column_says(
    tick_ms: int, turns: list[tuple[list[tuple[int, int]], bool, int]]
) -> None:
    column = np.full(ROWS, NEVER, dtype=np.int64)
    due, now = Due(column, tick_ms), 0
    for changes, forgets, passes in turns:
        for row, after in changes:
            column[row] = now + after
            due.add(np.array([row]))
        if forgets:
            column[now % ROWS] = NEVER
        waiting = column[column < NEVER]
        assert due.next_ms() == (waiting.min() if len(waiting) else None)
        now += passes
        expected = np.flatnonzero(column <= now)
        assert due.pop(now).tolist() == expected.tolist()
        column[expected] = NEVER
