from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sprat_controller.errors import TooManyRequestsError
from sprat_controller.fleet import rate
from sprat_controller.fleet.rate import Bucket, Gate, Rate, take

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
SLOW = Rate(burst=2, per_s=0.5)


@given(st.lists(st.integers(0, 5000), max_size=60), st.integers(1, 10), st.integers(1, 10))
def test_never_more_than_a_burst_and_what_time_brought(
    steps_ms: list[int], burst: int, per_s: int
) -> None:
    bucket: Bucket | None = None
    now, granted = NOW, 0
    for step in steps_ms:
        now += timedelta(milliseconds=step)
        bucket, wait_s = take(bucket, Rate(burst, per_s), now)
        granted += wait_s == 0
    assert granted <= burst + (now - NOW).total_seconds() * per_s + 1e-6


def test_who_waits_as_long_as_told_is_let_in() -> None:
    bucket, _ = take(None, SLOW, NOW)
    bucket, _ = take(bucket, SLOW, NOW)
    bucket, wait_s = take(bucket, SLOW, NOW)
    assert wait_s == 2.0
    assert take(bucket, SLOW, NOW + timedelta(seconds=wait_s))[1] == 0


def test_a_clock_that_goes_back_gives_nothing() -> None:
    bucket, _ = take(Bucket(0.5, NOW), SLOW, NOW - timedelta(days=1))
    assert bucket.left == 0.5


def test_a_source_that_floods_does_not_close_the_gate_for_others() -> None:
    gate = Gate(Rate(2, 1), Rate(4, 1))
    gate.enter("a", NOW)
    gate.enter("a", NOW)
    for _ in range(9):
        with pytest.raises(TooManyRequestsError) as caught:
            gate.enter("a", NOW)
        assert caught.value.details["retry_after_s"] == 2
    gate.enter("b", NOW)
    gate.enter("c", NOW)
    with pytest.raises(TooManyRequestsError):
        gate.enter("d", NOW)
    gate.enter("d", NOW + timedelta(seconds=1))


def test_sources_without_number_use_a_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate, "MAX_SOURCES", 3)
    gate = Gate(Rate(1, 0.001), Rate(1000, 1))
    for number in range(9):
        gate.enter(f"s-{number}", NOW)
    with pytest.raises(TooManyRequestsError):
        gate.enter("s-8", NOW)
    gate.enter("s-0", NOW)  # forgotten by now; the limit of all still holds
