"""Maintenance windows: when one opens (cron), how long it stays open, in which time zone. Pure.

Cron has five fields: minute, hour, day of month, month, day of week. Each is a list of `*`, `N`,
`A-B`, the last two of months and weekdays also by name (`jan`, `mon`), `*` and ranges also with a
step (`*/15`, `9-17/2`). Weekdays count from Sunday, 0 or 7. `L` is the last day of a month, `2#1`
its first Tuesday, `5L` its last Friday. If both day fields are restricted a day of either opens; a
field that begins with `*`, as in `*/2`, restricts only further (as in Debian's cron).

Where clocks change, for any expression alike: a local time that is skipped opens at the first
moment after the gap; one that comes twice opens once, the first time. A duration is time that
passes, so a window of four hours closes four hours later, whatever clocks show.

There are libraries for cron. What they do where clocks change is cron's own, which treats fields
with `*` in another way than others and skips those in a gap (cronsim), or is not settled
(APScheduler, croniter): of a promise that devices keep alone there must be one rule.
"""

from __future__ import annotations

import calendar
import re
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Annotated, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from msgspec import Meta, Struct

MAX_CRON: Final = 128  # characters
MAX_ZONE: Final = 64  # characters
MIN_DURATION_S: Final = 60
MAX_DURATION_S: Final = 7 * 86_400
# A 29 February that must fall on one weekday is up to 40 years away: what does not open within
# these never does.
HORIZON_YEARS: Final = 41

_DAY: Final = timedelta(days=1)
_SECOND: Final = timedelta(seconds=1)
_MAX_JOINED: Final = 64  # openings that `closes_at` follows
_LAST: Final = -1  # the last one of its weekday in the month

_ITEM: Final = re.compile(r"(?:(\*)|([0-9a-z]+)(?:-([0-9a-z]+))?)(?:/([0-9]{1,2}))?")
_NTH: Final = re.compile(r"([0-9]|[a-z]{3})(?:#([1-5])|l)")
_NUMBER: Final = re.compile(r"[0-9]{1,2}")
_ZONE: Final = re.compile(r"[A-Za-z0-9_+-]+(?:/[A-Za-z0-9_+-]+)*")
_LENGTH: Final = re.compile(r"([0-9]{1,6})([smhd])")
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
# Files of zone data that are no zone, or that each device has another one of.
_NO_ZONES: Final = frozenset({"localtime", "posixrules", "Factory"})


class WindowError(ValueError):
    """What was said is no window; the sentence says what was expected and what was found."""


class WindowSpec(Struct, frozen=True, forbid_unknown_fields=True):
    """A window as people say it and as it travels; `parse` reads it."""

    cron: Annotated[str, Meta(min_length=1, max_length=MAX_CRON)]
    duration_s: Annotated[int, Meta(ge=MIN_DURATION_S, le=MAX_DURATION_S)]
    # IANA name. Always said: msgspec tells a default text by its identity, so there would be two
    # spellings of it.
    zone: Annotated[str, Meta(min_length=1, max_length=MAX_ZONE)]


@dataclass(frozen=True)
class _Field:
    """What one field of the expression may be."""

    name: str
    low: int
    high: int
    names: Mapping[str, int]


_MONTHS: Final = {
    name: number
    for number, name in enumerate(
        ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"), 1
    )
}
_WEEKDAYS: Final = {
    name: number for number, name in enumerate(("sun", "mon", "tue", "wed", "thu", "fri", "sat"))
}
_MINUTE: Final = _Field("minute", 0, 59, {})
_HOUR: Final = _Field("hour", 0, 23, {})
_DAY_OF_MONTH: Final = _Field("day of month", 1, 31, {})
_MONTH: Final = _Field("month", 1, 12, _MONTHS)
_DAY_OF_WEEK: Final = _Field("day of week", 0, 7, _WEEKDAYS)


