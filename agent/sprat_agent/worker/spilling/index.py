"""The index of the file, which is there twice.

    0             of even generations
    INDEX_BYTES   of odd generations

Each is a head (magic, generation, length, SHA-256 of the rest) and a MessagePack body. A new one is
written over the older of the two, so that one is whole whenever the process is killed.
"""

from __future__ import annotations

import hashlib
import os
import struct
from typing import Final

import msgspec
from msgspec import Struct

INDEX_BYTES: Final = 256 << 10
_MAGIC: Final = b"SPRATKV1"
_HEAD: Final = struct.Struct("<8sQI32s")


class Entry(Struct, frozen=True, array_like=True):
    """A prefix; numbers are of 32 bits, as this machine has them."""

    tokens: bytes
    size: int
    chunks: bytes  # in order
    digest: bytes
    cost_s: float
    uses: int
    rank: float


class Index(Struct, frozen=True, array_like=True):
    """All prefixes, and what their states depend upon besides the tokens."""

    key: bytes
    entries: tuple[Entry, ...]


_DECODER: Final[msgspec.msgpack.Decoder[Index]] = msgspec.msgpack.Decoder(Index)


def newest(descriptor: int) -> tuple[int, Index | None]:
    """Return the greater generation of those that are whole, and what it says; 0: there is none."""
    return max((_read(descriptor, copy) for copy in range(2)), key=lambda found: found[0])


def encode(generation: int, index: Index) -> bytes | None:
    """Return the index as it is written; None: it is too long."""
    body = msgspec.msgpack.encode(index)
    if len(body) > INDEX_BYTES - _HEAD.size:
        return None
    return _HEAD.pack(_MAGIC, generation, len(body), _digest(generation, body)) + body


def offset(generation: int) -> int:
    """Return where it is written."""
    return generation % 2 * INDEX_BYTES


def _read(descriptor: int, copy: int) -> tuple[int, Index | None]:
    data = os.pread(descriptor, INDEX_BYTES, copy * INDEX_BYTES)
    if len(data) < _HEAD.size:
        return 0, None
    magic, generation, length, digest = _HEAD.unpack_from(data)
    body = data[_HEAD.size : _HEAD.size + length]
    if magic != _MAGIC or generation % 2 != copy or _digest(generation, body) != digest:
        return 0, None
    try:
        return generation, _DECODER.decode(body)
    except msgspec.DecodeError:  # whole, but of another version
        return generation, None


def _digest(generation: int, body: bytes) -> bytes:
    return hashlib.sha256(struct.pack("<QI", generation, len(body)) + body).digest()
