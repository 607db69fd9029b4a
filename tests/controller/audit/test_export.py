from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from sprat_controller.audit.export import (
    MAX_LINE_BYTES,
    End,
    Head,
    Result,
    SignedHere,
    Subtree,
    line,
    record_line,
    verify,
)
from sprat_proto import canonical, notes
from sprat_proto.merkle import Frontier, inclusion_proof, leaf_hash
from sprat_proto.notes import Checkpoint, Note

LOG: Final = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
WITNESS: Final = Ed25519PrivateKey.from_private_bytes(bytes(range(32, 64)))
ORIGIN: Final = "sprat-1/audit"
KEYS: Final = [notes.verifier_key(LOG, ORIGIN)]
COUNT: Final = 600


def body(seq: int, outcome: str = "success") -> bytes:
    return canonical.encode({"v": 2, "seq": seq, "outcome": outcome, "detail": {"n": seq}})


def signed(frontier: Frontier) -> str:
    text = str(Checkpoint(ORIGIN, frontier.size, frontier.root()))
    return str(Note(text).signed(notes.sign(LOG, ORIGIN, text)))


def whole(bodies: list[bytes], checkpoints: tuple[int, ...] = ()) -> list[bytes]:
    frontier, lines = Frontier(), list[bytes]()
    for one in bodies:
        leaf = leaf_hash(one)
        lines.append(record_line(one, leaf.hex()))
        completed = frontier.append(leaf)
        lines.extend(
            line(Subtree(level // 8, completed[level].hex()))
            for level in range(8, len(completed), 8)
        )
        if frontier.size in checkpoints:
            lines.append(line(SignedHere(signed(frontier))))
    return [line(Head(1, signed(frontier), whole=True)), *lines, line(End(len(bodies)))]


BODIES: Final = [body(seq) for seq in range(1, COUNT + 1)]
EXPORT: Final = whole(BODIES, (100, 300, 500))


def part(seqs: list[int]) -> list[bytes]:
    frontier = Frontier()
    leaves = [leaf_hash(one) for one in BODIES]
    for leaf in leaves:
        frontier.append(leaf)

    def subtree(level: int, index: int) -> bytes:
        below = Frontier()
        for leaf in leaves[index << level : (index + 1) << level]:
            below.append(leaf)
        return below.root()

    lines = [line(Head(1, signed(frontier), whole=False, wanted={"tag": "a:b:c"}))]
    for seq in seqs:
        proof = inclusion_proof(seq - 1, COUNT, subtree)
        lines.append(record_line(BODIES[seq - 1], leaves[seq - 1].hex(), proof))
    return [*lines, line(End(len(seqs)))]


def at(seq: int) -> int:
    """Return the line of a record in the whole export."""
    return next(n for n, one in enumerate(EXPORT) if b'"seq":%d,' % seq in one)


def test_an_intact_export_is_found_so() -> None:
    found = verify(EXPORT, KEYS)
    assert (found.result, found.records, found.seq) == (Result.INTACT, COUNT, None)
    assert found.signers == (ORIGIN,)


@pytest.mark.parametrize("count", [1, 255, 256, 257])
def test_an_export_of_any_length_is_intact(count: int) -> None:
    assert verify(whole(BODIES[:count]), KEYS).result is Result.INTACT


def changed(lines: list[bytes], seq: int) -> list[bytes]:
    lines[at(seq)] = lines[at(seq)].replace(b"success", b"failure")
    return lines


def removed(lines: list[bytes], seq: int) -> list[bytes]:
    del lines[at(seq)]
    return lines


def inserted(lines: list[bytes], seq: int) -> list[bytes]:
    forged = body(seq, "denied")
    lines.insert(at(seq), record_line(forged, leaf_hash(forged).hex()))
    return lines


def repeated(lines: list[bytes], seq: int) -> list[bytes]:
    lines.insert(at(seq) + 1, lines[at(seq)])
    return lines


def reordered(lines: list[bytes], seq: int) -> list[bytes]:
    here, there = at(seq), at(seq + 1)
    lines[here], lines[there] = lines[there], lines[here]
    return lines


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("do", [changed, removed, inserted, repeated, reordered])
def test_what_was_done_to_a_record_is_found_and_named(
    do: Callable[[list[bytes], int], list[bytes]], seed: int
) -> None:
    seq = random.Random(seed).randrange(1, COUNT)  # noqa: S311 - any place will do
    found = verify(do(list(EXPORT), seq), KEYS)
    assert found.result is Result.TAMPERED
    assert found.seq is not None
    # A record that was put in with a hash of its own is seen at the next one of that number.
    assert found.seq == seq + (do in {inserted, repeated})
    assert str(seq) in found.message or str(seq - 1) in found.message


@pytest.mark.parametrize("seq", [1, 42, 256, 257, 299, 450, 599, 600])
def test_a_forger_who_makes_the_hash_anew_is_found_near_it(seq: int) -> None:
    lines = list(EXPORT)
    forged = body(seq, "denied")
    lines[at(seq)] = record_line(forged, leaf_hash(forged).hex())
    found = verify(lines, KEYS)
    assert found.result is Result.TAMPERED
    assert found.seq is not None
    assert found.seq <= seq < found.seq + 256


@pytest.mark.parametrize("seq", [1, 42, 299, 450, 600])
def test_who_makes_all_hashes_anew_is_found_by_what_was_signed_on_the_way(seq: int) -> None:
    forged = [*BODIES[: seq - 1], body(seq, "denied"), *BODIES[seq:]]
    lines = whole(forged)
    signed_lines = {n: one for n, one in enumerate(EXPORT) if one.startswith(b'{"checkpoint"')}
    for n, one in signed_lines.items():
        lines.insert(n, one)
    lines[0] = EXPORT[0]
    found = verify(lines, KEYS)
    assert found.result is Result.TAMPERED
    bounds = [(1, 100), (101, 300), (301, 500), (501, 600)]
    (expected,) = [first for first, last in bounds if first <= seq <= last]
    assert found.seq == expected


@pytest.mark.parametrize("cut", [1, 7, 300, len(EXPORT) - 1])
def test_what_is_cut_off_is_incomplete(cut: int) -> None:
    assert verify(EXPORT[:cut], KEYS).result is Result.INCOMPLETE
    half = [*EXPORT[:cut], EXPORT[cut][:-5]]
    assert verify(half, KEYS).result is Result.INCOMPLETE
    assert verify([], KEYS).result is Result.INCOMPLETE


def test_a_shortened_export_that_says_it_is_whole_is_not_intact() -> None:
    lines = [*EXPORT[: at(501)], line(End(500))]
    found = verify(lines, KEYS)
    assert (found.result, found.seq) == (Result.TAMPERED, 501)
    assert verify([*EXPORT[: at(501)], EXPORT[-1]], KEYS).result is Result.TAMPERED
    assert verify([*EXPORT, EXPORT[-2]], KEYS).result is Result.TAMPERED


DEEP: Final = b"[" * 100_000 + b"]" * 100_000


def forged(made: bytes, seq: int) -> list[bytes]:
    """Return the export with another record, and the hash of that."""
    lines = list(EXPORT)
    lines[at(seq)] = record_line(made, leaf_hash(made).hex())
    return lines


def put_in(one: bytes, after: int) -> list[bytes]:
    return [*EXPORT[: at(after) + 1], one, *EXPORT[at(after) + 1 :]]


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (b'{"seq":10,"detail":' + DEEP + b"}", "recursion depth"),
        (b'{"seq":NaN}', "malformed"),
        (b'{"seq":10.0}', "Expected `int`"),
        (b'{"seq":"10"}', "Expected `int`"),
        (b'{"seq":1' + b"0" * 5000 + b"}", "out of range"),
        (b"[]", "Expected `object`"),
        (b'{"v":2}', "missing required field"),
    ],
)
def test_a_record_that_is_none_is_named(made: bytes, why: str) -> None:
    found = verify(forged(made, 10), KEYS)
    assert (found.result, found.seq) == (Result.TAMPERED, 10)
    assert why in found.message


