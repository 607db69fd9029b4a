"""When the list of revoked certificates is renewed, and when somebody is told that it is not."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulators.pki import DAY, NOW, Pki
from sprat_controller.link.revocation_list import (
    ALARM_AGAIN,
    RENEW_AFTER,
    RETRY_AFTER,
    Health,
    RevocationList,
    Standing,
    health,
    is_alarm_due,
    is_due,
    read,
)

HOUR, SECOND = timedelta(hours=1), timedelta(seconds=1)
HELD = RevocationList(b"", NOW, NOW + 7 * DAY)


def test_a_list_is_read_with_its_dates() -> None:
    made = Pki().revocation_list(NOW)
    whole = NOW.replace(microsecond=0)
    assert read(made) == RevocationList(made, whole, whole + 7 * DAY)


def test_of_two_issuers_lists_the_first_that_expires_counts() -> None:
    both = Pki("old").revocation_list(NOW, life=2 * DAY) + Pki().revocation_list(NOW + HOUR)
    assert read(both).expires_at == NOW.replace(microsecond=0) + 2 * DAY


@pytest.mark.parametrize("damaged", [b"", b"no list", Pki().root_pem])
def test_what_is_no_list_is_refused(damaged: bytes) -> None:
    with pytest.raises(ValueError, match="found 0"):
        read(damaged)
    with pytest.raises(ValueError, match="asn1"):
        read(b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n")


def test_a_list_is_due_at_the_start_hourly_and_soon_after_a_failure() -> None:
    assert is_due(Standing(HELD), NOW)
    given_ = Standing(HELD, NOW, was_given=True)
    assert not is_due(given_, NOW + RENEW_AFTER - SECOND)
    assert is_due(given_, NOW + RENEW_AFTER)
    failed = Standing(HELD, NOW)
    assert not is_due(failed, NOW + RETRY_AFTER - SECOND)
    assert is_due(failed, NOW + RETRY_AFTER)


def test_a_clock_that_was_set_back_does_not_stop_renewal() -> None:
    assert is_due(Standing(HELD, NOW, was_given=True), NOW - HOUR)
    assert is_due(Standing(HELD, NOW), NOW - HOUR)
    assert is_alarm_due(Standing(HELD, alarmed_at=NOW + 30 * DAY), NOW + 2 * DAY)


@pytest.mark.parametrize(
    ("age", "expected"),
    [
        (timedelta(), Health.GOOD),
        (1 * DAY, Health.GOOD),
        (1 * DAY + SECOND, Health.LATE),
        (7 * DAY - SECOND, Health.LATE),
        (7 * DAY, Health.EXPIRED),
        (400 * DAY, Health.EXPIRED),
    ],
)
def test_a_list_is_good_then_late_then_expired(age: timedelta, expected: Health) -> None:
    assert health(HELD, NOW + age) is expected


@given(st.lists(st.integers(1, 3 * 3600), min_size=400, max_size=400))
def test_t48_the_alarm_comes_days_before_the_outage_and_every_day_after(pauses: list[int]) -> None:
    standing, now, alarms = Standing(HELD), NOW, list[timedelta]()
    for pause in pauses:
        now += timedelta(seconds=pause)
        if is_alarm_due(standing, now):
            alarms.append(now - NOW)
            standing = Standing(HELD, alarmed_at=now)
    if now - NOW > 2 * DAY:
        assert alarms[0] < 2 * DAY < 7 * DAY
    assert all(later - one < ALARM_AGAIN + 3 * HOUR for one, later in pairwise(alarms))
    crossed = [one for one in alarms if one >= 7 * DAY]
    if now - NOW > 7 * DAY + 3 * HOUR:
        assert crossed[0] < 7 * DAY + 3 * HOUR


def test_nobody_is_told_twice_a_day_nor_while_all_is_well() -> None:
    assert not is_alarm_due(Standing(HELD), NOW + 23 * HOUR)
    told = Standing(HELD, alarmed_at=NOW + 2 * DAY)
    assert not is_alarm_due(told, NOW + 2 * DAY + 23 * HOUR)
    assert is_alarm_due(told, NOW + 3 * DAY)
    assert is_alarm_due(Standing(HELD, alarmed_at=NOW + 7 * DAY - HOUR), NOW + 7 * DAY)
