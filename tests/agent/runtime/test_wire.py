"""Messages between agent and worker: what goes in comes out, and rubbish is an error."""

from __future__ import annotations

import asyncio
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sprat_agent.runtime import wire

TEXTS = st.text(st.characters(codec="utf-8"))
IDS = st.integers(0, 1 << 53)
JSON = st.dictionaries(TEXTS, TEXTS | st.integers(-(1 << 53), 1 << 53) | st.booleans(), max_size=3)
CALLS = st.builds(wire.ToolCall, id=TEXTS, name=TEXTS, arguments=TEXTS)
MESSAGES = st.builds(
    wire.Message,
    role=TEXTS,
    content=TEXTS,
    tool_calls=st.lists(CALLS, max_size=2).map(tuple),
    tool_call_id=TEXTS,
    name=TEXTS,
)
TOOLS = st.builds(wire.Tool, name=TEXTS, description=TEXTS, parameters=JSON)
PROMPTS = st.one_of(
    st.builds(
        wire.Conversation,
        messages=st.lists(MESSAGES, max_size=3).map(tuple),
        tools=st.lists(TOOLS, max_size=2).map(tuple),
        tool_choice=TEXTS,
        is_parallel=st.booleans(),
        template_arguments=JSON,
    ),
    st.builds(wire.Text, text=TEXTS),
    st.builds(wire.Tokens, tokens=st.lists(IDS, max_size=5).map(tuple)),
)
SAMPLINGS = st.builds(
    wire.Sampling,
    temperature=st.floats(0, 2),
    top_p=st.floats(0, 1),
    logit_bias=st.lists(st.tuples(IDS, st.floats(-100, 100)), max_size=2).map(tuple),
    seed=st.none() | st.integers(-(1 << 63), (1 << 63) - 1),
)
REQUESTS = st.builds(
    wire.Request,
    prompt=PROMPTS,
    sampling=SAMPLINGS,
    max_tokens=st.none() | st.integers(1, 1 << 24),
    stop=st.lists(TEXTS, max_size=2).map(tuple),
    schema=st.none() | st.booleans() | JSON,
    logprobs=st.none() | st.integers(0, 20),
    adapter=TEXTS,
    is_echoed=st.booleans(),
    is_fresh=st.booleans(),
)
TEXT_INPUTS = st.lists(st.builds(wire.Text, text=TEXTS), max_size=2).map(tuple)
DOWN = st.one_of(
    st.builds(wire.Load, path=TEXTS, context=IDS, threads=IDS, template=TEXTS),
    st.builds(wire.Generate, id=IDS, request=REQUESTS),
    st.builds(wire.Embed, id=IDS, inputs=TEXT_INPUTS, is_truncated=st.booleans()),
    st.builds(wire.Cancel, id=IDS),
    st.builds(wire.Ping, number=IDS),
    st.builds(wire.UseThreads, count=IDS),
)
LOGPROBS = st.floats(-100, 0)
ALTERNATIVES = st.builds(wire.Alternative, data=st.binary(max_size=4), logprob=LOGPROBS)
CHOSEN = st.builds(
    wire.Chosen,
    data=st.binary(max_size=4),
    logprob=LOGPROBS,
    top=st.lists(ALTERNATIVES, max_size=2).map(tuple),
)
PARTS = st.builds(wire.ToolCallPart, index=IDS, id=TEXTS, name=TEXTS, arguments=TEXTS)
ANSWERS = st.one_of(
    st.builds(
        wire.Piece,
        id=IDS,
        text=TEXTS,
        tool_calls=st.lists(PARTS, max_size=2).map(tuple),
        chosen=st.lists(CHOSEN, max_size=2).map(tuple),
    ),
    st.builds(wire.Failed, id=IDS, code=TEXTS, message=TEXTS),
    st.builds(
        wire.Embedded,
        id=IDS,
        vectors=st.lists(st.binary(max_size=16), max_size=2).map(tuple),
        prompt_tokens=IDS,
    ),
)
UP = st.one_of(
    st.builds(wire.Loaded, context=IDS, slots=IDS),
    st.builds(wire.LoadFailed, message=TEXTS),
    st.builds(wire.Answers, items=st.lists(ANSWERS, max_size=3).map(tuple)),
    st.builds(wire.Pong, number=IDS, stalled_s=st.floats(0, 1e9)),
)


@given(DOWN)
def test_the_worker_reads_what_the_agent_wrote(message: wire.AgentMessage) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(wire.frame(message))
        assert wire.WorkerEnd(theirs).receive() == message


@given(st.lists(UP, max_size=5))
async def test_the_agent_reads_what_the_worker_wrote_and_then_the_end(
    messages: list[wire.WorkerMessage],
) -> None:
    reader = asyncio.StreamReader()
    reader.feed_data(b"".join(wire.frame(message) for message in messages))
    reader.feed_eof()
    for message in messages:
        assert await wire.receive_from_worker(reader) == message
    assert await wire.receive_from_worker(reader) is None


@given(st.binary(max_size=64))
def test_rubbish_is_an_error_and_nothing_else(body: bytes) -> None:
    for read in (wire.read_agent_message, wire.read_worker_message):
        with pytest.raises(wire.WireError, match="expected a message"):
            read(body)


def test_a_frame_has_a_longest_length() -> None:
    with pytest.raises(wire.WireError, match="found 8388609"):
        wire.body_length((wire.MAX_FRAME_BYTES + 1).to_bytes(4, "big"))
    with pytest.raises(wire.WireError, match="does not fit"):
        wire.frame(wire.LoadFailed("x" * wire.MAX_FRAME_BYTES))


@pytest.mark.parametrize("part", [b"", b"\0", b"\0\0\0\5", b"\0\0\0\5{}"])
def test_a_stream_that_breaks_off_is_its_end(part: bytes) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        with ours:
            ours.sendall(part)
        assert wire.WorkerEnd(theirs).receive() is None
