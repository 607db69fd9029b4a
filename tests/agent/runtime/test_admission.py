"""Interactive before batch, nobody starved, and a wait that is predicted from what was measured."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sprat_agent.runtime.admission import (
    BATCH_YIELDS_S,
    Pace,
    Place,
    QueueFull,
    Work,
    admit,
    estimated_tokens,
    in_order,
    predicted_wait_s,
    retry_after_s,
)

PACE = Pace(prefill_tps=100, decode_tps=10, answer_tokens=50, is_measured=True)
PLACES = st.lists(st.builds(Place, st.floats(0, 500), st.booleans()), max_size=12)
WORKS = st.lists(st.builds(Work, st.integers(0, 9000), st.none() | st.integers(0, 900)))


def ordered(places: list[Place]) -> list[Place]:
    return in_order((one, one) for one in places)


def test_interactive_goes_before_batch_that_came_a_little_earlier() -> None:
    batch, interactive = Place(1, is_batch=True), Place(2)
    assert ordered([batch, interactive]) == [interactive, batch]


def test_batch_that_has_yielded_for_long_goes_first() -> None:
    batch, interactive = Place(1, is_batch=True), Place(2 + BATCH_YIELDS_S)
    assert ordered([interactive, batch]) == [batch, interactive]


@given(PLACES)
def test_each_priority_is_served_in_order_of_arrival(places: list[Place]) -> None:
    for is_batch in (True, False):
        arrivals = [one.arrived for one in ordered(places) if one.is_batch is is_batch]
        assert arrivals == sorted(arrivals)


@given(PLACES)
def test_batch_yields_just_so_long(places: list[Place]) -> None:
    after = ordered(places)
    for at, one in enumerate(after):
        for later in after[at + 1 :]:
            if one.is_batch and not later.is_batch:
                assert later.arrived >= one.arrived + BATCH_YIELDS_S
            if later.is_batch and not one.is_batch:
                assert one.arrived <= later.arrived + BATCH_YIELDS_S


def test_those_who_came_together_stay_in_the_order_given() -> None:
    assert in_order([(Place(1), "first"), (Place(1), "second")]) == ["first", "second"]


def test_a_wait_is_prompts_one_by_one_and_answers_side_by_side() -> None:
    ahead = [Work(200), Work(100, most=10)]  # 3 s of prompts; 50 + 10 tokens of answers
    assert predicted_wait_s(ahead, PACE, slots=1) == pytest.approx(3 + 6)
    assert predicted_wait_s(ahead, PACE, slots=2) == pytest.approx(3 + 3)
    assert predicted_wait_s([], PACE, slots=1) == 0


def test_a_full_queue_says_when_to_come_again() -> None:
    ahead = [Work(150), Work(0, most=0)]
    full = admit(ahead, PACE, 1, queued=2, max_queued=2, max_wait_s=60)
    assert full == QueueFull(6.5, 7)
    assert admit(ahead, PACE, 1, queued=1, max_queued=2, max_wait_s=60) is None


def test_too_long_a_wait_is_a_full_queue_too() -> None:
    ahead = [Work(100)]  # 1 s and 5 s
    assert admit(ahead, PACE, 1, queued=0, max_queued=9, max_wait_s=5) == QueueFull(6, 6)
    assert admit(ahead, PACE, 1, queued=0, max_queued=9, max_wait_s=6) is None


@given(WORKS, st.integers(0, 8))
def test_retry_after_is_the_wait_rounded_up_and_never_absurd(works: list[Work], slots: int) -> None:
    wait_s = predicted_wait_s(works, PACE, slots)
    after = retry_after_s(wait_s)
    assert 1 <= after <= 600
    assert after >= min(wait_s, 600)
    assert after < max(wait_s + 1, 1.5)


def test_the_first_answer_takes_the_place_of_the_guess() -> None:
    pace = Pace().after(200, 1000, 40, 2000)
    assert pace == Pace(200, 20, 40, is_measured=True)
    assert pace.after(200, 500, 40, 2000).prefill_tps == pytest.approx(250)


def test_what_was_not_measured_changes_nothing() -> None:
    assert PACE.after(0, 0, 0, 0) == PACE
    assert PACE.after(10, 0, 0, 10) == PACE


@given(st.lists(st.tuples(st.integers(1, 99), st.floats(1, 999)), min_size=1))
def test_a_pace_stays_within_what_was_measured(answers: list[tuple[int, float]]) -> None:
    pace = Pace()
    for tokens, took_ms in answers:
        pace = pace.after(tokens, took_ms, tokens, took_ms)
    rates = [tokens * 1000 / took_ms for tokens, took_ms in answers]
    assert min(rates) * 0.999 <= pace.prefill_tps <= max(rates) * 1.001


def test_tokens_are_estimated_upwards() -> None:
    assert [estimated_tokens(length) for length in (0, 1, 4, 5)] == [0, 1, 1, 2]
