from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sprat_controller.rollout import abort_said
from sprat_controller.rollout.strategy import AbortCriterion, Extent, FailureType


def kept(criterion: AbortCriterion, **more: Any) -> dict[str, Any]:
    abort = {"criterion": msgspec.to_builtins(criterion), "group": 1, "failures": 3, "judged": 9}
    return {**abort, "at": "2026-11-26T12:00:00Z", **more}


@pytest.mark.parametrize(
    ("abort", "said"),
    [
        (None, ""),
        ({}, ""),
        (
            kept(AbortCriterion(FailureType.FAILED, percent=20, min_count=3)),
            "3 of 9 that ended in group 1 failed (the limit is 20 %, and at least 3)",
        ),
        (
            kept(AbortCriterion(FailureType.TIMED_OUT, percent=20, extent=Extent.ROLLOUT)),
            "3 of 9 that ended timed out (the limit is 20 %)",
        ),
        (
            kept(AbortCriterion(FailureType.ROLLED_BACK, percent=0, min_count=2)),
            "3 of 9 that ended in group 1 went back by themselves (the limit is 2)",
        ),
        (
            kept(AbortCriterion(percent=5, min_count=3), miss=True),
            "group 1 can no longer reach its share of 95 %: 3 of 9 did not succeed",
        ),
        ({"gate": "FAIL", "group": 2, "at": "-"}, "the gate of group 2 failed"),
        (
            {"since": {"0": {"succeeded": 1}}},
            "resumed after an abort: only what fails from then on counts",
        ),
        (
            {"held_back": {"code": "NOT_APPROVED", "message": "too few approved it"}},
            "held back when its time came: too few approved it",
        ),
        (
            {"held_back": {"message": "ann may not"}, "stopped_by": "user:eve"},
            "stopped by user:eve, after it was held: held back when its time came: ann may not",
        ),
        ({"stopped_by": "user:ann"}, "stopped by user:ann"),
        (
            {"gate": "FAIL", "group": 2, "stopped_by": "user:ann"},
            "stopped by user:ann, after it was held: the gate of group 2 failed",
        ),
    ],
)
def test_what_is_kept_is_a_sentence(abort: dict[str, Any] | None, said: str) -> None:
    assert abort_said.in_words(abort) == said


@given(
    criterion=st.builds(
        AbortCriterion,
        failure=st.sampled_from(FailureType),
        percent=st.integers(0, 100),
        min_count=st.integers(1, 99),
        extent=st.sampled_from(Extent),
    ),
    miss=st.booleans(),
)
def test_no_name_of_a_state_is_in_any_of_them(criterion: AbortCriterion, *, miss: bool) -> None:
    said = abort_said.in_words(kept(criterion, miss=miss))
    assert "3 of 9" in said
    assert not any(kind in said for kind in FailureType)
