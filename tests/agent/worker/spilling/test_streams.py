"""A sequence's state, cut out of the streams of the others."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st
from sprat_agent.worker.spilling.streams import cut, is_plain, joined

HEAD = b"headhead"


def state(stream: int, streams: int, cells: bytes) -> bytearray:
    counts = [b"\0\0\0\0"] * streams
    counts[stream] = struct.pack("=I", max(len(cells), 1)) + cells
    return bytearray(HEAD + struct.pack("=I", streams) + b"".join(counts))


@given(st.data(), st.integers(1, 8), st.integers(1, 8), st.binary(min_size=1, max_size=99))
def test_a_state_moves_between_any_numbers_of_streams(
    data: st.DataObject, before: int, after: int, cells: bytes
) -> None:
    source = data.draw(st.integers(0, before - 1))
    target = data.draw(st.integers(0, after - 1))
    part = cut(memoryview(state(source, before, cells)), source, before)
    assert joined(part, target, after) == state(target, after, cells)


def test_a_state_of_two_caches_is_told_from_one_of_one() -> None:
    empty = HEAD + struct.pack("=4I", 3, 0, 0, 0)
    assert is_plain(memoryview(empty), 3)
    assert not is_plain(memoryview(empty + empty[len(HEAD) :]), 3)
    assert not is_plain(memoryview(empty), 2)
