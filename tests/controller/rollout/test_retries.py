from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sprat_controller.rollout.retries import (
    RETRYABLE,
    longest_delay_s,
    penalty_until,
    retry_at,
)
from sprat_controller.rollout.strategy import Retries
from sprat_proto.states import ReasonCode

NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
THREE = Retries(attempts=3, base_s=30, ceiling_s=100, penalty_s=600)
SOME = ReasonCode.DOWNLOAD_FAILED
DRAWS = st.floats(0, 1, exclude_max=True)


@pytest.mark.parametrize(("tries", "most"), [(0, 30), (1, 60), (2, 100), (9, 100)])
def test_the_longest_delay_doubles_up_to_its_ceiling(tries: int, most: int) -> None:
    assert longest_delay_s(THREE, tries) == most


def test_attempts_are_used_up() -> None:
    given_out = [retry_at(THREE, SOME, tries, NOW, 0.5) for tries in range(5)]
    assert given_out == [NOW + timedelta(seconds=15), NOW + timedelta(seconds=30),
                         NOW + timedelta(seconds=50), None, None]  # fmt: skip
    assert retry_at(Retries(attempts=0), SOME, 0, NOW, 0.5) is None


@pytest.mark.parametrize(
    "code",
    [
        *(ReasonCode.DIGEST_MISMATCH, ReasonCode.SIGNATURE_INVALID, ReasonCode.PROBE_FAILED),
        *(ReasonCode.SOAK_FAILED, ReasonCode.DEADLINE_PASSED, ReasonCode.QUARANTINED, None),
    ],
)
def test_what_does_not_pass_is_not_tried_again_and_costs_no_penalty(
    code: ReasonCode | None,
) -> None:
    assert retry_at(THREE, code, 0, NOW, 0.0) is None
    assert penalty_until(THREE, code, NOW) is None


def test_a_device_that_used_up_its_attempts_is_left_alone_for_a_while() -> None:
    assert penalty_until(THREE, SOME, NOW) == NOW + timedelta(seconds=600)
    assert penalty_until(Retries(attempts=0), SOME, NOW) is None
    assert penalty_until(Retries(penalty_s=0), SOME, NOW) is None


@given(
    st.builds(
        Retries,
        attempts=st.integers(0, 10),
        base_s=st.integers(1, 604_800),
        ceiling_s=st.integers(1, 604_800),
    ),
    st.sampled_from(sorted(RETRYABLE)),
    st.integers(0, 12),
    DRAWS,
)
def test_a_retry_is_within_its_limits_and_there_are_only_so_many(
    retries: Retries, code: ReasonCode, tries: int, draw: float
) -> None:
    found = retry_at(retries, code, tries, NOW, draw)
    assert (found is None) == (tries >= retries.attempts)
    if found is not None:
        assert NOW <= found <= NOW + timedelta(seconds=retries.ceiling_s)


@given(st.integers(0, 9), DRAWS, DRAWS)
def test_the_delay_is_as_the_draw(tries: int, one: float, other: float) -> None:
    retries = Retries(attempts=10)
    first, second = (retry_at(retries, SOME, tries, NOW, draw) for draw in sorted((one, other)))
    assert first is not None
    assert second is not None
    assert first <= second
