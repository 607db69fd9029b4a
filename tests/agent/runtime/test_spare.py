from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from sprat_agent.runtime.spare import MOST, copy_bytes, extra_slots

sizes = st.integers(-(1 << 40), 1 << 40)


@given(sizes, st.integers(1, 1 << 30))
def test_extra_slots_take_at_most_half_of_what_is_free(free: int, slot: int) -> None:
    extra = extra_slots(free, slot)
    assert 0 <= extra < MOST
    assert extra == 0 or extra * slot <= free / 2
    assert extra == MOST - 1 or (extra + 1) * slot > free / 2


def test_a_context_that_takes_nothing_limits_nothing() -> None:
    assert extra_slots(0, 0, most=4) == 3


@given(sizes, st.integers(0, 1 << 40))
def test_copies_take_little_of_what_is_free_and_of_two_contexts(free: int, context: int) -> None:
    copies = copy_bytes(free, context)
    assert copies == 0 or 0 < copies <= min(free / 8, 2 * context)


def test_copies_take_what_two_contexts_take_where_there_is_room() -> None:
    assert copy_bytes(1 << 30, 16 << 20) == 32 << 20
    assert copy_bytes(1 << 30, 1 << 30) == 128 << 20
    assert copy_bytes(16 << 20, 1 << 30) == 2 << 20
    assert copy_bytes(-1, 1 << 30) == 0