@pytest.mark.parametrize(
    "made", [b'{"seq":10,"x":"\xff"}', b'{"seq":10,"\xff":1}', b'{"seq":3,"seq":10}']
)
def test_a_forged_record_that_no_log_would_write_is_found_as_any(made: bytes) -> None:
    found = verify(forged(made, 10), KEYS)
    assert (found.result, found.seq) == (Result.TAMPERED, 1)
    assert "the records 1 to 100" in found.message


@pytest.mark.parametrize(
    ("one", "said"),
    [
        (DEEP + b"\n", "expected a line"),
        (b'{"subtree":' + DEEP + b"}\n", "expected a line"),
        (b'{"subtree":-1,"root":""}\n', "stands where none ends"),
        (b'{"subtree":0,"root":""}\n', "stands where none ends"),
        (b'{"subtree":1,"root":""}\n', "stands where none ends"),
        (b'{"subtree":9223372036854775807,"root":""}\n', "stands where none ends"),
        (b'{"subtree":99999999999999999999,"root":""}\n', "stands where none ends"),
        (b'{"subtree":1,"root":"","more":1}\n', "expected a line"),
        (b'{"end":true}\n', "expected a line"),
        (b'{"end":600.0}\n', "expected a line"),
        (b'{"end": 600}\n', "expected a line"),
        (b'{"end":600,"end":600}\n', "expected a line"),
        (b'{"checkpoint":"none"}\n', "that the log signed"),
        (b'{"checkpoint":"\\ud800"}\n', "expected a line"),
        (b'{"other":1}\n', "expected a line"),
        (b"\xff\n", "expected a line"),
        (b"\n", "expected a line"),
        (b"\r\n", "expected a line"),
        (b"\xef\xbb\xbf\n", "expected a line"),
        (b"x" * MAX_LINE_BYTES, "of at most 16 MiB"),
    ],
)
def test_a_line_that_is_none_is_told_by_where_it_stands(one: bytes, said: str) -> None:
    found = verify(put_in(one, 7), KEYS)
    assert (found.result, found.seq, found.records) == (Result.TAMPERED, 8, 7)
    assert "after record 7" in found.message
    assert said in found.message


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([b"\xef\xbb\xbf" + EXPORT[0], *EXPORT[1:]], "malformed"),
        ([b"\x1f\x8b\x08\0\n", *EXPORT[1:]], "unpack it"),
        ([b"\x1f\x8b\x08\0"], "unpack it"),
        ([b"no export"], "something else"),
        ([b"\0" * MAX_LINE_BYTES], "at most 16 MiB"),
        ([EXPORT[0][:-2] + b',"more":' + DEEP + b"}\n"], "recursion depth"),
        ([one[:-1] + b"\r\n" for one in EXPORT], "CR LF"),
        (EXPORT[1:], "missing required field"),
    ],
)
def test_what_is_no_export_from_its_first_line_on_is_told(lines: list[bytes], said: str) -> None:
    found = verify(lines, KEYS)
    assert (found.result, found.records, found.seq) in {
        (Result.TAMPERED, 0, None),
        (Result.TAMPERED, 0, 1),
    }
    assert said in found.message
    assert "\n" not in found.message