@dataclass(frozen=True)
class _Days:
    """Which days match."""

    months: frozenset[int]
    days: frozenset[int]
    has_last_day: bool
    weekdays: frozenset[int]  # 0 is Sunday
    nth: frozenset[tuple[int, int]]  # weekday, and which one in its month: 1 to 5, or `_LAST`
    is_either: bool  # both fields are restricted: one of them is enough

    def match(self, day: date) -> bool:
        """Tell whether a window opens on this day."""
        last = calendar.monthrange(day.year, day.month)[1]
        weekday = day.isoweekday() % 7
        by_date = day.day in self.days or (self.has_last_day and day.day == last)
        by_weekday = (
            weekday in self.weekdays
            or (weekday, (day.day - 1) // 7 + 1) in self.nth
            or ((weekday, _LAST) in self.nth and day.day + 7 > last)
        )
        if day.month not in self.months:
            return False
        return by_date or by_weekday if self.is_either else by_date and by_weekday


@dataclass(frozen=True)
class Window:
    """A window that was read; `parse` makes it."""

    spec: WindowSpec
    days: _Days
    times: tuple[int, ...]  # minutes since midnight, rising
    duration: timedelta
    zone: tzinfo


def parse(spec: WindowSpec) -> Window:
    """Read a window.

    Raises:
        WindowError: The expression, the duration or the zone is none.
    """
    if len(spec.cron) > MAX_CRON:
        raise WindowError(
            f"expected a cron expression of at most {MAX_CRON} characters, found {len(spec.cron)}"
        )
    if not MIN_DURATION_S <= spec.duration_s <= MAX_DURATION_S:
        raise WindowError(
            f"expected a window of {MIN_DURATION_S} to {MAX_DURATION_S} seconds, found"
            f" {spec.duration_s}"
        )
    fields = spec.cron.lower().split()
    if len(fields) != 5:  # noqa: PLR2004 - the five fields of cron
        raise WindowError(
            "expected five fields (minute, hour, day of month, month, day of week), found"
            f" {len(fields)} in {spec.cron!r}"
        )
    minutes, hours = _values(fields[0], _MINUTE), _values(fields[1], _HOUR)
    return Window(
        spec=spec,
        days=_days(*fields[2:]),
        times=tuple(sorted(hour * 60 + minute for hour in hours for minute in minutes)),
        duration=timedelta(seconds=spec.duration_s),
        zone=_zone(spec.zone),
    )


def parse_text(text: str) -> WindowSpec:
    """Read `CRON;DURATION` or `CRON;DURATION;ZONE`, such as `0 1 * * *;4h;Europe/Paris`.

    The duration is a number and one of s, m, h, d; without a zone it is UTC.

    Raises:
        WindowError: It is no window; all of it was judged.
    """
    cron, *rest = (part.strip() for part in text.split(";"))
    if len(rest) not in (1, 2):
        raise WindowError(
            "expected CRON;DURATION or CRON;DURATION;ZONE, such as '0 1 * * *;4h;Europe/Paris',"
            f" found {text[:256]!r}"
        )
    length = _LENGTH.fullmatch(rest[0])
    if length is None:
        raise WindowError(
            f"expected a duration such as 90m, 4h or 2d, found {rest[0][:MAX_ZONE]!r}"
        )
    zone = rest[1] if len(rest) > 1 else "UTC"
    spec = WindowSpec(cron=cron, duration_s=int(length[1]) * _UNITS[length[2]], zone=zone)
    parse(spec)
    return spec


def is_open(window: Window, now: datetime) -> bool:
    """Tell whether it is open; it is at the moment that it opens, and not when it closes."""
    opened = _last_opening(window, now)
    return opened is not None and now < opened + window.duration


def closes_at(window: Window, now: datetime) -> datetime | None:
    """Return when it closes, in UTC; None if it is not open.

    One that opens again before it closes, or just then, is open on. Of many such in a row not all
    are followed: it may be open at the moment returned, and is until then.
    """
    opened = _last_opening(window, now)
    if opened is None or now >= opened + window.duration:
        return None
    for _ in range(_MAX_JOINED):
        again = _last_opening(window, opened + window.duration)
        if again is None or again <= opened:
            break
        opened = again
    return opened + window.duration


def next_open(window: Window, now: datetime) -> datetime | None:
    """Return the first moment after `now` at which it opens, in UTC; None: it never does.

    It may be open now.
    """
    now = now.astimezone(UTC)
    # A local time of yesterday may be skipped, and open today.
    start = now.astimezone(window.zone).date() - _DAY
    for year in range(start.year, min(start.year + HORIZON_YEARS, date.max.year) + 1):
        for month in sorted(window.days.months):
            for number in range(1, calendar.monthrange(year, month)[1] + 1):
                day = date(year, month, number)
                if day < start or not window.days.match(day):
                    continue
                index = _opened_by(window, day, now)
                if index < len(window.times):
                    return _opening(window, day, window.times[index])
    return None


def _last_opening(window: Window, at: datetime) -> datetime | None:
    """Return the newest opening that is not after `at`, if it may still be open."""
    at = at.astimezone(UTC)
    # A local time of tomorrow may come twice, the first time before `at`.
    newest = at.astimezone(window.zone).date() + _DAY
    # Gaps put off an opening by at most a day (as when Samoa left one out).
    for back in range(window.duration.days + 4):
        day = newest - back * _DAY
        if window.days.match(day):
            index = _opened_by(window, day, at)
            if index:
                return _opening(window, day, window.times[index - 1])
    return None


def _opened_by(window: Window, day: date, at: datetime) -> int:
    """Return how many of the day's times have opened; openings never fall as times rise."""
    return bisect_right(window.times, at, key=lambda minutes: _opening(window, day, minutes))


def _opening(window: Window, day: date, minutes: int) -> datetime:
    """Return the moment of a local time, in UTC."""
    local = datetime.combine(day, time(minutes // 60, minutes % 60))
    # By the rule before a change (fold 0): the first time of one that comes twice.
    first = local.replace(tzinfo=window.zone).astimezone(UTC)
    if first.astimezone(window.zone).replace(tzinfo=None, fold=0) == local:
        return first
    # It is skipped. By the rule after the change (fold 1) it lies before it, by the other after it.
    before = local.replace(tzinfo=window.zone, fold=1).astimezone(UTC)
    was = before.astimezone(window.zone).utcoffset()
    after = first
    while after - before > _SECOND:
        middle = before + (after - before) // 2
        middle = middle.replace(microsecond=0)
        if middle.astimezone(window.zone).utcoffset() == was:
            before = middle
        else:
            after = middle
    return after


def _days(day: str, month: str, weekday: str) -> _Days:
    by_date = [one for one in day.split(",") if one != "l"]
    nth: set[tuple[int, int]] = set()
    by_weekday: list[str] = []
    for one in weekday.split(","):
        found = _NTH.fullmatch(one)
        if found is None:
            by_weekday.append(one)
        else:
            which = int(found[2]) if found[2] else _LAST
            nth.add((_number(found[1], _DAY_OF_WEEK) % 7, which))
    return _Days(
        months=_values(month, _MONTH),
        days=_values(",".join(by_date), _DAY_OF_MONTH) if by_date else frozenset(),
        has_last_day="l" in day.split(","),
        weekdays=frozenset(one % 7 for one in _values(",".join(by_weekday), _DAY_OF_WEEK))
        if by_weekday
        else frozenset(),
        nth=frozenset(nth),
        is_either=not day.startswith("*") and not weekday.startswith("*"),
    )


def _values(text: str, field: _Field) -> frozenset[int]:
    """Return all values of a field."""
    return frozenset(value for item in text.split(",") for value in _item(item, field))


def _item(text: str, field: _Field) -> range:
    found = _ITEM.fullmatch(text)
    if found is None:
        raise _wrong(text, field)
    star, low_text, high_text, step_text = found.groups()
    step = 1 if step_text is None else int(step_text)
    if step == 0:
        raise WindowError(f"expected a step of 1 or more in the {field.name}, found {text!r}")
    if star:
        return range(field.low, field.high + 1, step)
    low = _number(low_text, field)
    if high_text is None:
        if step_text is not None:
            raise WindowError(
                f"expected a step after * or a range in the {field.name}, found {text!r}: say"
                f" {low_text}-{field.high}/{step_text}"
            )
        return range(low, low + 1)
    high = _number(high_text, field)
    if field is _DAY_OF_WEEK and high == 0 and low > 0:
        high = 7  # a week that ends on Sunday
    if high < low:
        raise WindowError(
            f"expected a range from the lower to the higher {field.name}, found {text!r}"
        )
    return range(low, high + 1, step)


def _number(text: str, field: _Field) -> int:
    if text in field.names:
        return field.names[text]
    if _NUMBER.fullmatch(text) is None or not field.low <= int(text) <= field.high:
        raise _wrong(text, field)
    return int(text)


def _wrong(text: str, field: _Field) -> WindowError:
    names = f" or a name such as {next(iter(field.names))}" if field.names else ""
    return WindowError(
        f"expected for the {field.name} a number from {field.low} to {field.high}{names}, found"
        f" {text!r}"
    )


def _zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC  # also where there are no data
    if len(name) > MAX_ZONE or _ZONE.fullmatch(name) is None or name in _NO_ZONES:
        raise WindowError(
            f"expected the IANA name of a time zone, such as Europe/Paris, found {name[:64]!r}"
        )
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise WindowError(
            f"expected a time zone that is known here, found {name!r}: use an IANA name such as"
            " Europe/Paris, or install a newer tzdata"
        ) from error
