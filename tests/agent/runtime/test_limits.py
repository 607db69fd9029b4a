"""Back-off and traffic shares."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from sprat_agent.runtime.limits import Limits, restart_delay, takes_share

LIMITS = Limits()


def test_restarts_wait_twice_as_long_each_time_up_to_a_bound() -> None:
    delays = [0.0]
    while len(delays) < 12:
        delays.append(restart_delay(delays[-1], 0, LIMITS))
    assert delays[1:5] == [0.1, 0.2, 0.4, 0.8]
    assert delays[-1] == LIMITS.restart_longest_s


def test_a_minute_of_health_forgives() -> None:
    assert restart_delay(30, 59, LIMITS) == 30
    assert restart_delay(30, 60, LIMITS) == 0.1


@given(st.integers(0, 1000), st.integers(0, 100))
def test_of_any_hundred_requests_in_a_row_the_candidate_gets_its_percentage(
    start: int, percent: int
) -> None:
    assert sum(takes_share(start + at, percent) for at in range(100)) == percent
