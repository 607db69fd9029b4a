"""Waiting before the next attempt: spread out, and never longer than the ceiling."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st
from sprat_agent.link import backoff


def longest(_low: float, high: float) -> float:
    return high


@given(st.integers(1, 10**9), st.integers())
def test_a_wait_is_never_longer_than_the_ceiling(attempt: int, seed: int) -> None:
    waited = backoff.delay_s(attempt, random.Random(seed).uniform)  # noqa: S311 - a test's dice
    assert 0 <= waited <= backoff.CEILING_S


def test_the_range_doubles_until_the_ceiling() -> None:
    ranges = [backoff.delay_s(attempt, longest) for attempt in range(1, 11)]
    assert ranges == [2, 4, 8, 16, 32, 64, 128, 256, 300, 300]


def test_any_wait_in_the_range_may_be_drawn() -> None:
    dice = random.Random(7)  # noqa: S311 - a test's dice
    waits = [backoff.delay_s(9, dice.uniform) for _ in range(1000)]
    assert min(waits) < backoff.CEILING_S * 0.05
    assert max(waits) > backoff.CEILING_S * 0.95


def test_the_first_wait_is_spread_as_the_controller_announced() -> None:
    assert backoff.first_delay_s(0, longest) == 0
    assert backoff.first_delay_s(90, longest) == 90
