from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st
from sprat_controller.access.lockout import (
    LIMIT,
    LOCKED_FOR,
    WINDOW,
    Failures,
    after_failure,
    locked_until,
)

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
PAUSES = st.lists(st.integers(0, 3600).map(lambda s: timedelta(seconds=s)), max_size=80)


@given(PAUSES)
def test_no_hour_has_more_tries_than_four_locks_let_through(pauses: list[timedelta]) -> None:
    kept: Failures | None = None
    now, tries = NOW, list[datetime]()
    for pause in pauses:
        now += pause
        if locked_until(kept, now) is None:
            tries.append(now)
            kept = after_failure(kept, now)
    for start in tries:
        within = [one for one in tries if start <= one < start + timedelta(hours=1)]
        gaps = [b - a for a, b in itertools.pairwise(within)]
        # A run longer than the limit has a pause in it: of a lock, or that made it begin anew.
        assert len(within) <= LIMIT or max(gaps) >= min(WINDOW, LOCKED_FOR)


@given(PAUSES)
def test_a_lock_always_ends(pauses: list[timedelta]) -> None:
    kept: Failures | None = None
    now = NOW
    for pause in pauses:
        now += pause
        kept = after_failure(kept, now)
        assert locked_until(kept, now + LOCKED_FOR) is None


def test_failures_with_long_pauses_do_not_add_up() -> None:
    kept: Failures | None = None
    for number in range(3 * LIMIT):
        kept = after_failure(kept, NOW + number * (WINDOW + timedelta(seconds=1)))
    assert kept is not None
    assert (kept.count, kept.locked_until) == (1, None)


def test_the_last_of_a_run_locks() -> None:
    kept: Failures | None = None
    for _ in range(LIMIT - 1):
        kept = after_failure(kept, NOW)
        assert locked_until(kept, NOW) is None
    kept = after_failure(kept, NOW)
    assert locked_until(kept, NOW) == NOW + LOCKED_FOR
