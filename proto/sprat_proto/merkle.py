"""The Merkle tree of a log: RFC 6962 hashes, what is kept of it, and proofs about it. Pure.

A log of n records has one root. An *inclusion proof* shows with about log2(n) hashes that a record
is the one at its index; a *consistency proof* shows as shortly that a log of n records begins with
all that it was made of when it had m. A log that was rewritten has no such proof.

Indexes are from 0, sizes count records, hashes are 32 bytes. Complete subtrees have a level and an
index: at `(level, index)` is the root of the 2**level records from index * 2**level on, so that
`(0, i)` is the hash of record i. Proofs are made from a reader of these.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

HASH_SIZE: Final = 32
# The root of a log without records.
EMPTY_ROOT: Final = hashlib.sha256(b"").digest()
# No log has more records: its size must fit in the database, and be counted by whom it is shown to.
MAX_SIZE: Final = 2**63 - 1

Subtree: TypeAlias = Callable[[int, int], bytes]


class ProofError(ValueError):
    """A proof does not prove what it is said to; one sentence."""


def leaf_hash(record: bytes) -> bytes:
    """Return the hash of a record."""
    return hashlib.sha256(b"\0" + record).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of two neighbouring subtrees together."""
    return hashlib.sha256(b"\1" + left + right).digest()


class Frontier:
    """What must be kept of a log to append to it and to know its root: about log2(size) hashes.

    They are the roots of the complete subtrees that the size is made of, largest first.
    """

    def __init__(self, size: int = 0, hashes: Sequence[bytes] = ()) -> None:
        """Go on from what was kept of a log of `size` records.

        Raises:
            ValueError: Other hashes than a log of this size has.
        """
        if not 0 <= size <= MAX_SIZE:
            raise ValueError(f"expected a size of 0 to {MAX_SIZE}, found {size}")
        if len(hashes) != size.bit_count() or any(len(one) != HASH_SIZE for one in hashes):
            lengths = ", ".join(str(len(one)) for one in hashes) or "none"
            raise ValueError(
                f"expected {size.bit_count()} hashes of {HASH_SIZE} bytes for a log of {size}"
                f" records, found {len(hashes)} of these lengths: {lengths}"
            )
        self._size = size
        self._hashes = list(hashes)

    @property
    def size(self) -> int:
        """How many records the log has."""
        return self._size

    def append(self, leaf: bytes) -> list[bytes]:
        """Take in the hash of the next record.

        Returns:
            The roots of the complete subtrees that end with it, by level, from its own hash on.
        """
        if len(leaf) != HASH_SIZE:
            raise ValueError(f"expected a hash of {HASH_SIZE} bytes, found {len(leaf)}")
        completed = [leaf]
        rest = self._size
        while rest & 1:
            completed.append(node_hash(self._hashes.pop(), completed[-1]))
            rest >>= 1
        self._hashes.append(completed[-1])
        self._size += 1
        return completed

    def root(self) -> bytes:
        """Return the root of the log."""
        if not self._hashes:
            return EMPTY_ROOT
        *left, root = self._hashes
        for one in reversed(left):
            root = node_hash(one, root)
        return root

    def __bytes__(self) -> bytes:
        """Return the hashes, one after the other: with the size, what must be kept."""
        return b"".join(self._hashes)

    @classmethod
    def from_bytes(cls, size: int, kept: bytes) -> Frontier:
        """Return what `bytes()` gave of a log of `size` records.

        Raises:
            ValueError: It is of another size, or no frontier.
        """
        hashes = [kept[at : at + HASH_SIZE] for at in range(0, len(kept), HASH_SIZE)]
        return cls(size, hashes)


def frontier_at(size: int, subtree: Subtree) -> Frontier:
    """Return the frontier of the log when it had `size` records."""
    hashes: list[bytes] = []
    start = 0
    for level in range(size.bit_length() - 1, -1, -1):
        if size >> level & 1:
            hashes.append(subtree(level, start >> level))
            start += 1 << level
    return Frontier(size, hashes)


def inclusion_proof(index: int, size: int, subtree: Subtree) -> list[bytes]:
    """Return the proof that a record is at `index` of the log of `size` (RFC 9162, 2.1.3.1).

    Raises:
        ProofError: There is no such record.
    """
    if not 0 <= index < size:
        raise ProofError(f"expected an index below the size {size}, found {index}")
    proof: list[bytes] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            proof.append(_root(middle, end, subtree))
            end = middle
        else:
            proof.append(_root(start, middle, subtree))
            start = middle
    proof.reverse()
    return proof


