"""The probe's judgement."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from sprat_agent.runtime.golden import FOUND_LENGTH, judge, question
from sprat_proto.manifest import GoldenPrompt


@given(st.text(), st.text(), st.text())
def test_an_answer_that_contains_what_is_expected_passes(
    before: str, expected: str, after: str
) -> None:
    assert judge(GoldenPrompt("?", expected), before + expected + after) is None


@given(st.text(), st.text())
def test_equals_means_equal_but_for_white_space_around(expected: str, answer: str) -> None:
    fault = judge(GoldenPrompt("?", expected, "equals"), answer)
    assert (fault is None) == (expected.strip() == answer.strip())


def test_what_was_found_travels_shortened() -> None:
    fault = judge(GoldenPrompt("?", "yes"), "no" * 500)
    assert fault is not None
    assert fault.expected == "yes"
    assert len(fault.found) == FOUND_LENGTH
    assert len(fault.message) < 300


def test_a_golden_prompt_is_asked_greedily_and_with_nothing_reused() -> None:
    chat = question(GoldenPrompt("What?", "That.", max_tokens=7))
    assert (chat.sampling.temperature, chat.max_tokens, chat.is_fresh) == (0, 7, True)
