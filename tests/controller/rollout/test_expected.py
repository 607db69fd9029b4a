from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sprat_controller.rollout import expected
from sprat_controller.rollout.grouping import Placed
from sprat_controller.rollout.strategy import Group, Pace, Strategy

TWO = (Group(devices=1, soak_s=100), Group())


def placed(*groups: str) -> list[Placed]:
    """Return a device for each letter, in the groups in order."""
    named = [(number, name) for number, names in enumerate(groups) for name in names]
    return [Placed(name, number, place) for place, (number, name) in enumerate(named)]


@pytest.mark.parametrize(
    ("strategy", "ends"),
    [
        (Strategy(), {"a": 10, "b": 20, "c": 30}),
        (Strategy(pace=Pace(max_in_progress=1)), {"a": 10, "b": 30, "c": 60}),
        (Strategy(pace=Pace(max_in_progress=2)), {"a": 10, "b": 20, "c": 40}),
        (Strategy(pace=Pace(starts_per_minute=2)), {"a": 10, "b": 20, "c": 90}),
        (Strategy(pace=Pace(1, 1), override="the site burns"), {"a": 10, "b": 20, "c": 30}),
    ],
)
def test_the_pace_holds(strategy: Strategy, ends: dict[str, int]) -> None:
    assert expected.ends(placed("abc"), {"a": 10, "b": 20, "c": 30}, strategy) == ends


def test_a_group_begins_once_the_one_before_ended_and_was_watched() -> None:
    took: dict[str, int | None] = {"a": 10, "b": 20}
    assert expected.ends(placed("a", "bc"), took, Strategy(groups=TWO)) == {"a": 10, "b": 130}
    assert expected.ends(placed("", "b"), {"b": 20}, Strategy(groups=TWO)) == {"b": 20}


def test_what_waits_for_a_person_or_for_an_unknown_time_has_none() -> None:
    asks = Strategy(groups=(Group(devices=1, waits_for_promotion=True), Group()))
    assert expected.ends(placed("a", "b"), {"a": 10, "b": 20}, asks) == {"a": 10, "b": None}
    took: dict[str, int | None] = {"a": None, "b": 20}
    assert expected.ends(placed("a", "b"), took, Strategy(groups=TWO)) == {"a": None, "b": None}


@given(st.lists(st.integers(0, 500), max_size=30), st.integers(0, 4), st.integers(0, 4))
def test_never_more_at_once_nor_more_in_a_minute_than_the_pace_says(
    times: list[int], most: int, per_minute: int
) -> None:
    names = [f"d{number:02}" for number in range(len(times))]
    took = dict(zip(names, times, strict=True))
    all_of = [Placed(name, 0, place) for place, name in enumerate(names)]
    ends = expected.ends(all_of, took, Strategy(pace=Pace(most, per_minute)))
    runs = [(end - took[name], end) for name, end in ends.items() if end is not None]
    assert len(runs) == len(times)
    for start, _ in runs:
        assert start >= 0
        assert not most or sum(one <= start < end for one, end in runs) <= most
        assert not per_minute or sum(start <= one < start + 60 for one, _ in runs) <= per_minute
