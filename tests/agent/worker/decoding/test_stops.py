"""Stop strings never show, however the text is cut."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from sprat_agent.worker.decoding.stops import StopFilter

WORDS = st.text("ab", min_size=1, max_size=4)


@given(st.lists(st.text("abc", max_size=5)), st.lists(WORDS, max_size=3))
def test_no_stop_string_is_ever_shown(pieces: list[str], stops: list[str]) -> None:
    stop_filter = StopFilter(stops)
    shown = "".join([*(stop_filter.feed(piece) for piece in pieces), stop_filter.flush()])
    whole = "".join(pieces)
    assert whole.startswith(shown)
    assert not any(stop in shown for stop in stops)
    assert stop_filter.is_stopped == any(stop in whole for stop in stops)
    if not stop_filter.is_stopped:
        assert shown == whole


@given(st.text("abc", max_size=12), WORDS)
def test_one_stop_string_cuts_at_the_same_place_however_the_text_comes(
    text: str, stop: str
) -> None:
    stop_filter = StopFilter([stop])
    shown = "".join([*(stop_filter.feed(char) for char in text), stop_filter.flush()])
    assert shown == text.partition(stop)[0]


def test_text_is_held_back_only_while_it_may_become_a_stop_string() -> None:
    stop_filter = StopFilter(["END"])
    assert [stop_filter.feed(text) for text in ("one E", "N", "TER ", "EN", "D two")] == [
        "one ",
        "",
        "ENTER ",
        "",
        "",
    ]


def test_the_stop_string_that_was_found_first_is_told() -> None:
    stop_filter = StopFilter(["c", "b", ""])
    assert stop_filter.feed("abc") == "a"
    assert stop_filter.stopped_by == "b"
