"""What is gone without a word for it, or with a word that no policy stands behind, is found."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sprat_controller.audit import expiries
from sprat_controller.audit.expiries import Expiries, Policy, first_outside, ranges_of
from sprat_proto import canonical
from sprat_proto.audit_events import Tag

NOW: Final = datetime(2026, 11, 27, tzinfo=UTC)
TAG: Final = "api:request:denied"


def record(tag: Tag, detail: object) -> bytes:
    return canonical.encode({"tag": tag.value, "detail": detail})


def policy(days: int, tag: str = "") -> bytes:
    return record(Tag.RETENTION_SET, {"tag": tag, "days": days})


def expired(*ranges: tuple[int, int], days: int | None = 200, tag: str = "") -> bytes:
    said = expiries.expiry(Policy(tag, days), NOW, 1)
    return record(Tag.AUDIT_EXPIRED, said | {"ranges": [list(one) for one in ranges]})


def read(*log: bytes) -> Expiries:
    """Read a log; what has no body is gone."""
    found = Expiries()
    for seq, one in enumerate(log, 1):
        if one:
            found.take(seq, one)
        else:
            found.gone(seq)
    return found


def test_what_expired_as_a_policy_said_is_no_fault() -> None:
    found = read(b"", b"", policy(200), b"{}", b"", expired((1, 2), (5, 5)))
    assert (found.count, found.fault()) == (3, None)


@pytest.mark.parametrize(
    ("log", "seq"),
    [
        ([b"", policy(200)], 1),
        ([b"", b"", policy(200), expired((1, 1))], 2),
        ([b"", b"", policy(200), expired((2, 2))], 1),
        # Nobody could have known then.
        ([policy(200), expired((1, 3)), b""], 3),
        ([policy(200), expired((3, 3)), b""], 3),
        ([policy(200), b"", expired((2, 3)), b"{}"], 2),
    ],
)
def test_what_nobody_says_has_expired_was_removed(log: list[bytes], seq: int) -> None:
    fault = read(*log).fault()
    assert fault is not None
    assert fault[0] == seq
    assert f"record {seq} was removed, no record says that it expired" in fault[1]


@pytest.mark.parametrize(
    "log",
    [
        [b"", expired((1, 1))],
        [b"", policy(200), expired((1, 1), days=100)],
        [b"", policy(200, TAG), expired((1, 1))],
        [b"", policy(200), expired((1, 1), tag=TAG)],
        [b"", policy(200), policy(0), expired((1, 1))],
        # For ever is no policy that anything expires by.
        [b"", policy(200), policy(0), expired((1, 1), days=None)],
        [b"", expired((1, 1), days=None)],
        [b"", expired((1, 1)), policy(200)],
        [b"", policy(200), record(Tag.AUDIT_EXPIRED, {"ranges": [[1, 1]]})],
    ],
)
def test_an_expiry_that_no_policy_stood_behind_is_a_fault(log: list[bytes]) -> None:
    fault = read(*log).fault()
    assert fault is not None
    assert fault[0] == 1
    assert "no policy in the log said so then" in fault[1]


def test_a_policy_may_be_changed_after_what_expired_by_it() -> None:
    log = [
        b"",
        policy(200),
        expired((1, 1)),
        policy(0),
        policy(400),
        b"",
        expired((6, 6), days=400),
    ]
    assert read(*log).fault() is None


def test_the_first_expiry_without_a_policy_is_told() -> None:
    fault = read(b"", b"", expired((2, 2)), expired((1, 1))).fault()
    assert fault is not None
    assert fault[0] == 2


@pytest.mark.parametrize(
    "said",
    [None, 7, "1-2", [[1]], [[0, 1]], [[2, 1]], [["1", "2"]], [[1, 2, 3]], [None]],
)
def test_what_is_no_list_of_ranges_covers_nothing(said: object) -> None:
    detail: dict[str, Any] = {"policy": {"tag": "", "days": 200}, "ranges": said}
    fault = read(b"", policy(200), record(Tag.AUDIT_EXPIRED, detail)).fault()
    assert fault is not None
    assert "no record says that it expired" in fault[1]


def test_words_that_are_not_the_logs_own_are_none() -> None:
    log = [b"", policy(200), record(Tag.AUTH_DENIED, {"message": Tag.AUDIT_EXPIRED.value})]
    fault = read(*log).fault()
    assert fault is not None
    assert fault[0] == 1
    for odd in (b"[" * 100_000, b'"%b"' % Tag.AUDIT_EXPIRED.value.encode(), b"\xff"):
        assert read(odd + Tag.AUDIT_EXPIRED.value.encode()).fault() is None


SETS: Final = st.sets(st.integers(1, 30))


@given(SETS, st.lists(SETS, max_size=4))
def test_the_first_that_is_in_no_range_is_the_first_that_is_in_no_set(
    inner: set[int], outer: list[set[int]]
) -> None:
    ranges = [one for some in outer for one in ranges_of(sorted(some))]
    left = inner - {seq for some in outer for seq in some}
    assert first_outside(ranges_of(sorted(inner)), ranges) == min(left, default=None)


@given(SETS)
def test_ranges_are_of_all_numbers_and_of_no_others(numbers: set[int]) -> None:
    ranges = ranges_of(sorted(numbers))
    assert {seq for first, last in ranges for seq in range(first, last + 1)} == numbers
    assert all(one[1] + 1 < other[0] for one, other in pairwise(ranges))


def test_a_policy_says_until_when() -> None:
    assert Policy("", 10).cutoff(NOW) == NOW - timedelta(days=10)
    assert Policy("", None).cutoff(NOW) is None
    assert (Policy("", 10).said(), Policy("", None).said()) == ("10 days", "for ever")
