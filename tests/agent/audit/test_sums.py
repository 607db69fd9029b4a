"""Sums of an hour: what was counted is in exactly one record, whatever the clock does."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sprat_agent.audit import sums
from sprat_agent.audit.sums import MOST_GROUPS, OTHERS, Addend, Sum, Sums

NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)


def one(caller: str = "loopback", ms: int = 1, subject: str = "m") -> Addend:
    names = {"caller": caller, "outcome": "answered"}
    return Addend("application:inference:summed", subject, names, {"ms": ms}, {"ms_max": ms})


def test_what_is_alike_within_an_hour_is_one_sum() -> None:
    counted = Sums()
    counted.add(NOON, one(ms=3))
    counted.add(NOON + timedelta(minutes=59, seconds=59), one(ms=8))
    counted.add(NOON, one("uid:7", ms=5))
    assert counted.take_ended(NOON + timedelta(minutes=59)) == ()
    mine, other = counted.take_ended(NOON + timedelta(hours=1))
    assert mine.detail() == {
        "hour": "2026-11-26T12:00+00:00",
        "caller": "loopback",
        "outcome": "answered",
        "count": 2,
        "ms": 11,
        "ms_max": 8,
    }
    assert (other.names["caller"], other.amounts["count"]) == ("uid:7", 1)
    assert len(counted) == 0


def test_an_hour_that_the_clock_left_backwards_has_ended_too() -> None:
    counted = Sums()
    counted.add(NOON, one())
    (before,) = counted.take_ended(NOON - timedelta(hours=3))
    counted.add(NOON, one())
    (again,) = counted.take_all()
    assert (before.hour, before.amounts["count"]) == (again.hour, again.amounts["count"])


def test_callers_without_end_become_one_caller() -> None:
    counted = Sums()
    for number in range(MOST_GROUPS + 50):
        counted.add(NOON, one(f"uid:{number}"))
    counted.add(NOON, one("uid:0"))  # who has a sum keeps it
    found = {each.names["caller"]: each.amounts["count"] for each in counted.all()}
    assert len(found) == MOST_GROUPS + 1
    assert (found[OTHERS], found["uid:0"]) == (50, 2)
    counted.add(NOON + timedelta(hours=1), one("uid:999"))  # another hour has its own bound
    assert "uid:999" in {each.names["caller"] for each in counted.all()}


def test_what_was_kept_is_read_again_and_nothing_else_is() -> None:
    counted = Sums()
    counted.add(NOON, one(ms=3))
    assert sums.decode(sums.encode(counted.all())) == counted.all()
    with pytest.raises(msgspec.DecodeError):
        sums.decode(b'[{"hour":1}]')


_MOMENTS = st.integers(0, 6 * 60).map(lambda minutes: NOON + timedelta(minutes=minutes))
_ADDENDS = st.builds(
    one, st.sampled_from(["a", "b", "c"]), st.integers(0, 1 << 40), st.sampled_from(["m", "n"])
)
# What happens: something is counted, an hour is looked for, all is kept and read again (with or
# without the write of a record having failed), or the agent stops.
_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), _MOMENTS, _ADDENDS),
        st.tuples(st.sampled_from(["end", "fail", "restart", "stop"]), _MOMENTS, st.none()),
    ),
    max_size=60,
)


@given(_STEPS)
def test_the_records_together_are_what_happened(
    steps: list[tuple[str, datetime, Addend | None]],
) -> None:
    counted = Sums()
    records: list[Sum] = []
    happened: Counter[tuple[int, str, str]] = Counter()
    took: Counter[tuple[int, str, str]] = Counter()
    longest: dict[tuple[int, str, str], int] = {}
    for what, at, addend in steps:
        match what:
            case "add" if addend:
                counted.add(at, addend)
                key = (sums.hour_of(at), addend.subject, addend.names["caller"])
                happened[key] += 1
                took[key] += addend.amounts["ms"]
                longest[key] = max(longest.get(key, 0), addend.heights["ms_max"])
            case "end":
                records += counted.take_ended(at)
                assert all(each.hour == sums.hour_of(at) for each in counted.all())
            case "fail":
                counted.put_back(counted.take_ended(at))
            case "restart":
                kept = sums.encode(counted.all())
                counted = Sums()
                counted.put_back(sums.decode(kept))
            case _:
                records += counted.take_all()
                assert not counted.all()
    records += counted.take_all()
    told: Counter[tuple[int, str, str]] = Counter()
    told_ms: Counter[tuple[int, str, str]] = Counter()
    told_longest: dict[tuple[int, str, str], int] = {}
    for each in records:
        key = (each.hour, each.subject, each.names["caller"])
        told[key] += each.amounts["count"]
        told_ms[key] += each.amounts["ms"]
        told_longest[key] = max(told_longest.get(key, 0), each.heights["ms_max"])
    assert (told, told_ms, told_longest) == (happened, took, longest)
