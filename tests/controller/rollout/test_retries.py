from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulators.both_books import Trial
from sprat_controller.rollout.phases import ExecutionEvent
from sprat_controller.rollout.retries import (
    RETRYABLE,
    goes_on,
    longest_delay_s,
    may_pass,
    penalty_until,
    retry_at,
)
from sprat_controller.rollout.strategy import Retries, Strategy
from sprat_proto.states import ExecutionState, GroupState, ReasonCode, RolloutState

NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
THREE = Retries(attempts=3, base_s=30, ceiling_s=100, penalty_s=600)
FAIL, SOME = ExecutionEvent.FAIL, ReasonCode.DOWNLOAD_FAILED
DRAWS = st.floats(0, 1, exclude_max=True)


@pytest.mark.parametrize(("tries", "most"), [(0, 30), (1, 60), (2, 100), (9, 100)])
def test_the_longest_delay_doubles_up_to_its_ceiling(tries: int, most: int) -> None:
    assert longest_delay_s(THREE, tries) == most


def test_attempts_are_used_up() -> None:
    given_out = [retry_at(THREE, FAIL, SOME, tries, NOW, draw=0.5) for tries in range(5)]
    assert given_out == [NOW + timedelta(seconds=15), NOW + timedelta(seconds=30),
                         NOW + timedelta(seconds=50), None, None]  # fmt: skip
    assert retry_at(Retries(attempts=0), FAIL, SOME, 0, NOW, draw=0.5) is None


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
    for event in ExecutionEvent:
        assert retry_at(THREE, event, code, 0, NOW, draw=0.0) is None
        assert penalty_until(THREE, event, code, NOW) is None


def test_what_a_device_went_back_from_is_tried_again_only_for_what_it_lacked_just_then() -> None:
    """Its model was loaded: what came of that is said of the release, on this device."""
    back = {code for code in ReasonCode if may_pass(ExecutionEvent.ROLL_BACK, code)}
    assert back == {
        *(ReasonCode.INSUFFICIENT_DISK, ReasonCode.INSUFFICIENT_MEMORY, ReasonCode.NO_PROGRESS)
    }
    assert may_pass(ExecutionEvent.FAIL, ReasonCode.WORKER_CRASHED)
    assert not may_pass(ExecutionEvent.REJECT, ReasonCode.INSUFFICIENT_MEMORY)


@pytest.mark.parametrize("end", [ExecutionState.FAILED, ExecutionState.ROLLED_BACK])
@pytest.mark.parametrize(
    "code",
    [
        *(ReasonCode.DOWNLOAD_FAILED, ReasonCode.WORKER_CRASHED, ReasonCode.LOAD_FAILED),
        *(ReasonCode.INSUFFICIENT_MEMORY, ReasonCode.INSUFFICIENT_DISK, ReasonCode.NO_PROGRESS),
        *(ReasonCode.PROBE_FAILED, ReasonCode.SOAK_FAILED, ReasonCode.DIGEST_MISMATCH),
    ],
)
def test_every_book_tries_again_what_this_table_says(
    trial: Trial, end: ExecutionState, code: ReasonCode
) -> None:
    trial.join("d0")
    rollout = trial.create(Strategy(retries=Retries(attempts=1, base_s=60, ceiling_s=60)))
    trial.settle()
    trial.work("d0", end, code)
    event = FAIL if end is ExecutionState.FAILED else ExecutionEvent.ROLL_BACK
    is_retried = may_pass(event, code)
    assert trial.states(rollout) == {"d0": ExecutionState.QUEUED if is_retried else end}
    trial.settle()
    trial.wait(60)
    trial.settle()
    assert trial.starts(rollout) == {"d0": 2 if is_retried else 1}
    if is_retried:
        trial.work("d0", end, code)
        assert trial.states(rollout) == {"d0": end}  # its attempts are used up


def test_in_what_ends_nothing_is_tried_again() -> None:
    running = {one for one in RolloutState if goes_on(one, GroupState.RUNNING)}
    assert running == {RolloutState.RUNNING, RolloutState.PAUSED}
    assert not goes_on(RolloutState.RUNNING, GroupState.ERROR)


def test_a_device_that_used_up_its_attempts_is_left_alone_for_a_while() -> None:
    assert penalty_until(THREE, FAIL, SOME, NOW) == NOW + timedelta(seconds=600)
    assert penalty_until(Retries(attempts=0), FAIL, SOME, NOW) is None
    assert penalty_until(Retries(penalty_s=0), FAIL, SOME, NOW) is None


@given(
    st.builds(
        Retries,
        attempts=st.integers(0, 10),
        base_s=st.integers(1, 604_800),
        ceiling_s=st.integers(1, 604_800),
    ),
    st.sampled_from([(event, code) for event, codes in RETRYABLE.items() for code in codes]),
    st.integers(0, 12),
    DRAWS,
)
def test_a_retry_is_within_its_limits_and_there_are_only_so_many(
    retries: Retries, ended: tuple[ExecutionEvent, ReasonCode], tries: int, draw: float
) -> None:
    found = retry_at(retries, *ended, tries, NOW, draw=draw)
    assert (found is None) == (tries >= retries.attempts)
    if found is not None:
        assert NOW <= found <= NOW + timedelta(seconds=retries.ceiling_s)


@given(st.integers(0, 9), DRAWS, DRAWS)
def test_the_delay_is_as_the_draw(tries: int, one: float, other: float) -> None:
    retries = Retries(attempts=10)
    first, second = (
        retry_at(retries, FAIL, SOME, tries, NOW, draw=draw) for draw in sorted((one, other))
    )
    assert first is not None
    assert second is not None
    assert first <= second
