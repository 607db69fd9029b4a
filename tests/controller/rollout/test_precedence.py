"""Who has the alias of a device: priority first, then age, and nobody is ended twice."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from sprat_controller.rollout.precedence import Ends, is_held, settle
from sprat_proto.states import ExecutionState

STATES = st.sampled_from(
    [ExecutionState.QUEUED, ExecutionState.IN_PROGRESS, ExecutionState.SUCCEEDED]
)
PRIORITIES = st.integers(-1, 1)


def test_of_equals_the_newer_takes_what_the_older_has_not_finished() -> None:
    for state in (ExecutionState.QUEUED, ExecutionState.IN_PROGRESS):
        assert settle(0, 0, state, is_newer=False) is Ends.OTHER
    assert settle(0, 0, ExecutionState.SUCCEEDED, is_newer=False) is Ends.NEITHER


def test_an_older_one_takes_nothing_from_a_newer_that_is_at_work_or_done() -> None:
    for state in (ExecutionState.IN_PROGRESS, ExecutionState.SUCCEEDED):
        assert settle(0, 0, state, is_newer=True) is Ends.MINE
    assert settle(0, 0, ExecutionState.QUEUED, is_newer=True) is Ends.NEITHER


def test_higher_priority_takes_from_a_newer_one_too() -> None:
    assert settle(1, 0, ExecutionState.IN_PROGRESS, is_newer=True) is Ends.OTHER
    # What has not begun has nothing to be taken: it waits, and its turn comes after.
    assert settle(1, 0, ExecutionState.QUEUED, is_newer=True) is Ends.NEITHER
    assert settle(1, 0, ExecutionState.QUEUED, is_newer=False) is Ends.OTHER


@given(
    one=PRIORITIES,
    other=PRIORITIES,
    of_one=STATES,
    of_other=STATES,
    one_is_newer=st.booleans(),
)
def test_never_do_two_end_each_other(
    one: int, other: int, of_one: ExecutionState, of_other: ExecutionState, *, one_is_newer: bool
) -> None:
    first = settle(one, other, of_other, is_newer=not one_is_newer)
    second = settle(other, one, of_one, is_newer=one_is_newer)
    assert (first, second) != (Ends.OTHER, Ends.OTHER)


@given(one=PRIORITIES, other=PRIORITIES, is_newer=st.booleans())
def test_what_may_start_leaves_nobody_else_at_work(one: int, other: int, *, is_newer: bool) -> None:
    """Beside one that is at work another only waits, ends, or ends it: never both go on."""
    state = ExecutionState.IN_PROGRESS
    if not is_held(one, other, state):
        assert settle(one, other, state, is_newer=is_newer) is not Ends.NEITHER
