"""What a worker says is one short line, whatever it says."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from sprat_agent.runtime.said import LONGEST, line


@given(st.text() | st.text("\x00\x1b\n\r\u202e\ud800é", max_size=2 * LONGEST))
def test_it_can_be_shown_and_has_an_end(text: str) -> None:
    shown = line(text)
    assert shown.isprintable()
    assert len(shown) <= 10 * LONGEST + 1


def test_what_can_be_shown_is_shown() -> None:
    assert line("cannot load 'é'") == "cannot load 'é'"
    assert line("a\x1b[2J\nb") == r"a\x1b[2J\nb"
    assert line("x" * (LONGEST + 1)) == "x" * LONGEST + "…"
