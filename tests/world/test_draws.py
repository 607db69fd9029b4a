"""Chance by counting."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulators.world.draws import Purpose, uniform

EVERYONE = np.arange(100_000, dtype=np.int64)
SEEDS = st.integers(0, 1 << 63)


@given(SEEDS, st.sampled_from(list(Purpose)), st.lists(st.integers(0, 9_999), max_size=50))
def test_a_draw_does_not_depend_on_who_else_is_asked(
    seed: int, purpose: Purpose, some: list[int]
) -> None:
    asked = np.array(some, dtype=np.int64)
    assert (uniform(seed, purpose, asked) == uniform(seed, purpose, EVERYONE[:10_000])[asked]).all()


@pytest.mark.parametrize("seed", [0, 1, 7, (1 << 64) - 1])
def test_draws_are_even(seed: int) -> None:
    drawn = uniform(seed, Purpose.CRASH, EVERYONE)
    counts, _ = np.histogram(drawn, bins=20, range=(0.0, 1.0))
    assert counts.sum() == len(EVERYONE)
    assert abs(counts - 5_000).max() < 400  # 5.8 standard deviations


def test_seeds_purposes_and_tries_have_nothing_to_do_with_each_other() -> None:
    tries = np.ones_like(EVERYONE)
    columns = [
        uniform(1, Purpose.CRASH, EVERYONE),
        uniform(2, Purpose.CRASH, EVERYONE),
        uniform(1, Purpose.CORRUPT, EVERYONE),
        uniform(1, Purpose.CRASH, EVERYONE, tries),
    ]
    related = np.corrcoef(columns) - np.eye(len(columns))
    assert abs(related).max() < 0.02


def test_the_purposes_have_numbers_of_their_own_that_a_seed_is_spread_over() -> None:
    assert len({int(one) for one in Purpose}) == len(Purpose)
    assert max(Purpose) < 64
