"""Following a device's audit log: positions, seals and the tree. Pure.

Record n is taken only after n - 1, and only if its seal is of the key of its epoch, which begins
with what the device told when it enrolled. Whoever takes a device over has the key of the present
epoch and can rewrite what is in that, and no record of an epoch before: their keys are gone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, cast

import msgspec
from sprat_proto import audit_seal, merkle
from sprat_proto.audit_events import GRAMMAR
from sprat_proto.audit_seal import SealKey
from sprat_proto.merkle import Frontier

MAX_BODY_BYTES: Final = 64 << 10
MAX_TAG: Final = 200
# Readers have limits of their own, and who lists a log must not meet them.
MAX_DEPTH: Final = 64
_TEXT: Final = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_BRACKET: Final = re.compile(rb"[\[\]{}]")


@dataclass(frozen=True)
class Sealed:
    """A record as it came, or as it is kept.

    Attributes:
        seq: Its position.
        body: Empty of one that expired.
        seal: Of its leaf.
        expired: The hash of its leaf, if its body was erased where it is kept.
    """

    seq: int
    body: bytes
    seal: bytes
    expired: bytes | None = None

    @property
    def leaf(self) -> bytes:
        """The hash of its leaf."""
        return merkle.leaf_hash(self.body) if self.expired is None else self.expired


@dataclass(frozen=True)
class Head:
    """The end of a log: what must be kept to go on from there.

    Attributes:
        size: How many records there are.
        frontier: Of the tree, as `merkle.Frontier` writes it.
        key: Of the last record's seal, or the first.
    """

    size: int
    frontier: bytes
    key: SealKey

    @property
    def root(self) -> bytes:
        """The root of the log up to here."""
        return Frontier.from_bytes(self.size, self.frontier).root()


@dataclass(frozen=True)
class Broken:
    """Why the log cannot be followed further: a few words each, hashes in hex."""

    seq: int
    message: str
    expected: str
    found: str


@dataclass(frozen=True)
class Followed:
    """How far a log could be followed, by which records, and what broke it, if anything."""

    head: Head
    fresh: list[Sealed] = field(default_factory=list[Sealed])
    broken: Broken | None = None


def beginning(seed: bytes) -> Head:
    """Return the end of a log without records."""
    return Head(0, b"", audit_seal.first_key(seed))


def follow(head: Head, records: Iterable[Sealed]) -> Followed:
    """Return how far the records go on from the head.

    Records at or before the head, and those after a gap, are passed over.
    """
    tree, key = Frontier.from_bytes(head.size, head.frontier), head.key
    fresh: list[Sealed] = []
    broken = None
    for record in records:
        if record.seq <= tree.size:
            continue
        if record.seq > tree.size + 1:
            break
        key_then, leaf = key.at(record.seq), record.leaf
        broken = _fault(record, leaf, key_then)
        if broken is not None:
            break
        tree.append(leaf)
        key = key_then
        fresh.append(record)
    return Followed(Head(tree.size, bytes(tree), key), fresh, broken)


def _fault(record: Sealed, leaf: bytes, key: SealKey) -> Broken | None:
    if not key.is_seal(leaf, record.seal):
        return Broken(
            record.seq,
            "its seal is not of this record and its time: it was changed, or it is another log's",
            key.seal(leaf).hex(),
            record.seal.hex()[:64],
        )
    if record.expired is not None:
        return None
    if len(record.body) > MAX_BODY_BYTES:
        size = str(len(record.body))
        return Broken(record.seq, "its body is too large", f"{MAX_BODY_BYTES} bytes", size)
    if _depth(record.body) > MAX_DEPTH:
        message = "its body is nested too deeply"
        return Broken(record.seq, message, f"{MAX_DEPTH} levels", leaf.hex())
    if _seq_of(record.body) != record.seq:
        message = "its body is not a JSON object with its position"
        return Broken(record.seq, message, str(record.seq), leaf.hex())
    return None


def tag_of(body: bytes) -> str:
    """Return what happened, as a record says it; empty: it says it in no way that is known."""
    tag = _field(body, "tag")
    is_tag = isinstance(tag, str) and len(tag) <= MAX_TAG and GRAMMAR.fullmatch(tag)
    return str(tag) if is_tag else ""


def _depth(body: bytes) -> int:
    """Return how deeply JSON is nested, at most."""
    most = body.count(b"[") + body.count(b"{")
    if most <= MAX_DEPTH:
        return most
    depth = most = 0
    for bracket in _BRACKET.findall(_TEXT.sub(b"", body)):
        depth += 1 if bracket in (b"[", b"{") else -1
        most = max(most, depth)
    return most


def _seq_of(body: bytes) -> object:
    return _field(body, "seq")


def _field(body: bytes, name: str) -> object:
    try:
        decoded: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return None
    return cast("dict[str, object]", decoded).get(name) if isinstance(decoded, dict) else None
