from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from sprat_agent.runtime.slots import MOST, extra_slots

sizes = st.integers(-(1 << 40), 1 << 40)


@given(sizes, st.integers(1, 1 << 30))
def test_extra_slots_take_at_most_half_of_what_is_free(free: int, slot: int) -> None:
    extra = extra_slots(free, slot)
    assert 0 <= extra < MOST
    assert extra == 0 or extra * slot <= free / 2
    assert extra == MOST - 1 or (extra + 1) * slot > free / 2


def test_a_context_that_takes_nothing_limits_nothing() -> None:
    assert extra_slots(0, 0, most=4) == 3
