"""How often models were asked, by what devices say, whatever they say."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest
from sprat_controller.report.record import Record
from sprat_controller.report.usage import Usage
from sprat_proto import canonical

MODEL = "talk@1.0.0+q4_0"


class Told:
    def __init__(self) -> None:
        self.usage = Usage()
        self._seq = count(1)

    def tell(
        self, what: str, at: str = "2026-11-26T12:34:56+00:00", device: str = "gw-1", **detail: Any
    ) -> None:
        body = {
            "ts": at,
            "tag": f"application:inference:{what}",
            "subject": MODEL,
            "detail": {"digest": "d1", **detail},
        }
        self.usage.take(device, Record(device, next(self._seq), body))

    def said(self) -> list[tuple[Any, ...]]:
        names = ("device", "hour", "outcome", "count", "tokens_in", "tokens_out")
        return [tuple(row[name] for name in names) for _, row in self.usage.statements()]


@pytest.fixture
def told() -> Told:
    return Told()


def test_single_answers_and_sums_of_an_hour_are_added_up(told: Told) -> None:
    told.tell("answered", tokens_in=10, tokens_out=3)
    told.tell("answered", tokens_in=5, tokens_out=1)
    # A sum is of the hour that it says, and written in the next.
    told.tell(
        "summed",
        at="2026-11-26T13:00:01+00:00",
        hour="2026-11-26T12:00+00:00",
        outcome="answered",
        count=7,
        tokens_in=100,
        tokens_out=70,
    )
    told.tell("failed", reason="too_long")
    told.tell("answered", device="gw-2")
    hour = "2026-11-26T12:00+00:00"
    assert told.said() == [
        ("gw-1", hour, "answered", 9, 115, 74),
        ("gw-1", hour, "failed", 1, 0, 0),
        ("gw-2", hour, "answered", 1, 0, 0),
    ]
    (_, first), *_ = told.usage.statements()
    assert first["records"] == {"gw-1": [1, 2, 3]}


def test_hours_of_other_zones_are_the_same_hours(told: Told) -> None:
    told.tell("answered", at="2026-11-26T13:10:00+01:00")
    told.tell("answered", at="2026-11-26T12:50:00+00:00")
    assert [row[1:4] for row in told.said()] == [("2026-11-26T12:00+00:00", "answered", 2)]


@pytest.mark.parametrize("number", [-5, (1 << 64) - 1, 1.5, "7", None, [], True])
def test_nothing_that_a_device_says_keeps_a_report_from_being_written(
    told: Told, number: object
) -> None:
    for _ in range(3):
        told.tell("summed", hour=number, count=number, tokens_in=number, tokens_out=number)
        told.tell("answered", at="yesterday", tokens_in=number)
    for _, row in told.usage.statements():
        assert 0 < row["count"] <= 1 << 53
        assert 0 <= row["tokens_in"] <= 1 << 53
        canonical.encode(row)
