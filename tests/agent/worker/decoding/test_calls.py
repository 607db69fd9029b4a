"""Calls are read as they come, whatever the cuts."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import count, pairwise
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sprat_agent.runtime.wire import ToolCallPart
from sprat_agent.worker.decoding.calls import ObjectReader
from sprat_agent.worker.prompting.formats import HERMES, MISTRAL_WITH_IDS, ToolFormat

VALUES = st.recursive(
    st.none() | st.integers() | st.text('a"\\{}é</>', max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)
ARGUMENTS = st.dictionaries(st.text('a"\\{}', max_size=4), VALUES, max_size=3)
CALLS = st.lists(st.tuples(st.text('ab"\\é ', min_size=1, max_size=5), ARGUMENTS), max_size=3)
CUTS = st.lists(st.integers(0, 300), max_size=12)


def reader(form: ToolFormat = HERMES) -> ObjectReader:
    numbers = count()
    return ObjectReader(form, lambda: f"id {next(numbers)}")


def cut(text: str, places: Iterable[int]) -> list[str]:
    return [text[a:b] for a, b in pairwise([0, *sorted(places), len(text)])]


def joined(parts: Iterable[ToolCallPart]) -> list[ToolCallPart]:
    """Return one part for each call; what is told of a call comes in order, the name first."""
    calls: list[ToolCallPart] = []
    for part in parts:
        if part.name:
            assert part.index == len(calls)
            assert not part.arguments
            calls.append(part)
        else:
            assert part.index == len(calls) - 1
            assert part.arguments
            assert not part.id
            last = calls[-1]
            text = last.arguments + part.arguments
            calls[-1] = ToolCallPart(last.index, last.id, last.name, text)
    return calls


# A busy machine is no fault of what is read.
UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def text_of(calls: list[tuple[str, dict[str, Any]]], indent: int | None) -> str:
    texts = [
        json.dumps({"name": name, "arguments": arguments}, indent=indent, ensure_ascii=False)
        for name, arguments in calls
    ]
    return "<tool_call>" + "</tool_call>\n<tool_call>".join(texts) + "</tool_call>"


@given(CALLS, CUTS, st.sampled_from([None, 0, 2]))
@UNTIMED
def test_calls_are_read_the_same_however_their_text_is_cut(
    calls: list[tuple[str, dict[str, Any]]], places: list[int], indent: int | None
) -> None:
    one = reader()
    text = text_of(calls, indent)
    found = joined(part for piece in cut(text, places) for part in one.feed(piece))
    assert found == joined(reader().feed(text))
    assert [(call.name, json.loads(call.arguments)) for call in found] == calls
    assert [call.id for call in found] == [f"id {at}" for at in range(len(calls))]
    assert one.count == len(calls)


def test_arguments_are_told_as_they_come() -> None:
    one = reader()
    assert one.feed('{"name": "weather", "arguments":') == ()
    assert one.feed(' {"ci') == (
        ToolCallPart(0, "id 0", "weather"),
        ToolCallPart(0, arguments='{"ci'),
    )
    assert one.feed('ty": "\\') == (ToolCallPart(0, arguments='ty": "'),)
    assert one.feed('"}') == (ToolCallPart(0, arguments='\\"}'),)
    assert one.feed('"}}</tool_call>') == (ToolCallPart(0, arguments='"}'),)


def test_a_call_may_say_that_it_is_of_a_function() -> None:
    (head, _) = reader().feed('{"type": "function", "name": "a", "parameters": {}}')
    assert head == ToolCallPart(0, "id 0", "a")


@given(
    calls=CALLS.filter(lambda calls: all(name == name.strip() for name, _ in calls)),
    places=CUTS,
    has_ids=st.booleans(),
)
@UNTIMED
def test_calls_with_marks_are_read_the_same_however_their_text_is_cut(
    *, calls: list[tuple[str, dict[str, Any]]], places: list[int], has_ids: bool
) -> None:
    one, call_id = reader(MISTRAL_WITH_IDS), "[CALL_ID]a1b2c3d4e" if has_ids else ""
    text = "".join(
        f"[TOOL_CALLS]{name}{call_id}[ARGS]{json.dumps(arguments)}" for name, arguments in calls
    )
    found = joined(part for piece in cut(text, places) for part in one.feed(piece))
    assert [(call.name, json.loads(call.arguments)) for call in found] == calls
    assert [call.id for call in found] == [f"id {at}" for at in range(len(calls))]
