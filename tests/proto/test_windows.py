"""Windows against a second oracle: every minute of the time around, asked for its local time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulators.zones import CHANGES, HOUR, LORD_HOWE, MINUTE, NEW_YORK, PARIS, local_minutes
from sprat_proto import windows
from sprat_proto.windows import (
    WindowError,
    WindowSpec,
    closes_at,
    is_open,
    next_open,
    parse,
    parse_text,
)


def at(zone: str, *local: int, fold: int = 0) -> datetime:
    year, month, day, hour, minute = local
    there = datetime(year, month, day, hour, minute, tzinfo=ZoneInfo(zone), fold=fold)
    return there.astimezone(UTC)


def opened(cron: str, zone: str = "UTC", length: timedelta = HOUR) -> windows.Window:
    return parse(WindowSpec(cron=cron, duration_s=int(length.total_seconds()), zone=zone))


def some(window: windows.Window, after: datetime, count: int) -> list[datetime]:
    found: list[datetime] = []
    for _ in range(count):
        opening = next_open(window, found[-1] if found else after)
        assert opening is not None
        found.append(opening)
    return found


def ends_at(openings: list[datetime], length: timedelta, moment: datetime) -> datetime:
    """Return when what is open at the moment ends, with all that joins it."""
    end = moment
    for one in openings:
        if one <= end and one + length > moment:
            end = max(end, one + length)
    return end


# Reading


@pytest.mark.parametrize(
    ("cron", "first"),
    [
        ("0 2 * * *", [(6, 1, 2, 0), (6, 2, 2, 0)]),
        ("*/20 2-3 * * *", [(6, 1, 2, 0), (6, 1, 2, 20), (6, 1, 2, 40), (6, 1, 3, 0)]),
        ("0-10/5,30 4 * * *", [(6, 1, 4, 0), (6, 1, 4, 5), (6, 1, 4, 10), (6, 1, 4, 30)]),
        ("0 2 * JAN,aug *", [(8, 1, 2, 0), (8, 2, 2, 0)]),
        ("0 2 * * sat,Sun", [(6, 6, 2, 0), (6, 7, 2, 0), (6, 13, 2, 0)]),
        ("0 2 * * 0", [(6, 7, 2, 0), (6, 14, 2, 0)]),
        ("0 2 * * 7", [(6, 7, 2, 0), (6, 14, 2, 0)]),
        ("0 2 * * fri-sun", [(6, 5, 2, 0), (6, 6, 2, 0), (6, 7, 2, 0), (6, 12, 2, 0)]),
        ("0 2 L * *", [(6, 30, 2, 0), (7, 31, 2, 0)]),
        ("0 2 15,L * *", [(6, 15, 2, 0), (6, 30, 2, 0), (7, 15, 2, 0)]),
        ("0 2 * * 2#1", [(6, 2, 2, 0), (7, 7, 2, 0), (8, 4, 2, 0)]),
        ("0 2 * * tue#5", [(6, 30, 2, 0), (9, 29, 2, 0)]),
        ("0 2 * * friL", [(6, 26, 2, 0), (7, 31, 2, 0)]),
        ("0 2 * * 5l,1#1", [(6, 1, 2, 0), (6, 26, 2, 0), (7, 6, 2, 0)]),
        # Either day, where both are restricted; both, where one begins with a star.
        ("0 2 3 * fri", [(6, 3, 2, 0), (6, 5, 2, 0), (6, 12, 2, 0)]),
        ("0 2 */2 * mon", [(6, 1, 2, 0), (6, 15, 2, 0), (6, 29, 2, 0)]),
    ],
)
def test_cron_means_what_it_always_means(cron: str, first: list[tuple[int, ...]]) -> None:
    expected = [at("UTC", 2026, *one) for one in first]
    assert some(opened(cron), datetime(2026, 6, 1, tzinfo=UTC), len(first)) == expected


@pytest.mark.parametrize(
    ("cron", "sentence"),
    [
        ("0 2 * *", "expected five fields"),
        ("0 2 * * * *", "found 6"),
        ("60 2 * * *", "expected for the minute a number from 0 to 59, found '60'"),
        ("0 24 * * *", "expected for the hour a number from 0 to 23, found '24'"),
        ("0 2 0 * *", "expected for the day of month a number from 1 to 31, found '0'"),
        ("0 2 * 13 *", "a number from 1 to 12 or a name such as jan, found '13'"),
        ("0 2 * * 8", "a number from 0 to 7 or a name such as sun, found '8'"),
        ("0 2 * * 2#6", "found '2#6'"),
        ("0 2 * * 9#1", "found '9'"),
        ("0 2 * * L", "found 'l'"),
        ("0 2 * feb-jan *", "from the lower to the higher month"),
        ("0 2 * * mon-jan", "found 'jan'"),
        ("*/0 2 * * *", "a step of 1 or more in the minute"),
        ("5/10 2 * * *", "say 5-59/10"),
        ("1,,2 2 * * *", "found ''"),
        ("-1 2 * * *", "found '-1'"),
        ("\u0661 2 * * *", "expected for the minute"),
        ("0 2 * * * ".ljust(200), "at most 128 characters, found 200"),
    ],
)
def test_what_is_no_cron_is_refused_in_one_sentence(cron: str, sentence: str) -> None:
    with pytest.raises(WindowError) as caught:
        opened(cron)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    "zone",
    ["Europe/Nowhere", "", "../etc/passwd", "/etc/passwd", "localtime", "Europe", "x" * 65, "a\0b"],
)
def test_an_unknown_zone_is_refused_with_what_to_do(zone: str) -> None:
    with pytest.raises(WindowError, match="IANA name"):
        parse(WindowSpec(cron="0 2 * * *", duration_s=60, zone=zone))


@pytest.mark.parametrize("duration_s", [-1, 0, 59, 7 * 86_400 + 1])
def test_a_window_is_a_minute_to_a_week_long(duration_s: int) -> None:
    with pytest.raises(WindowError, match="60 to 604800 seconds"):
        parse(WindowSpec(cron="0 2 * * *", duration_s=duration_s, zone="UTC"))


def test_a_text_is_read_and_judged_as_a_whole() -> None:
    assert parse_text(" 0 1 * * * ; 4h ; Europe/Paris ") == WindowSpec(
        cron="0 1 * * *", duration_s=4 * 3600, zone=PARIS
    )
    assert parse_text("0 1 * * *;90m").zone == "UTC"
    for text in ("", "0 1 * * *", "0 1 * * *;1h;UTC;x", "0 1 * * *;4", "0 1 * * *;4y;UTC"):
        with pytest.raises(WindowError, match="expected"):
            parse_text(text)
    with pytest.raises(WindowError, match="expected for the hour"):
        parse_text("0 99 * * *;1h")


@given(st.text(alphabet="0123456789*/-,#LlmonTUE ", max_size=40))
def test_any_text_is_a_window_or_a_sentence(text: str) -> None:
    said = ""
    try:
        times = opened(text).times
    except WindowError as error:
        times, said = (), str(error)
    assert bool(times) != said.startswith("expected ")


# When it is open


def test_it_is_open_from_its_opening_until_before_its_end() -> None:
    window = opened("0 2 * * *")
    start = datetime(2026, 6, 1, 2, 0, tzinfo=UTC)
    moments = (-1, 0, 3599, 3600)
    assert [is_open(window, start + timedelta(seconds=one)) for one in moments] == [
        False,
        True,
        True,
        False,
    ]
    assert closes_at(window, start) == start + HOUR
    assert closes_at(window, start + HOUR) is None
    assert next_open(window, start) == start + 24 * HOUR


def test_a_window_over_days_is_open_in_its_middle() -> None:
    window = opened("0 22 * * fri", length=timedelta(days=2, hours=7))
    assert is_open(window, datetime(2026, 6, 8, 4, 59, tzinfo=UTC))
    assert not is_open(window, datetime(2026, 6, 8, 5, 0, tzinfo=UTC))


def test_openings_that_join_are_one_window() -> None:
    window = opened("0 1-3 * * *")
    start = datetime(2026, 6, 1, 1, 30, tzinfo=UTC)
    assert closes_at(window, start) == datetime(2026, 6, 1, 4, 0, tzinfo=UTC)
    always = opened("* * * * *", length=MINUTE)
    end = closes_at(always, start)
    assert end is not None
    assert end > start  # and it is looked at again then
    assert is_open(always, end)


@pytest.mark.parametrize("cron", ["0 2 30 2 *", "0 2 31 2,4,6,9,11 *", "0 2 * 2 1#5"])
def test_what_is_rare_is_found_and_what_never_comes_is_none(cron: str) -> None:
    window = opened(cron)
    now = datetime(2026, 6, 1, tzinfo=UTC)
    if "#" in cron:  # a February with five Mondays
        assert next_open(window, now) == datetime(2044, 2, 29, 2, 0, tzinfo=UTC)
    else:
        assert next_open(window, now) is None
        assert not is_open(window, now)


def test_the_longest_wait_there_is_is_within_the_horizon() -> None:
    # 2100 is no leap year.
    waits: list[int] = []
    for weekday in range(7):
        window = opened(f"0 2 * 2 {weekday}#5")
        year = 2080
        while year < 2140:
            found = next_open(window, datetime(year, 3, 1, tzinfo=UTC))
            assert found is not None
            waits.append(found.year - year)
            year = found.year
    assert max(waits) <= windows.HORIZON_YEARS


# Where clocks change


def test_a_skipped_time_opens_at_the_first_moment_after_the_gap() -> None:
    gap = datetime(2026, 3, 29, 1, 0, tzinfo=UTC)
    window = opened("30 2 * * *", PARIS)
    assert next_open(window, gap - HOUR) == gap
    assert not is_open(window, gap - timedelta(seconds=1))
    assert is_open(window, gap + HOUR - timedelta(seconds=1))
    assert not is_open(window, gap + HOUR)
    howe = datetime(2026, 10, 3, 15, 30, tzinfo=UTC)
    assert next_open(opened("15 2 * * *", LORD_HOWE), howe - HOUR) == howe


def test_a_time_that_comes_twice_opens_once_the_first_time() -> None:
    window = opened("30 2 * * *", PARIS, 30 * MINUTE)
    first = at(PARIS, 2026, 10, 25, 2, 30)
    assert some(window, first - HOUR, 2) == [first, at(PARIS, 2026, 10, 26, 2, 30)]
    assert not is_open(window, at(PARIS, 2026, 10, 25, 2, 30, fold=1))
    howe = opened("45 1 * * *", LORD_HOWE, 10 * MINUTE)
    assert is_open(howe, at(LORD_HOWE, 2026, 4, 5, 1, 45))
    assert not is_open(howe, at(LORD_HOWE, 2026, 4, 5, 1, 45, fold=1))


def test_a_duration_is_time_that_passes() -> None:
    for day in ((2026, 3, 29), (2026, 10, 25)):
        window = opened("0 0 * * *", PARIS, 6 * HOUR)
        start = at(PARIS, *day, 0, 0)
        assert closes_at(window, start) == start + 6 * HOUR


def test_a_whole_day_that_was_left_out_opens_after_it() -> None:
    window = opened("0 12 30 12 *", "Pacific/Apia")
    gap = datetime(2011, 12, 30, 10, 0, tzinfo=UTC)
    assert next_open(window, gap - HOUR) == gap


@pytest.mark.parametrize(("zone", "change", "forward"), CHANGES)
def test_the_changes_are_where_this_file_says(
    zone: str, change: datetime, *, forward: bool
) -> None:
    info = ZoneInfo(zone)
    before = (change - timedelta(seconds=1)).astimezone(info).utcoffset()
    after = change.astimezone(info).utcoffset()
    assert before is not None
    assert after is not None
    assert (after > before) == forward
    assert after != before


@pytest.mark.parametrize(("zone", "change", "forward"), CHANGES)
@given(
    minutes=st.sets(st.integers(0, 59), min_size=1, max_size=4),
    hours=st.sets(st.integers(0, 23), min_size=1, max_size=6),
    near=st.booleans(),
    length=st.integers(1, 600),
)
@settings(max_examples=6, deadline=None)
def test_every_minute_around_a_change_is_as_walking_over_them_says(
    zone: str,
    change: datetime,
    minutes: set[int],
    hours: set[int],
    length: int,
    *,
    forward: bool,
    near: bool,
) -> None:
    del forward
    hours = {1, 2, 3} if near else hours
    said = ",".join(map(str, sorted(minutes))), ",".join(map(str, sorted(hours)))
    window = opened(f"{said[0]} {said[1]} * * *", zone, length * MINUTE)
    start, end = change - 20 * HOUR, change + 16 * HOUR
    openings = sorted(
        {
            moment
            for local, moment in local_minutes(zone, start, end).items()
            if local.minute in minutes and local.hour in hours
        }
    )
    moment = change - 5 * HOUR  # what opened before `start` is closed by then
    while moment < change + 5 * HOUR:
        expected = any(one <= moment < one + window.duration for one in openings)
        assert is_open(window, moment) == expected, moment
        closing = closes_at(window, moment)
        assert (closing is not None) == expected
        if closing is not None and (end_of := ends_at(openings, window.duration, moment)) <= end:
            assert closing == end_of, moment
        if moment.minute % 30 == 0:
            later = [one for one in openings if one > moment]
            if later:
                assert next_open(window, moment) == later[0], moment
        moment += MINUTE


@given(
    start=st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1)),  # noqa: DTZ001 - UTC follows
    hour=st.integers(0, 23),
    weekday=st.integers(0, 6),
    length=st.integers(1, 7 * 24 * 60),
    zone=st.sampled_from([PARIS, NEW_YORK, LORD_HOWE, "UTC", "America/Sao_Paulo", "Asia/Kolkata"]),
)
def test_it_opens_when_it_says_so_and_not_before(
    start: datetime, hour: int, weekday: int, length: int, zone: str
) -> None:
    now = start.replace(tzinfo=UTC)
    window = opened(f"30 {hour} * * {weekday}", zone, length * MINUTE)
    opening = next_open(window, now)
    assert opening is not None
    assert now < opening <= now + timedelta(days=8)
    assert is_open(window, opening)
    closing = closes_at(window, now)
    assert (closing is not None) == is_open(window, now)
    if closing is None:
        assert not is_open(window, opening - timedelta(seconds=1))
    else:
        assert is_open(window, closing - timedelta(seconds=1))
