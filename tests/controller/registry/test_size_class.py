from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sprat_controller.registry.size_class import BOUNDS, SizeClass, size_class

MILLION, BILLION = 10**6, 10**9


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        (0, "tiny"),
        (100 * MILLION - 1, "tiny"),
        (100 * MILLION, "micro"),
        (1500 * MILLION - 1, "micro"),
        (1500 * MILLION, "small"),
        (14 * BILLION - 1, "small"),
        (14 * BILLION, "medium"),
        (30 * BILLION, "medium"),
        (30 * BILLION + 1, "large"),
        (1 << 60, "large"),
    ],
)
def test_each_class_begins_where_the_one_before_it_ends(parameters: int, expected: str) -> None:
    assert size_class(parameters) == expected


@given(one=st.integers(0, 10**12), other=st.integers(0, 10**12))
def test_more_parameters_are_never_a_smaller_class(one: int, other: int) -> None:
    order = list(SizeClass)
    low, high = sorted((one, other))
    assert order.index(size_class(low)) <= order.index(size_class(high))


def test_every_class_has_its_bound_but_the_last() -> None:
    assert [name for name, _ in BOUNDS] == list(SizeClass)[:-1]
    assert sorted(bound for _, bound in BOUNDS) == [bound for _, bound in BOUNDS]


def test_fewer_parameters_than_none_are_refused() -> None:
    with pytest.raises(ValueError, match="expected a number of parameters of 0 or more, found -1"):
        size_class(-1)
