"""Messages between agent and worker: what goes in comes out, and rubbish is an error."""

from __future__ import annotations

import asyncio
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sprat_agent.runtime import wire

TEXTS = st.text(st.characters(codec="utf-8"))
CHATS = st.builds(
    wire.Chat,
    messages=st.lists(st.builds(wire.Message, role=TEXTS, content=TEXTS)).map(tuple),
    temperature=st.floats(0, 2),
    top_p=st.floats(0, 1),
    max_tokens=st.none() | st.integers(1, 1 << 24),
    stop=st.lists(TEXTS).map(tuple),
    seed=st.none() | st.integers(-(1 << 63), (1 << 63) - 1),
    is_fresh=st.booleans(),
)
IDS = st.integers(0, 1 << 53)
DOWN = st.one_of(
    st.builds(wire.Load, path=TEXTS, context=IDS, threads=IDS),
    st.builds(wire.Generate, id=IDS, chat=CHATS),
    st.builds(wire.Cancel, id=IDS),
    st.builds(wire.Ping, number=IDS),
)
UP = st.one_of(
    st.builds(wire.Loaded, context=IDS, slots=IDS),
    st.builds(wire.LoadFailed, message=TEXTS),
    st.builds(wire.Piece, id=IDS, text=TEXTS),
    st.builds(wire.Failed, id=IDS, code=TEXTS, message=TEXTS),
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
