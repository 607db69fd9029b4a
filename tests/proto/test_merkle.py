from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sprat_proto.merkle import (
    EMPTY_ROOT,
    Frontier,
    ProofError,
    consistency_proof,
    frontier_at,
    inclusion_proof,
    leaf_hash,
    node_hash,
    verify_consistency,
    verify_inclusion,
)

# The eight entries and the roots of their first n that implementations of RFC 6962 test against.
ENTRIES = [
    bytes.fromhex(one)
    for one in (
        *("", "00", "10", "2021", "3031", "40414243", "5051525354555657"),
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
LEAVES = [leaf_hash(one) for one in ENTRIES]


def numbered(count: int) -> list[bytes]:
    return [leaf_hash(str(number).encode()) for number in range(count)]


def root_of(leaves: Sequence[bytes]) -> bytes:
    """MTH of RFC 9162, 2.1.1, word for word."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    middle = 1 << (len(leaves) - 1).bit_length() - 1
    left, right = root_of(leaves[:middle]), root_of(leaves[middle:])
    return hashlib.sha256(b"\x01" + left + right).digest()


def path_of(index: int, leaves: Sequence[bytes]) -> list[bytes]:
    """PATH of RFC 9162, 2.1.3.1, word for word."""
    if len(leaves) == 1:
        return []
    middle = 1 << (len(leaves) - 1).bit_length() - 1
    if index < middle:
        return [*path_of(index, leaves[:middle]), root_of(leaves[middle:])]
    return [*path_of(index - middle, leaves[middle:]), root_of(leaves[:middle])]


def proof_of(old: int, leaves: Sequence[bytes], *, known: bool = True) -> list[bytes]:
    """SUBPROOF of RFC 9162, 2.1.4.1, word for word."""
    if old == len(leaves):
        return [] if known else [root_of(leaves)]
    middle = 1 << (len(leaves) - 1).bit_length() - 1
    if old <= middle:
        return [*proof_of(old, leaves[:middle], known=known), root_of(leaves[middle:])]
    rest = proof_of(old - middle, leaves[middle:], known=False)
    return [*rest, root_of(leaves[:middle])]


def reader(leaves: Sequence[bytes]) -> Callable[[int, int], bytes]:
    """Only complete subtrees can be read: what a log keeps."""

    def subtree(level: int, index: int) -> bytes:
        found = leaves[index << level : (index + 1) << level]
        assert len(found) == 1 << level
        return root_of(found)

    return subtree


def grown(leaves: Sequence[bytes]) -> Frontier:
    frontier = Frontier()
    for leaf in leaves:
        frontier.append(leaf)
    return frontier


def test_roots_are_those_of_rfc_6962() -> None:
    frontier = Frontier()
    assert frontier.root() == EMPTY_ROOT
    assert frontier.root().hex() == ROOTS[0]
    for number, leaf in enumerate(LEAVES, 1):
        frontier.append(leaf)
        assert frontier.size == number
        assert frontier.root().hex() == ROOTS[number]


def test_a_record_can_not_pass_for_a_node() -> None:
    left, right = LEAVES[:2]
    assert leaf_hash(left + right) != node_hash(left, right)
    assert leaf_hash(b"\x01" + left + right) != node_hash(left, right)


@given(st.integers(0, 300))
def test_a_frontier_has_the_root_of_all_that_was_appended(count: int) -> None:
    leaves = numbered(count)
    assert grown(leaves).root() == root_of(leaves)


@given(st.integers(0, 300), st.integers(0, 40))
def test_a_frontier_goes_on_from_what_was_kept(count: int, more: int) -> None:
    leaves = numbered(count + more)
    kept = grown(leaves[:count])
    again = Frontier.from_bytes(kept.size, bytes(kept))
    for leaf in leaves[count:]:
        again.append(leaf)
    assert again.root() == root_of(leaves)


@given(st.integers(1, 300))
def test_appending_tells_the_subtrees_that_are_complete_now(count: int) -> None:
    leaves = numbered(count)
    completed = grown(leaves[:-1]).append(leaves[-1])
    assert len(completed) == (count & -count).bit_length()
    for level, root in enumerate(completed):
        assert root == root_of(leaves[count - (1 << level) :])


@given(st.integers(0, 300))
def test_a_frontier_of_before_is_read_from_complete_subtrees(count: int) -> None:
    leaves = numbered(300)
    then = frontier_at(count, reader(leaves))
    assert then.root() == root_of(leaves[:count])
    assert bytes(then) == bytes(grown(leaves[:count]))


@pytest.mark.parametrize(
    ("size", "kept"), [(0, bytes(32)), (1, b""), (2, bytes(64)), (3, bytes(63)), (3, bytes(65))]
)
def test_what_is_no_frontier_of_its_size_is_refused(size: int, kept: bytes) -> None:
    with pytest.raises(ValueError, match="expected"):
        Frontier.from_bytes(size, kept)


@pytest.mark.parametrize("size", [-1, 2**63])
def test_a_size_that_no_log_has_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="expected a size"):
        Frontier(size)


@pytest.mark.parametrize("length", [0, 31, 33])
def test_only_a_hash_can_be_appended(length: int) -> None:
    frontier = Frontier()
    with pytest.raises(ValueError, match="expected a hash of 32 bytes"):
        frontier.append(bytes(length))
    assert frontier.size == 0


sizes = st.integers(1, 300)


@given(sizes, st.data())
def test_each_record_is_proved_to_be_where_it_is(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    leaves = numbered(size)
    proof = inclusion_proof(index, size, reader(leaves))
    assert proof == path_of(index, leaves)
    verify_inclusion(leaves[index], index, size, proof, root_of(leaves))


@given(sizes, st.data())
def test_each_log_is_proved_to_go_on_from_each_of_its_past(new: int, data: st.DataObject) -> None:
    old = data.draw(st.integers(1, new))
    leaves = numbered(new)
    proof = consistency_proof(old, new, reader(leaves))
    assert proof == proof_of(old, leaves)
    verify_consistency(old, new, proof, root_of(leaves[:old]), root_of(leaves))


@given(st.integers(2, 200), st.data())
def test_a_log_that_was_rewritten_has_no_proof(new: int, data: st.DataObject) -> None:
    """However the forger makes it: from the old log, from the new one, or of both."""
    old = data.draw(st.integers(1, new))
    where = data.draw(st.integers(0, old - 1))
    true, forged = numbered(new), numbered(new)
    forged[where] = leaf_hash(b"another")
    for leaves in (true, forged):
        proof = consistency_proof(old, new, reader(leaves))
        with pytest.raises(ProofError):
            verify_consistency(old, new, proof, root_of(true[:old]), root_of(forged))


def refused(check: Callable[..., None], *arguments: Any) -> None:
    with pytest.raises(ProofError):
        check(*arguments)


def spoilt(proof: list[bytes], roots: Sequence[bytes]) -> list[list[bytes]]:
    """Proofs that are wrong in one way each: a bit, one too few, one too many, another order."""
    garbage = hashlib.sha256(b"garbage").digest()
    made: list[list[bytes]] = []
    for at, one in enumerate(proof):
        flipped = bytes([one[0] ^ 0x10, *one[1:]])
        made.append([*proof[:at], flipped, *proof[at + 1 :]])
        made.append([*proof[:at], *proof[at + 1 :]])
        made.append([*proof[:at], b"", *proof[at + 1 :]])
        made.append([*proof[:at], one[:31], *proof[at + 1 :]])
        made.append([*proof[:at], one + b"\0", *proof[at + 1 :]])
    for extra in (garbage, b"", *roots):
        made.extend([[*proof, extra], [extra, *proof]])
    if len(proof) > 1:
        made.append(proof[::-1])
    if proof:
        made.append([])
    return [one for one in made if one != proof]


@pytest.mark.parametrize(
    ("index", "size"), [(0, 1), (0, 8), (5, 8), (2, 3), (1, 5), (4, 5), (6, 7)]
)
def test_a_spoilt_proof_of_inclusion_is_refused(index: int, size: int) -> None:
    leaves = LEAVES[:size]
    root, leaf = root_of(leaves), leaves[index]
    proof = path_of(index, leaves)
    verify_inclusion(leaf, index, size, proof, root)
    for wrong in spoilt(proof, [root, leaf]):
        refused(verify_inclusion, leaf, index, size, wrong, root)
    # `size` itself may be told too large where the path is the same: the root is what is signed.
    for wrong_index in {index - 1, index + 1, index ^ 2, size, -1, 2**63} - {index}:
        refused(verify_inclusion, leaf, wrong_index, size, proof, root)
    for other in (b"", leaf[:31], hashlib.sha256(b"").digest(), root_of(LEAVES)[::-1]):
        refused(verify_inclusion, other, index, size, proof, root)
        refused(verify_inclusion, leaf, index, size, proof, other)


def test_nothing_is_included_in_an_empty_log() -> None:
    refused(verify_inclusion, b"", 0, 0, [], b"")
    refused(verify_inclusion, EMPTY_ROOT, 0, 0, [], EMPTY_ROOT)
    refused(verify_inclusion, LEAVES[0], 0, 0, [], LEAVES[0])
    for index in (0, 1):
        with pytest.raises(ProofError, match="expected an index below"):
            inclusion_proof(index, index, reader([]))


@pytest.mark.parametrize(("index", "size"), [(0, 0), (0, 1), (1, 1), (2, 1), (-1, 1), (1, 0)])
def test_empty_hashes_prove_nothing(index: int, size: int) -> None:
    for leaf, root in ((b"", b""), (b"", ENTRIES[3]), (bytes(32), b""), (b"", bytes(32))):
        refused(verify_inclusion, leaf, index, size, [], root)


@pytest.mark.parametrize(
    ("old", "new"), [(1, 8), (6, 8), (2, 5), (4, 7), (3, 7), (7, 8), (4, 8), (1, 2)]
)
def test_a_spoilt_proof_of_consistency_is_refused(old: int, new: int) -> None:
    before, after = root_of(LEAVES[:old]), root_of(LEAVES[:new])
    proof = proof_of(old, LEAVES[:new])
    verify_consistency(old, new, proof, before, after)
    for wrong in spoilt(proof, [before, after]):
        refused(verify_consistency, old, new, wrong, before, after)
    refused(verify_consistency, old, new, proof, after, before)
    refused(verify_consistency, new, old, proof, before, after)
    refused(verify_consistency, new, old, proof, after, before)
    for wrong_old in {old - 1, old + 1, old ^ 2, 0, -1} - {old}:
        refused(verify_consistency, wrong_old, new, proof, before, after)
    refused(verify_consistency, old, new * 2, proof, before, after)
    refused(verify_consistency, old, 2**63, proof, before, after)
    for other in (b"", before[:31], LEAVES[5][::-1], EMPTY_ROOT):
        refused(verify_consistency, old, new, proof, other, after)
        refused(verify_consistency, old, new, proof, before, other)


@pytest.mark.parametrize("new", [0, 1, 5, 8])
@pytest.mark.parametrize("proof", [[], [LEAVES[0]], [EMPTY_ROOT]])
def test_size_0_proves_nothing(new: int, proof: list[bytes]) -> None:
    root = root_of(LEAVES[:new])
    refused(verify_consistency, 0, new, proof, EMPTY_ROOT, root)
    refused(verify_consistency, 0, new, proof, root, root)
    with pytest.raises(ProofError, match="expected sizes 0 < old <= new"):
        consistency_proof(0, new, reader(LEAVES))


@pytest.mark.parametrize("size", [1, 2, 5, 8])
def test_equal_sizes_need_equal_roots_and_no_proof(size: int) -> None:
    root = root_of(LEAVES[:size])
    verify_consistency(size, size, [], root, root)
    refused(verify_consistency, size, size, [], root, LEAVES[3])
    refused(verify_consistency, size, size, [root], root, root)
    refused(verify_consistency, size, size, [b""], root, root)


def test_a_shrunk_log_has_no_proof() -> None:
    with pytest.raises(ProofError, match="found 5 and 4"):
        consistency_proof(5, 4, reader(LEAVES))


def test_a_proof_in_a_log_of_a_million_is_short() -> None:
    asked: list[tuple[int, int]] = []

    def subtree(level: int, index: int) -> bytes:
        asked.append((level, index))
        return leaf_hash(f"{level}/{index}".encode())

    assert len(inclusion_proof(700_001, 1_000_000, subtree)) == 20
    assert len(consistency_proof(700_001, 1_000_000, subtree)) <= 21
    assert len(asked) < 64
