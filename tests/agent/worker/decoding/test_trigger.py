"""Where calls begin is found, whatever the cuts; all before it is text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sprat_agent.runtime.wire import Tool
from sprat_agent.worker.decoding.trigger import Trigger, bare

FIRST = bare([Tool("get weather"), Tool("time")], "parameters")


def fed(trigger: Trigger, pieces: list[str]) -> tuple[str, str]:
    """Return the text, and the calls with all that follows."""
    shown = ""
    for at, piece in enumerate(pieces):
        more, calls = trigger.feed(piece)
        shown += more
        if calls:
            return shown, calls + "".join(pieces[at + 1 :])
    return shown + trigger.flush(), ""


@given(st.lists(st.text("<a>", max_size=4)))
def test_calls_begin_at_the_same_place_however_the_text_is_cut(pieces: list[str]) -> None:
    whole = "".join(pieces)
    text, trigger, after = whole.partition("<a>")
    assert fed(Trigger("<a>"), pieces) == (text, trigger + after)


@given(st.lists(st.text("<a>{ n:", max_size=4)))
def test_no_text_is_lost_where_calls_may_come_first(pieces: list[str]) -> None:
    text, calls = fed(Trigger("<a>", ["{n:", "<<"]), pieces)
    whole = "".join(pieces)
    is_bare = "".join(whole.split()).startswith(("{n:", "<<"))
    assert text + calls == (whole.lstrip() if is_bare else whole)
    assert bool(calls) == (is_bare or "<a>" in whole)


@pytest.mark.parametrize(
    ("answer", "is_call"),
    [
        ('{"name": "time", "parameters": {}}', True),
        (' {\n "name" : "get weather",\n "parameters":', True),
        ('{"type": "function", "name": "time", "parameters": {', True),
        ('{"name": "Bob", "parameters": {}}', False),
        ('{"name": "time", "age": 3}', False),
        ('{"names": []}', False),
        ('Well: {"name": "time", "parameters": {}}', False),
        ("", False),
        ("  ", False),
    ],
)
def test_only_an_object_that_names_a_tool_first_is_a_bare_call(
    answer: str, *, is_call: bool
) -> None:
    expected = ("", answer.lstrip()) if is_call else (answer, "")
    assert fed(Trigger("<a>", FIRST), list(answer)) == expected


def test_what_was_no_call_after_all_is_text_and_the_next_one_is_found() -> None:
    trigger = Trigger("<a>")
    assert trigger.feed("x <a>") == ("x ", "<a>")
    assert trigger.go_on("<a>y <a>z") == ("<a>y ", "<a>z")


def test_a_bare_call_that_was_none_is_text() -> None:
    trigger = Trigger("<a>", ["{n:"])
    assert trigger.feed("{n:1") == ("", "{n:1")
    assert trigger.go_on("{n:1 <a>") == ("{n:1 ", "<a>")
