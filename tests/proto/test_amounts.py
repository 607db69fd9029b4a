from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sprat_proto import amounts

MIB = 1 << 20
counts = st.integers(0, 1 << 60)


@pytest.mark.parametrize(
    ("count", "said"),
    [(0, "0"), (1, "0.001"), (1000, "1"), (4500, "4.5"), (12_345, "12.345"), (10_000, "10")],
)
def test_thousandths_are_said_exactly(count: int, said: str) -> None:
    assert amounts.thousandths(count) == said


def test_millionths_are_said_in_percent() -> None:
    assert amounts.percent(21_000) == "2.1 %"
    assert amounts.percent(1) == "0.0001 %"
    assert amounts.percent(0) == "0 %"


def test_what_is_needed_is_rounded_up_and_what_there_is_down() -> None:
    assert amounts.least(MIB + 1) == "2 MiB"
    assert amounts.most(2 * MIB - 1) == "1 MiB"
    assert amounts.least(MIB) == amounts.most(MIB) == "1 MiB"


def test_a_limit_is_said_to_the_byte() -> None:
    assert amounts.exactly(2048 * MIB) == "2048 MiB"
    assert amounts.exactly(MIB + 1) == "1048577 bytes"


@given(counts, counts)
def test_two_amounts_that_differ_never_look_alike(one: int, other: int) -> None:
    if one == other:
        return
    assert amounts.thousandths(one) != amounts.thousandths(other)
    assert amounts.exactly(one) != amounts.exactly(other)
    assert amounts.percent(one) != amounts.percent(other)
    said = amounts.apart(one, other)
    assert said[0] != said[1]
    low, high = sorted((one, other))
    assert amounts.most(low) != amounts.least(high)
