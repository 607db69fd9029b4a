"""Files that prove one thing about the log are checked without the controller."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Final

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from sprat_controller.audit import proofs
from sprat_controller.audit.export import Result
from sprat_controller.audit.proofs import Consistency
from sprat_proto import canonical, merkle, notes
from sprat_proto.merkle import Frontier, leaf_hash
from sprat_proto.notes import Checkpoint, InclusionProof, Note, VerifierKey

LOG: Final = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
WITNESS: Final = Ed25519PrivateKey.from_private_bytes(bytes(range(32, 64)))
ORIGIN: Final = "sprat-1/audit"
KEY: Final = notes.verifier_key(LOG, ORIGIN)
COSIGNER: Final = notes.verifier_key(WITNESS, "w", notes.COSIGNER)
COUNT: Final = 13
BODIES: Final = [canonical.encode({"v": 2, "seq": seq}) for seq in range(1, COUNT + 1)]


def root(size: int, start: int = 0) -> bytes:
    frontier = Frontier()
    for one in BODIES[start : start + size]:
        frontier.append(leaf_hash(one))
    return frontier.root()


def subtree(level: int, index: int) -> bytes:
    return root(1 << level, index << level)


def signed(size: int, *, seen: bool = True) -> Note:
    text = str(Checkpoint(ORIGIN, size, root(size)))
    note = Note(text).signed(notes.sign(LOG, ORIGIN, text))
    return note.signed(notes.cosign(WITNESS, "w", text, 7)) if seen else note


def inclusion(seq: int, *, extra: bytes | None = None, note: Note | None = None) -> bytes:
    hashes = merkle.inclusion_proof(seq - 1, COUNT, subtree)
    record = BODIES[seq - 1] if extra is None else extra
    made = InclusionProof(seq - 1, tuple(hashes), note or signed(COUNT), record)
    return str(made).encode()


def consistency(
    old: Note, new: Note, *, version: int = 1, sizes: tuple[int, int] = (5, COUNT)
) -> bytes:
    hashes = merkle.consistency_proof(*sizes, subtree)
    listed = [base64.b64encode(one).decode() for one in hashes]
    return msgspec.json.encode(Consistency(version, str(old), str(new), listed)) + b"\n"


@pytest.mark.parametrize("seq", [1, 8, COUNT])
def test_a_record_is_in_the_log(seq: int) -> None:
    found = proofs.verify(inclusion(seq), [KEY, COSIGNER])
    assert (found.result, found.records, found.expired) == (Result.INTACT, 1, 0)
    assert found.signers == (ORIGIN, "w")
    gone = proofs.expired(seq, leaf_hash(BODIES[seq - 1]).hex())
    found = proofs.verify(inclusion(seq, extra=gone), [KEY])
    assert (found.result, found.expired) == (Result.INTACT, 1)
    assert f"record {seq}, which expired," in found.message


def test_a_log_begins_with_what_it_was() -> None:
    found = proofs.verify(consistency(signed(5), signed(COUNT)), [KEY])
    assert (found.result, found.records) == (Result.INTACT, COUNT)


DEEP: Final = b"[" * 100_000 + b"]" * 100_000


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: inclusion(3, extra=b""), "proves nothing"),
        (lambda: inclusion(3, extra=BODIES[3]), "expected record 3, found record 4"),
        (lambda: inclusion(3, extra=b'{"seq":3}'), "not in the log"),
        (lambda: inclusion(3, extra=b'{"seq":3,"x":' + DEEP + b"}"), "recursion depth"),
        (lambda: inclusion(3, extra=proofs.expired(4, "0" * 64)), "found record 4"),
        (lambda: inclusion(3, extra=proofs.expired(3, "0" * 64)), "not in the log"),
        (lambda: inclusion(3).replace(b"index 2", b"index 1"), "expected record 2"),
        (lambda: inclusion(3).replace(b"\nextra ", b"\nextra\n"), "proves nothing"),
        (lambda: inclusion(3) + b" " * proofs.MAX_BYTES, "at most 1 MiB"),
        (lambda: inclusion(3) + b"\xff", "utf-8"),
        (lambda: inclusion(3, note=signed(12)), "not in the log of 12"),
        (lambda: consistency(signed(4), signed(COUNT)), "too many hashes"),
        (lambda: consistency(signed(5), signed(12)), "is another"),
        (lambda: consistency(signed(COUNT), signed(5)), "expected sizes 0 < old <= new"),
        (lambda: consistency(signed(0), signed(COUNT)), "expected sizes 0 < old <= new"),
        (lambda: consistency(signed(5), signed(COUNT), version=2), "expected version 1"),
        (lambda: consistency(signed(5), signed(COUNT)).replace(b'"]}', b'="]}'), "proves nothing"),
        (lambda: consistency(signed(5), signed(COUNT))[:-20], "proves nothing"),
        (lambda: proofs.CONSISTENCY + DEEP, "proves nothing"),
    ],
)
def test_what_proves_nothing_says_why(make: Callable[[], bytes], said: str) -> None:
    found = proofs.verify(make(), [KEY])
    assert (found.result, found.records) == (Result.TAMPERED, 0)
    assert found.message.startswith("it proves nothing: ")
    assert said in found.message


def test_a_proof_without_a_record_proves_nothing() -> None:
    hashes = tuple(merkle.inclusion_proof(2, COUNT, subtree))
    found = proofs.verify(str(InclusionProof(2, hashes, signed(COUNT))).encode(), [KEY])
    assert (found.result, found.records) == (Result.TAMPERED, 0)


OTHER: Final = notes.verifier_key(WITNESS, ORIGIN)


@pytest.mark.parametrize("keys", [[OTHER], [COSIGNER], [COSIGNER, KEY]])
@pytest.mark.parametrize(
    "make", [lambda: inclusion(3), lambda: consistency(signed(5), signed(COUNT))]
)
def test_a_key_of_the_log_must_have_signed_it(
    make: Callable[[], bytes], keys: list[VerifierKey]
) -> None:
    found = proofs.verify(make(), keys)
    assert found.result is Result.UNKNOWN_KEY
    assert "whose key is not given as the log's" in found.message


def test_another_logs_checkpoint_signed_by_our_key_is_none_of_ours() -> None:
    text = str(Checkpoint("other/audit", COUNT, root(COUNT)))
    note = Note(text).signed(notes.sign(LOG, ORIGIN, text))
    found = proofs.verify(inclusion(3, note=note), [KEY])
    assert (found.result, found.records) == (Result.TAMPERED, 0)
    assert "expected a checkpoint of sprat-1/audit" in found.message


@given(st.data())
def test_no_flipped_byte_of_a_proof_proves_anything(data: st.DataObject) -> None:
    old, new = signed(5, seen=False), signed(COUNT, seen=False)
    made = data.draw(st.sampled_from([inclusion(3, note=new), consistency(old, new)]))
    where = data.draw(st.integers(0, len(made) - 1))
    flipped = made[where] ^ (1 << data.draw(st.integers(0, 7)))
    found = proofs.verify(made[:where] + bytes([flipped]) + made[where + 1 :], [KEY])
    # White space after JSON is no part of it.
    assert found.result is not Result.INTACT or flipped in b" \t\r\n"