def checkpoint_lines() -> list[int]:
    return [n for n, one in enumerate(EXPORT) if one.startswith(b'{"checkpoint"')]


def test_checkpoints_that_were_moved_or_put_in_are_told() -> None:
    first, second, _ = checkpoint_lines()
    swapped = list(EXPORT)
    swapped[first], swapped[second] = swapped[second], swapped[first]
    older = [*EXPORT[:second], EXPORT[first], *EXPORT[second:]]
    twice = [*EXPORT[:first], EXPORT[first], *EXPORT[first:]]
    for lines, record, size in ((swapped, 100, 300), (older, 300, 100), (twice, 100, 100)):
        found = verify(lines, KEYS)
        assert found.result is Result.TAMPERED
        assert f"after record {record}: the checkpoint of {size} stands in the" in found.message


def test_a_checkpoint_on_the_way_that_another_signed_is_no_unknown_key() -> None:
    frontier = Frontier()
    for one in BODIES[:7]:
        frontier.append(leaf_hash(one))
    text = str(Checkpoint(ORIGIN, 7, frontier.root()))
    for name, key in (("other/audit", WITNESS), (ORIGIN, WITNESS)):
        note = str(Note(text).signed(notes.sign(key, name, text)))
        found = verify(put_in(line(SignedHere(note)), 7), KEYS)
        assert (found.result, found.seq) == (Result.TAMPERED, 8)
        assert "that the log signed" in found.message


