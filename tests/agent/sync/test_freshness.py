"""What time may be believed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st
from sprat_agent.clock import BUILT_AT, kernel_is_synchronised, seconds_since_boot
from sprat_agent.sync.freshness import (
    TOLERANCE,
    Time,
    Timekeeper,
    has_ended,
    is_stale,
    reference_time,
    time_by,
)

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


class Hands:
    """A clock, what counts on, and whether the clock is right."""

    def __init__(self) -> None:
        self.clock, self.uptime, self.is_right = BUILT_AT, 10.0, False
        self.keeper = Timekeeper(lambda: self.clock, lambda: self.is_right, lambda: self.uptime)


def test_the_time_is_not_known_until_the_clock_was_right_once() -> None:
    hands = Hands()
    assert hands.keeper.now() is None
    hands.is_right = True
    assert hands.keeper.now() == BUILT_AT


def test_without_anybody_to_ask_time_goes_on_from_when_it_was_right() -> None:
    hands = Hands()
    hands.is_right = True
    assert hands.keeper.now() == BUILT_AT
    hands.is_right = False
    hands.uptime += 86_400
    hands.clock = datetime(2099, 1, 1, tzinfo=UTC)  # nobody keeps it right: it says anything
    assert hands.keeper.now() == BUILT_AT + timedelta(days=1)
    hands.is_right = True
    assert hands.keeper.now() == hands.clock


@given(now=st.none() | TIMES, proven=TIMES)
def test_a_clock_that_is_behind_what_was_signed_is_not_believed(
    now: datetime | None, proven: datetime
) -> None:
    found = time_by(now, proven)
    assert found.reached >= proven
    assert found.known in {None, now}
    assert (found.known is None) == (now is None or now < proven - TOLERANCE)
    if found.known:
        assert found == Time(max(found.known, proven), found.known)


def test_what_counts_since_the_start_never_goes_back() -> None:
    assert 0 < seconds_since_boot() <= seconds_since_boot()


def test_the_kernel_can_be_asked() -> None:
    assert kernel_is_synchronised() in {True, False}
