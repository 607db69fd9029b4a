from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sprat_controller.publisher.quality import QualityError, good_enough

LOSSES = {"q8_0": 1_000, "q5_1": 20_000, "q4_0": 81_234}


def test_without_a_limit_all_are_good_enough() -> None:
    assert good_enough(LOSSES, None, drop_worse=True) == (["q8_0", "q5_1", "q4_0"], [])


def test_what_loses_just_as_much_as_allowed_is_good_enough() -> None:
    assert good_enough(LOSSES, 81_234, drop_worse=False) == (["q8_0", "q5_1", "q4_0"], [])


def test_each_that_loses_more_is_named_with_its_figure() -> None:
    with pytest.raises(QualityError) as raised:
        good_enough(LOSSES, 10_000, drop_worse=False)
    assert str(raised.value) == (
        "check quality: q5_1 loses 2 %, and at most 1 % is allowed; q4_0 loses 8.1234 %, and at"
        " most 1 % is allowed: leave them out with --drop-worse, or allow more"
    )


def test_the_worse_are_left_out_if_that_is_asked_for() -> None:
    assert good_enough(LOSSES, 10_000, drop_worse=True) == (["q8_0"], ["q5_1", "q4_0"])


def test_somebody_must_be_left() -> None:
    with pytest.raises(QualityError, match="no variant is left"):
        good_enough(LOSSES, 0, drop_worse=True)


@given(
    st.dictionaries(st.text(min_size=1), st.integers(0, 10_000_000), min_size=1),
    st.integers(0, 10_000_000),
)
def test_nothing_is_kept_that_loses_more_and_nothing_dropped_that_does_not(
    losses: dict[str, int], most: int
) -> None:
    try:
        kept, worse = good_enough(losses, most, drop_worse=True)
    except QualityError:
        kept, worse = [], list(losses)
    assert all(losses[name] <= most for name in kept)
    assert all(losses[name] > most for name in worse)
    assert sorted([*kept, *worse]) == sorted(losses)