def test_a_whole_export_has_no_proofs_and_a_part_has_all() -> None:
    proved = [one.replace(b'","record"', b'","proof":[],"record"') for one in EXPORT]
    found = verify(proved, KEYS)
    assert (found.result, found.seq) == (Result.TAMPERED, 1)
    single = whole(BODIES[:1])
    single[0] = single[0].replace(b'"whole":true', b'"whole":false')
    assert verify(single, KEYS).result is Result.TAMPERED
    single[1] = record_line(BODIES[0], leaf_hash(BODIES[0]).hex(), [])
    assert verify(single, KEYS).result is Result.INTACT


def test_two_logs_mixed_are_told_apart_at_the_first_record_of_the_other() -> None:
    other = [body(seq, "denied") for seq in range(1, COUNT + 1)]
    lines = [*EXPORT[: at(150)], *whole(other)[1:]]
    found = verify(lines, KEYS)
    assert (found.result, found.seq) == (Result.TAMPERED, 150)
    rest = whole(other)
    mixed = [*EXPORT[: at(150)], *rest[150:]]
    found = verify(mixed, KEYS)
    assert (found.result, found.seq) == (Result.TAMPERED, 101)


def test_an_older_checkpoint_at_the_head_is_found_where_the_log_goes_beyond_it() -> None:
    older = line(Head(1, signed_at(300), whole=True))
    found = verify([older, *EXPORT[1:]], KEYS)
    assert (found.result, found.seq) == (Result.TAMPERED, 301)


def signed_at(size: int) -> str:
    frontier = Frontier()
    for one in BODIES[:size]:
        frontier.append(leaf_hash(one))
    return signed(frontier)


def test_an_unknown_key_is_told_apart() -> None:
    other = notes.verifier_key(WITNESS, ORIGIN)
    assert verify(EXPORT, [other]).result is Result.UNKNOWN_KEY
    assert verify(EXPORT, [notes.verifier_key(LOG, "other/audit")]).result is Result.UNKNOWN_KEY


def test_what_only_a_witness_signed_or_another_log_is_of_an_unknown_key() -> None:
    witness = notes.verifier_key(WITNESS, "customer/w", notes.COSIGNER)
    frontier = Frontier()
    for one in BODIES[:3]:
        frontier.append(leaf_hash(one))
    text = str(Checkpoint(ORIGIN, 3, frontier.root()))
    seen = Note(text).signed(notes.cosign(WITNESS, "customer/w", text, 7))
    other = str(Checkpoint("other/audit", 3, frontier.root()))
    for note in (seen, Note(other).signed(notes.sign(LOG, ORIGIN, other))):
        lines = whole(BODIES[:3])
        lines[0] = line(Head(1, str(note), whole=True))
        found = verify(lines, [*KEYS, witness])
        assert (found.result, found.records) == (Result.UNKNOWN_KEY, 0)
        assert f"expected the log {ORIGIN}" in found.message


def test_an_export_of_another_version_is_none_that_we_know() -> None:
    found = verify([EXPORT[0].replace(b'export":1', b'export":2'), *EXPORT[1:]], KEYS)
    assert (found.result, found.message) == (Result.TAMPERED, "expected version 1, found 2")


