from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from sprat_agent.worker.batching.lookup import MOST, PATTERN, Worth, guess


@given(st.lists(st.integers(0, 2), max_size=40), st.integers(-1, 6))
def test_a_guess_is_what_followed_the_same_tokens_last_time(tokens: list[int], most: int) -> None:
    pattern = tokens[-PATTERN:]
    starts = [at for at in range(len(tokens) - PATTERN) if tokens[at : at + PATTERN] == pattern]
    expected = (
        tokens[starts[-1] + PATTERN : starts[-1] + PATTERN + most] if starts and most > 0 else []
    )
    assert guess(tokens, most) == expected


def test_bytes_that_look_alike_across_tokens_are_no_pattern() -> None:
    assert guess([0x0100, 0x0100, 0x0100, 0x0100 << 16, 1, 1, 1, 1], MOST) == [1]
    assert guess([1, 0x00010000, 0, 0, 256, 0, 0], MOST) == []


def test_guessing_stops_when_it_is_wrong_and_is_tried_again_later() -> None:
    worth = Worth()
    assert worth.is_given()
    for _ in range(8):
        worth.learn(4, 0)
    answers = [worth.is_given() for _ in range(64)]
    assert not answers[0]
    assert any(answers)
    worth.learn(4, 4)
    assert worth.is_given()
