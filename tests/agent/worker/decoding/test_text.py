"""What is shown of an answer's tokens does not depend on how they are cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulators.byte_vocabulary import BOS, ByteVocabulary
from sprat_agent.runtime.wire import Request, Text
from sprat_agent.worker.decoding.begin import Decodings
from sprat_agent.worker.decoding.decoding import Decoding

VOCABULARY = ByteVocabulary()
DECODINGS = Decodings(VOCABULARY, "")


def begin(*stops: str) -> Decoding:
    return DECODINGS.begin(Request(Text("x"), stop=stops))


def shown(decoding: Decoding, tokens: bytes) -> str:
    texts: list[str] = []
    for token in tokens:
        texts.append(decoding.take(token).text)
        if decoding.is_over:
            break
    return "".join([*texts, decoding.end().text])


@given(st.binary(max_size=30))
def test_any_bytes_become_text_as_if_they_came_at_once(data: bytes) -> None:
    assert shown(begin(), data) == data.decode("utf-8", "replace")


def test_an_unfinished_character_is_held_back_until_the_end() -> None:
    decoding = begin()
    assert not decoding.take(0xC3)
    assert decoding.take(0xA9).text == "é"
    assert not decoding.take(0xF0)
    assert decoding.end().text == "\N{REPLACEMENT CHARACTER}"


@given(st.text("aé€", max_size=12), st.text("aé€", min_size=1, max_size=3))
def test_a_stop_string_over_token_boundaries_ends_the_answer(text: str, stop: str) -> None:
    decoding = begin(stop)
    assert shown(decoding, text.encode()) == text.partition(stop)[0]
    assert decoding.is_over == (stop in text)
    assert decoding.stopped_by == (stop if stop in text else "")
    assert decoding.finish == "stop"


def test_control_tokens_show_nothing() -> None:
    assert not begin().take(BOS)


@pytest.mark.parametrize("token", [0, BOS])
def test_plain_answers_are_not_constrained(token: int) -> None:
    decoding = begin()
    decoding.take(token)
    assert not decoding.is_constrained
    assert not decoding.is_over