def consistency_proof(old: int, new: int, subtree: Subtree) -> list[bytes]:
    """Return the proof that the log of `new` begins with that of `old` (RFC 9162, 2.1.4.1).

    Raises:
        ProofError: The sizes are not 0 < old <= new.
    """
    if not 0 < old <= new:
        raise ProofError(f"expected sizes 0 < old <= new, found {old} and {new}")
    proof: list[bytes] = []
    start, end = 0, new
    while old < end:
        middle = start + _split(end - start)
        if old <= middle:
            proof.append(_root(middle, end, subtree))
            end = middle
        else:
            proof.append(_root(start, middle, subtree))
            start = middle
    if start > 0:  # else what is left is the old log, whose root the reader has
        proof.append(_root(start, end, subtree))
    proof.reverse()
    return proof


def verify_inclusion(
    leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes
) -> None:
    """Check that the record with hash `leaf` is at `index` of the log (RFC 9162, 2.1.3.2).

    Raises:
        ProofError: It is not proved.
    """
    _check_hashes(leaf, root, *proof)
    if not 0 <= index < size <= MAX_SIZE:
        raise ProofError(f"expected an index below the size {size}, found {index}")
    at, last, found = index, size - 1, leaf
    for one in proof:
        if last == 0:
            raise ProofError(f"the proof for index {index} of {size} has too many hashes")
        if at & 1 or at == last:
            found = node_hash(one, found)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            found = node_hash(found, one)
        at, last = at >> 1, last >> 1
    if last != 0:
        raise ProofError(f"the proof for index {index} of {size} has too few hashes")
    if found != root:
        raise ProofError(
            f"record {index} is not in the log of {size}: expected the root {root.hex()[:16]},"
            f" found {found.hex()[:16]}"
        )


def verify_consistency(
    old: int, new: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes
) -> None:
    """Check that the log of `new` begins with that of `old` (RFC 9162, 2.1.4.2).

    Every log begins with the empty one: size 0 proves nothing, so it is refused.

    Raises:
        ProofError: It is not proved.
    """
    _check_hashes(old_root, new_root, *proof)
    if not 0 < old <= new <= MAX_SIZE:
        raise ProofError(f"expected sizes 0 < old <= new, found {old} and {new}")
    if old == new:
        if proof:
            raise ProofError(f"the proof from {old} to {new} has too many hashes")
        _check_root("old", old, old_root, new_root)
        return
    old_found, new_found = _both_roots(old, new, proof, old_root)
    _check_root("old", old, old_root, old_found)
    _check_root("new", new, new_root, new_found)


def _both_roots(old: int, new: int, proof: Sequence[bytes], old_root: bytes) -> tuple[bytes, bytes]:
    """Return the roots of both logs that the proof leads to."""
    if not proof:
        raise ProofError(f"the proof from {old} to {new} is empty")
    # An old log that is one complete subtree is not in the proof: the verifier has its root.
    path = [old_root, *proof] if old.bit_count() == 1 else list(proof)
    at, last = old - 1, new - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    old_found = new_found = path[0]
    for one in path[1:]:
        if last == 0:
            raise ProofError(f"the proof from {old} to {new} has too many hashes")
        if at & 1 or at == last:
            old_found, new_found = node_hash(one, old_found), node_hash(one, new_found)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            new_found = node_hash(new_found, one)
        at, last = at >> 1, last >> 1
    if last != 0:
        raise ProofError(f"the proof from {old} to {new} has too few hashes")
    return old_found, new_found


def _root(start: int, end: int, subtree: Subtree) -> bytes:
    """Return the root of the records from `start` to before `end`, a range that a split gave."""
    count = end - start
    if count.bit_count() == 1:
        level = count.bit_length() - 1
        return subtree(level, start >> level)
    middle = start + _split(count)
    return node_hash(_root(start, middle, subtree), _root(middle, end, subtree))


def _split(count: int) -> int:
    """Return the largest power of two below `count`, which is at least 2."""
    return 1 << (count - 1).bit_length() - 1


def _check_hashes(*hashes: bytes) -> None:
    for one in hashes:
        if len(one) != HASH_SIZE:
            raise ProofError(f"expected hashes of {HASH_SIZE} bytes, found one of {len(one)}")


def _check_root(which: str, size: int, expected: bytes, found: bytes) -> None:
    if expected != found:
        raise ProofError(
            f"the {which} log of {size} is another: expected the root {expected.hex()[:16]},"
            f" found {found.hex()[:16]}"
        )
