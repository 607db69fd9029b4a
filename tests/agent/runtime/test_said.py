"""What a worker says is one short line, whatever it says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulators.scripted_worker import UNJAILED
from simulators.workbench import Bench
from sprat_agent.runtime.faults import EngineFailedError
from sprat_agent.runtime.said import LONGEST, line
from sprat_agent.sync.ports import Loadable


@given(st.text() | st.text("\x00\x1b\n\r\u202e\ud800é", max_size=2 * LONGEST))
def test_it_can_be_shown_and_has_an_end(text: str) -> None:
    shown = line(text)
    assert shown.isprintable()
    assert len(shown) <= 10 * LONGEST + 1


def test_what_can_be_shown_is_shown() -> None:
    assert line("cannot load 'é'") == "cannot load 'é'"
    assert line("a\x1b[2J\nb") == r"a\x1b[2J\nb"
    assert line("x" * (LONGEST + 1)) == "x" * LONGEST + "…"


async def test_a_worker_that_says_what_it_likes_is_an_engine_that_failed(
    bench: Bench, one: Loadable
) -> None:
    await bench.supervisor.load_committed(one)
    with pytest.raises(EngineFailedError) as caught:
        await bench.ask("invent")
    assert caught.value.code == "engine_error"
    assert caught.value.message.startswith(r"\x1b[2Jxxx")
    assert len(caught.value.message) < 2 * LONGEST


async def test_what_a_worker_says_of_its_jail_begins_no_record_of_its_own(
    bench: Bench, one: Loadable, caplog: pytest.LogCaptureFixture
) -> None:
    bench.control(UNJAILED, "landlock\n\x1b[2Jall is well")
    await bench.supervisor.load_committed(one)
    said = [one.getMessage() for one in caplog.records]
    (told,) = (one for one in said if "parts of its jail" in one)
    assert told.endswith(r"parts of its jail: landlock\n\x1b[2Jall is well")
