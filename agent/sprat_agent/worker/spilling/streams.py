"""A sequence's state without the streams of the others, so that it fits any number of them. Pure.

llama.cpp writes a head of eight bytes (which names the sequence, and counts for nothing when it is
read), the number of streams, and for each stream the number of its cells, followed by these if
there are any. In the state of one sequence all streams but its own are without cells. Models with
two caches (a sliding window) write all this twice and are left as they are.
"""

from __future__ import annotations

import struct
from typing import Final

_HEAD_BYTES: Final = 8
_COUNT: Final = struct.Struct("=I")


def is_plain(empty: memoryview, streams: int) -> bool:
    """Tell whether this is the state of an empty sequence beside `streams - 1` others, once."""
    return bytes(empty[_HEAD_BYTES:]) == _counts(streams, streams)


def cut(state: memoryview, stream: int, streams: int) -> memoryview:
    """Return the head and the one stream; the state is changed."""
    start = _COUNT.size * (1 + stream)
    state[start : start + _HEAD_BYTES] = bytes(state[:_HEAD_BYTES])
    return state[start : len(state) - _COUNT.size * (streams - 1 - stream)]


def joined(part: memoryview, stream: int, streams: int) -> bytes:
    """Return the state of which `part` was cut, among so many streams."""
    before, after = _counts(streams, stream), bytes(_COUNT.size * (streams - 1 - stream))
    return b"".join((part[:_HEAD_BYTES], before, part[_HEAD_BYTES:], after))


def _counts(streams: int, empty: int) -> bytes:
    return _COUNT.pack(streams) + bytes(_COUNT.size * empty)
