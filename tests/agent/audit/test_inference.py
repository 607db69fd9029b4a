"""Which record a request to a model leads to."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sprat_agent.audit.inference import NO_MODEL, Alone, Inference, Outcome, decide
from sprat_agent.audit.sums import Addend

ANSWERED = Inference(
    model="tiny@1.0.0+q4_0",
    alias="assistant",
    digest="ab" * 32,
    adapter="",
    caller="key:till-1",
    dialect="openai",
    operation="chat",
    outcome=Outcome.ANSWERED,
    finish="stop",
    tokens_in=3,
    tokens_out=2,
    ttft_ms=12,
    ms=34,
)


def test_each_has_a_record_of_its_own() -> None:
    assert decide(1, 0.9999, ANSWERED) == Alone(
        "application:inference:answered",
        "tiny@1.0.0+q4_0",
        {
            "alias": "assistant",
            "digest": "ab" * 32,
            "caller": "key:till-1",
            "dialect": "openai",
            "operation": "chat",
            "finish": "stop",
            "tokens_in": 3,
            "tokens_out": 2,
            "ttft_ms": 12,
            "ms": 34,
        },
    )
    # Some sources of chance give the upper end, too.
    assert isinstance(decide(1, 1.0, ANSWERED), Alone)


@pytest.mark.parametrize(
    ("outcome", "tag"),
    [
        (Outcome.FAILED, "application:inference:failed"),
        (Outcome.CANCELED, "application:inference:canceled"),
    ],
)
def test_what_was_not_answered_is_told_by_its_tag(outcome: Outcome, tag: str) -> None:
    one = replace(
        ANSWERED, outcome=outcome, reason="queue_full", tokens_in=None, tokens_out=None, finish=""
    )
    alone = decide(1, 0, one)
    assert isinstance(alone, Alone)
    assert (alone.tag, alone.detail["reason"]) == (tag, "queue_full")
    assert not {"tokens_in", "tokens_out", "finish", "adapter"} & set(alone.detail)


def test_a_sum_knows_who_asked_what_and_how_that_ended() -> None:
    assert decide(0, 0.0, ANSWERED) == Addend(
        "application:inference:summed",
        "tiny@1.0.0+q4_0",
        {"digest": "ab" * 32, "caller": "key:till-1", "outcome": "answered"},
        {"ms": 34, "tokens_in": 3, "tokens_out": 2, "ttft_ms": 12, "ttft_count": 1},
        {"ms_max": 34, "ttft_ms_max": 12},
    )


def test_without_a_first_token_there_is_no_time_to_it() -> None:
    one = replace(ANSWERED, model=NO_MODEL, digest="", ttft_ms=None, tokens_in=None)
    addend = decide(0, 0.0, one)
    assert isinstance(addend, Addend)
    assert addend.amounts == {"ms": 34, "tokens_in": 0, "tokens_out": 2}
    assert addend.heights == {"ms_max": 34}


@given(st.integers(2, 1000), st.floats(0, 1, exclude_max=True))
def test_one_of_so_many_is_alone_and_all_others_are_summed(one_in: int, draw: float) -> None:
    is_alone = isinstance(decide(one_in, draw, ANSWERED), Alone)
    assert is_alone == (draw * one_in < 1)


def test_only_a_record_of_its_own_has_what_was_said() -> None:
    content = {"prompt": {"text": "canary"}}
    assert "canary" in str(decide(1, 0, ANSWERED, content))
    assert "canary" not in str(decide(0, 0, ANSWERED, content))
    assert "canary" not in str(decide(2, 0.5, ANSWERED, content))
