from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sprat_controller.publisher.evaluate.evaluate import Scores
from sprat_controller.publisher.quality import QualityError, good_enough

LOSSES = {"q8_0": 0.001, "q5_1": 0.02, "q4_0": 0.08}


def scores(losses: dict[str, float]) -> list[Scores]:
    return [Scores(name, 1, 255, 9.0, math.log1p(one), 0.9, 0, 0) for name, one in losses.items()]


def test_without_a_limit_all_are_good_enough() -> None:
    assert good_enough(scores(LOSSES), None, drop_worse=True) == (["q8_0", "q5_1", "q4_0"], [])


def test_what_loses_just_as_much_as_allowed_is_good_enough() -> None:
    assert good_enough(scores(LOSSES), 80_000, drop_worse=False)[0] == ["q8_0", "q5_1", "q4_0"]


def test_each_that_loses_more_is_named_with_its_figure() -> None:
    with pytest.raises(QualityError) as raised:
        good_enough(scores(LOSSES), 10_000, drop_worse=False)
    assert str(raised.value) == (
        "check quality: q5_1 loses 2 %, and at most 1 % is allowed; q4_0 loses 8 %, and at most"
        " 1 % is allowed: leave them out with --drop-worse, or allow more"
    )


def test_the_worse_are_left_out_if_that_is_asked_for() -> None:
    kept, worse = good_enough(scores(LOSSES), 10_000, drop_worse=True)
    assert kept == ["q8_0"]
    assert [one.variant for one in worse] == ["q5_1", "q4_0"]


def test_somebody_must_be_left() -> None:
    with pytest.raises(QualityError, match="no variant is left"):
        good_enough(scores(LOSSES), 0, drop_worse=True)


@given(st.lists(st.floats(0, 10), min_size=1, max_size=6), st.integers(0, 10_000_000))
def test_nothing_is_kept_that_loses_more_and_nothing_dropped_that_does_not(
    losses: list[float], most_ppm: int
) -> None:
    judged = scores({f"v{n}": one for n, one in enumerate(losses)})
    by_name = {one.variant: one for one in judged}
    try:
        kept, worse = good_enough(judged, most_ppm, drop_worse=True)
    except QualityError:
        kept, worse = [], judged
    assert all(round(by_name[name].loss * 1e6) <= most_ppm for name in kept)
    assert all(round(one.loss * 1e6) > most_ppm for one in worse)
    assert len(kept) + len(worse) == len(judged)
