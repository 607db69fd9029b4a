"""Mutants of a GGUF file: well-formed ones that say something else, and broken ones.

Which they are depends on the seed alone.
"""

from __future__ import annotations

import hashlib
import random
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

_SIZES: Final = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_STRING: Final = 8
_ARRAY: Final = 9
_HEAD: Final = struct.Struct("<4sIQQ")
_ALIGNMENT: Final = 32

NUMBERS: Final = (0, 1, 1 << 16, (1 << 31) - 1, 1 << 31, (1 << 32) - 1)
LONG_NUMBERS: Final = (0, 1 << 20, 1 << 31, 1 << 40, 1 << 61, 1 << 63, (1 << 64) - 1)
# As little-endian bytes: not a number, both infinities, the largest, one that is hardly there.
FLOATS: Final = tuple(
    struct.pack("<f", one) for one in (float("nan"), float("inf"), float("-inf"), 3e38, 1e-42)
)


class Reader:
    """Walks over bytes."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def number(self, size: int) -> int:
        self.at += size
        return int.from_bytes(self.data[self.at - size : self.at], "little")

    def skip(self, count: int) -> None:
        self.at += count

    def skip_text(self) -> None:
        self.skip(self.number(8))

    def skip_value(self, kind: int) -> None:
        if kind == _STRING:
            self.skip_text()
        elif kind == _ARRAY:
            element, count = self.number(4), self.number(8)
            for _ in range(count):
                self.skip_value(element)
        else:
            self.at += _SIZES[kind]


@dataclass
class Parts:
    """A GGUF file in the pieces that a mutant changes."""

    pairs: list[bytearray]  # of metadata: key, kind of value, value
    tensors: list[bytearray]  # name, dimensions, type, offset
    data: bytearray
    keys: int  # as the header says
    count: int  # of tensors, as the header says

    def build(self) -> bytes:
        """Return the file."""
        head = _HEAD.pack(b"GGUF", 3, self.count % (1 << 64), self.keys % (1 << 64))
        head += b"".join(self.pairs) + b"".join(self.tensors)
        return head + bytes(-len(head) % _ALIGNMENT) + self.data


def split(file: bytes) -> Parts:
    """Cut up a good file of version 3 with the usual alignment."""
    _, _, count, keys = _HEAD.unpack_from(file)
    reader = Reader(file)
    reader.at = _HEAD.size
    pairs: list[bytearray] = []
    for _ in range(keys):
        begin = reader.at
        reader.skip_text()
        reader.skip_value(reader.number(4))
        pairs.append(bytearray(file[begin : reader.at]))
    tensors: list[bytearray] = []
    for _ in range(count):
        begin = reader.at
        reader.skip_text()
        reader.skip(8 * reader.number(4) + 12)
        tensors.append(bytearray(file[begin : reader.at]))
    start = -(-reader.at // _ALIGNMENT) * _ALIGNMENT
    return Parts(pairs, tensors, bytearray(file[start:]), keys, count)


def mutants(original: bytes, seed: int) -> Iterator[bytes]:
    """Yield mutants without end, all of them different.

    Three of four say something else, and one of four is broken.
    """
    randomly = random.Random(seed)  # noqa: S311 - the same in each run
    parts = split(original)
    assert parts.build() == original
    made = {hashlib.sha256(original).digest()}
    while True:
        if randomly.random() < 1 / 4:
            mutant = changed_bytes(original, randomly, keep=len(parts.data))
        else:
            mutant = _said_otherwise(original, randomly)
        digest = hashlib.sha256(mutant).digest()
        if digest not in made:
            made.add(digest)
            yield mutant


def _said_otherwise(original: bytes, randomly: random.Random) -> bytes:
    parts = split(original)
    for _ in range(randomly.choice((1, 1, 1, 2, 3))):
        randomly.choice(WORDS)(parts, randomly)
    return parts.build()


# What a mutant says otherwise. The counts stay right but where they are what is changed.


def swap_pairs(parts: Parts, randomly: random.Random) -> None:
    _swap(parts.pairs, randomly)


def swap_tensors(parts: Parts, randomly: random.Random) -> None:
    _swap(parts.tensors, randomly)


def swap_sections(parts: Parts, randomly: random.Random) -> None:
    """Put tensors where metadata is expected, and the other way round; or the data first."""
    if randomly.random() < 0.5:
        parts.pairs, parts.tensors = parts.tensors, parts.pairs
    else:
        parts.pairs.insert(0, parts.data)
        parts.data = bytearray()


def drop_pair(parts: Parts, randomly: random.Random) -> None:
    if parts.pairs:
        parts.pairs.pop(randomly.randrange(len(parts.pairs)))
        parts.keys -= 1


def repeat_pair(parts: Parts, randomly: random.Random) -> None:
    """Say a key twice, the second time with another value or not."""
    again = bytearray(randomly.choice(parts.pairs))
    if randomly.random() < 0.5:
        again[-1] ^= 1 << randomly.randrange(8)
    parts.pairs.insert(randomly.randrange(len(parts.pairs) + 1), again)
    parts.keys += 1


def change_value(parts: Parts, randomly: random.Random) -> None:
    """Give a key of one number another one, or change a letter of a text or of an array."""
    pair = randomly.choice(parts.pairs)
    kind_at = 8 + int.from_bytes(pair[:8], "little")
    at, kind = kind_at + 4, int.from_bytes(pair[kind_at : kind_at + 4], "little")
    size = _SIZES.get(kind)
    if size is None:
        set_byte(pair, randomly.randrange(min(at, len(pair) - 1), len(pair)), randomly)
    elif size == 4 and randomly.random() < 0.3:
        pair[at:] = randomly.choice(FLOATS)
    else:
        near = int.from_bytes(pair[at:], "little") + randomly.choice((-2, -1, 1, 2))
        value = randomly.choice((*NUMBERS, *[near] * 4, randomly.randrange(600)))
        pair[at:] = (value % (1 << 8 * size)).to_bytes(size, "little")


def change_kind(parts: Parts, randomly: random.Random) -> None:
    """Say that a value is of another kind; its bytes are read as what they are not."""
    pair = randomly.choice(parts.pairs)
    kind_at = 8 + int.from_bytes(pair[:8], "little")
    pair[kind_at : kind_at + 4] = struct.pack("<I", randomly.randrange(14))


def change_key(parts: Parts, randomly: random.Random) -> None:
    pair = randomly.choice(parts.pairs)
    # A change before this one may have left a key of no length.
    set_byte(pair, randomly.randrange(8, max(9, 8 + int.from_bytes(pair[:8], "little"))), randomly)


def blow_up_a_count(parts: Parts, randomly: random.Random) -> None:
    """Have a count or a length say more, or less, than there is."""
    value = randomly.choice((*NUMBERS, *LONG_NUMBERS))
    one = randomly.choice([*parts.pairs, *parts.tensors])
    match randomly.randrange(4):
        case 0:
            parts.keys = value
        case 1:
            parts.count = value
        case 2:
            set_long_number(one, 0, randomly)  # of a key, or of a tensor's name
        case _:
            set_long_number(one, max(0, len(one) - randomly.choice((8, 12, 20, 28))), randomly)


def change_dimensions(parts: Parts, randomly: random.Random) -> None:
    """Give a tensor other dimensions, mostly some that take as many bytes as before."""
    tensor = randomly.choice(parts.tensors)
    at = 8 + int.from_bytes(tensor[:8], "little")
    count = int.from_bytes(tensor[at : at + 4], "little")
    if count not in (1, 2):  # changed before
        return
    dims = list(struct.unpack_from(f"<{count}Q", tensor, at + 4))
    match randomly.randrange(4):
        case 0:
            dims.reverse()
        case 1:
            dims = [dims[0] // 2, *dims[1:], 2]
        case 2:
            dims.append(1)
        case _:
            dims[-1] += randomly.choice((-1, 1, 1 << 20))
    tensor[at : at + 4 + 8 * count] = struct.pack(
        f"<I{len(dims)}Q", len(dims), *(dim % (1 << 64) for dim in dims)
    )


def change_tensor_type(parts: Parts, randomly: random.Random) -> None:
    randomly.choice(parts.tensors)[-12:-8] = struct.pack("<I", randomly.randrange(40))


def change_offset(parts: Parts, randomly: random.Random) -> None:
    tensor = randomly.choice(parts.tensors)
    offset = int.from_bytes(tensor[-8:], "little") + randomly.choice((-32, -1, 1, 32, 1 << 40))
    tensor[-8:] = (offset % (1 << 64)).to_bytes(8, "little")


def rename_tensor(parts: Parts, randomly: random.Random) -> None:
    """Let two tensors have each other's names: what follows is the other one's."""
    one, other = randomly.choice(parts.tensors), randomly.choice(parts.tensors)
    names = [bytes(tensor[: 8 + int.from_bytes(tensor[:8], "little")]) for tensor in (one, other)]
    one[: len(names[0])] = names[1]
    if one is not other:
        other[: len(names[1])] = names[0]


def spoil_data(parts: Parts, randomly: random.Random) -> None:
    """Fill some weights with what no computation is made for, or with chance."""
    if not parts.data:
        return
    at = randomly.randrange(0, len(parts.data), 4)
    count = min(randomly.choice((1, 64, 4096)), (len(parts.data) - at) // 4)
    filling = randomly.choice((*FLOATS, b""))
    parts.data[at : at + 4 * count] = filling * count if filling else randomly.randbytes(4 * count)


def flip_bits_of_data(parts: Parts, randomly: random.Random) -> None:
    for _ in range(randomly.choice((1, 8, 64))):
        flip_bit(parts.data, randomly.randrange(max(1, len(parts.data))), randomly)


def cut_data(parts: Parts, randomly: random.Random) -> None:
    del parts.data[randomly.randrange(max(1, len(parts.data))) :]


def add_data(parts: Parts, randomly: random.Random) -> None:
    parts.data += randomly.randbytes(randomly.choice((1, 32, 4096)))


def _swap(items: list[bytearray], randomly: random.Random) -> None:
    if items:
        one, other = randomly.randrange(len(items)), randomly.randrange(len(items))
        items[one], items[other] = items[other], items[one]


WORDS: Final[list[Callable[[Parts, random.Random], None]]] = [
    *(swap_pairs, swap_tensors, swap_sections, drop_pair, repeat_pair),
    *(change_value, change_value, change_value, change_kind, change_key, blow_up_a_count),
    *(change_dimensions, change_tensor_type, change_offset, rename_tensor),
    *(spoil_data, flip_bits_of_data, cut_data, add_data),
]

# What breaks a file: bytes, whatever they mean.


def changed_bytes(original: bytes, randomly: random.Random, *, keep: int) -> bytes:
    """Return the original with one to four changes before its last `keep` bytes."""
    data = bytearray(original)
    for _ in range(randomly.randint(1, 4)):
        # Numbers are short: a change anywhere is mostly one of text, so half hit what looks small.
        at = randomly.randrange(max(1, len(data) - keep))
        if randomly.random() < 0.5:
            at = data.find(0, at) if data.find(0, at) >= 0 else at
        randomly.choice(BYTES)(data, at, randomly)
    return bytes(data)


def set_byte(data: bytearray, at: int, randomly: random.Random) -> None:
    data[at : at + 1] = bytes([randomly.randrange(256)])


def flip_bit(data: bytearray, at: int, randomly: random.Random) -> None:
    if at < len(data):
        data[at] ^= 1 << randomly.randrange(8)


def set_number(data: bytearray, at: int, randomly: random.Random) -> None:
    data[at : at + 4] = struct.pack("<I", randomly.choice(NUMBERS))


def set_long_number(data: bytearray, at: int, randomly: random.Random) -> None:
    data[at : at + 8] = struct.pack("<Q", randomly.choice(LONG_NUMBERS))


def remove(data: bytearray, at: int, randomly: random.Random) -> None:
    del data[at : at + randomly.randint(1, 40)]


def repeat(data: bytearray, at: int, randomly: random.Random) -> None:
    data[at:at] = data[at : at + randomly.randint(1, 40)]


def cut(data: bytearray, at: int, _randomly: random.Random) -> None:
    del data[max(at, 1) :]


BYTES: Final[list[Callable[[bytearray, int, random.Random], None]]] = [
    *(set_byte, flip_bit, set_number, set_long_number, remove, repeat, cut),
]
