"""The probe's judgement."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from sprat_agent.runtime.golden import FOUND_LENGTH, Answers, judge, question
from sprat_agent.runtime.wire import Done
from sprat_proto.manifest import GoldenPrompt
from sprat_proto.probes import FailedCheck


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


def test_an_answer_by_a_schema_passes() -> None:
    golden = GoldenPrompt("?", '{"type":"object","required":["a"]}', "schema")
    assert judge(golden, '{"a": 1}') is None
    fault = judge(golden, "a is 1")
    assert fault is not None
    assert "JSON by" in fault.message


def test_answers_that_were_alone_tell_the_rates_where_there_are_enough() -> None:
    golden = GoldenPrompt("?", "yes")
    answers = Answers()
    slow = Done(1, "stop", 9, 21, 900.0, 2000.0)  # beside others
    answers.note(golden, "yes", slow, is_alone=False)
    assert (answers.decode_milli_tps, answers.ttft_ms) == (10_000, 900)
    answers.note(golden, "yes", Done(2, "stop", 9, 16, 300.0, 100.0), is_alone=True)
    assert (answers.decode_milli_tps, answers.ttft_ms) == (10_000, 300)  # 15 tokens tell no rate
    answers.note(golden, "no", Done(3, "stop", 9, 6, 200.0, 100.0), is_alone=True)
    assert (answers.decode_milli_tps, answers.ttft_ms) == (100_000, 300)
    guessed = Done(4, "stop", 9, 900, 100.0, 1.0, drafted_tokens=800)
    answers.note(golden, "yes", guessed, is_alone=True)
    assert answers.decode_milli_tps == 100_000
    assert (answers.asked, answers.passed) == (4, 3)
    assert answers.failed == (FailedCheck("?", "yes", "no"),)