@pytest.mark.parametrize(("seq", "first"), [(1, 1), (256, 1), (257, 257), (512, 257), (513, 1)])
def test_without_checkpoints_on_the_way_the_subtree_is_named(seq: int, first: int) -> None:
    lines = whole(BODIES)
    made = body(seq, "denied")
    lines[lines.index(record_line(BODIES[seq - 1], leaf_hash(BODIES[seq - 1]).hex()))] = (
        record_line(made, leaf_hash(made).hex())
    )
    found = verify(lines, KEYS)
    assert (found.result, found.seq) == (Result.TAMPERED, first)


def test_the_first_of_the_last_that_are_missing_is_named() -> None:
    found = verify([*EXPORT[: at(451)], line(End(450))], KEYS)
    assert (found.result, found.seq, found.records) == (Result.TAMPERED, 451, 450)
    assert "the last are missing" in found.message


def test_a_forged_checkpoint_is_tampered_with() -> None:
    lines = list(EXPORT)
    lines[0] = lines[0].replace(b"\\n600\\n", b"\\n599\\n")
    assert verify(lines, KEYS).result is Result.TAMPERED


def test_a_witness_is_told_whose_key_is_given() -> None:
    key = notes.verifier_key(WITNESS, "customer/w", notes.COSIGNER)
    lines = whole(BODIES[:3])
    frontier = Frontier()
    for one in BODIES[:3]:
        frontier.append(leaf_hash(one))
    note = notes.read_note(signed(frontier))
    note = note.signed(notes.cosign(WITNESS, "customer/w", note.text, 7))
    lines[0] = line(Head(1, str(note), whole=True))
    assert verify(lines, [*KEYS, key]).signers == (ORIGIN, "customer/w")


def test_records_of_a_part_are_proved_one_by_one() -> None:
    seqs = [1, 7, 256, 257, 600]
    found = verify(part(seqs), KEYS)
    assert (found.result, found.records) == (Result.INTACT, 5)
    assert "others are not in here" in found.message


def test_what_is_wrong_in_a_part_is_named() -> None:
    lines = part([1, 7, 300])
    swapped = [lines[0], lines[2], lines[1], *lines[3:]]
    assert verify(swapped, KEYS).seq == 1
    forged = body(7, "denied")
    proof = lines[2].split(b'"proof":')[1].split(b',"record"')[0]
    new = record_line(forged, leaf_hash(forged).hex(), []).replace(
        b'"proof":[]', b'"proof":' + proof
    )
    found = verify([*lines[:2], new, *lines[3:]], KEYS)
    assert (found.result, found.seq) == (Result.TAMPERED, 7)
    found = verify([*lines[:2], *lines[3:]], KEYS)
    assert found.result is Result.TAMPERED
    flipped = lines[2].replace(b"success", b"failure")
    found = verify([*lines[:2], flipped, *lines[3:]], KEYS)
    assert (found.result, found.seq) == (Result.TAMPERED, 7)


@given(st.data())
def test_no_flipped_byte_is_intact(data: st.DataObject) -> None:
    lines = whole(BODIES[:5], (3,))
    n = data.draw(st.integers(0, len(lines) - 1))
    where = data.draw(st.integers(0, len(lines[n]) - 1))
    flipped = lines[n][where] ^ (1 << data.draw(st.integers(0, 7)))
    lines[n] = lines[n][:where] + bytes([flipped]) + lines[n][where + 1 :]
    found = verify(lines, KEYS)
    # Of the first line only the checkpoint counts, as it is signed.
    assert found.result is not Result.INTACT or n == 0


def test_a_record_stands_once_in_a_part() -> None:
    lines = part([1, 7])
    found = verify([*lines[:2], lines[1], *lines[2:]], KEYS)
    assert (found.result, found.seq) == (Result.TAMPERED, 1)
    assert "not in order" in found.message
