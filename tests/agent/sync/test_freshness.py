"""What time may be believed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st
from sprat_agent.clock import BUILT_AT, kernel_is_synchronised
from sprat_agent.sync.freshness import has_ended, is_stale, reference_time

TIMES = st.integers(0, 2**32).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))


@given(clock=TIMES, floor=st.none() | TIMES, built_at=TIMES, is_synchronised=st.booleans())
def test_t10_time_never_goes_below_what_was_signed_or_built(
    clock: datetime, floor: datetime | None, built_at: datetime, *, is_synchronised: bool
) -> None:
    found = reference_time(clock, floor, built_at, is_synchronised=is_synchronised)
    assert found >= built_at
    assert floor is None or found >= floor
    assert found in {clock, floor, built_at}
    if not is_synchronised:
        assert found == reference_time(
            datetime.max.replace(tzinfo=UTC), floor, built_at, is_synchronised=False
        )


def test_a_plan_is_stale_from_its_expiry_on() -> None:
    now = BUILT_AT
    assert not is_stale(None, now)
    assert not is_stale(now + timedelta(seconds=1), now)
    assert is_stale(now, now)


def test_a_model_without_an_end_runs_for_ever() -> None:
    assert not has_ended(0, datetime.max.replace(tzinfo=UTC))
    assert has_ended(int(BUILT_AT.timestamp()), BUILT_AT)
    assert not has_ended(int(BUILT_AT.timestamp()) + 1, BUILT_AT)


def test_the_kernel_can_be_asked() -> None:
    assert kernel_is_synchronised() in {True, False}
