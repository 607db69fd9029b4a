"""Proofs in files, and checking them without the controller. Pure.

That a record is in the log is a C2SP tlog-proof, whose `extra` holds the record, byte for byte, or
`{"hash":"<hex>","expired":<seq>}` of one that expired. That a log begins with what it was is a JSON
object of the two checkpoints and the hashes between them (RFC 9162, 2.1.4.1).
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec import Struct
from sprat_proto import notes
from sprat_proto.merkle import ProofError, leaf_hash, verify_consistency, verify_inclusion
from sprat_proto.notes import Checkpoint, InclusionProof, Note, NoteError, VerifierKey

from sprat_controller.audit.export import UNREADABLE, Finding, Result
from sprat_controller.audit.log_keys import is_of_log, signers_of

INCLUSION: Final = b"c2sp.org/tlog-proof@"
CONSISTENCY: Final = b'{"sprat_audit_consistency":'
MAX_BYTES: Final = 1 << 20
_VERSION: Final = 1
_EXPIRED: Final = re.compile(rb'\{"hash":"([0-9a-f]{64})","expired":([1-9][0-9]{0,18})\}')


class Consistency(Struct, frozen=True, forbid_unknown_fields=True):
    """That the log of `new` begins with that of `old`."""

    sprat_audit_consistency: int
    old: str
    new: str
    hashes: list[str]  # base64


class _Numbered(Struct):
    seq: int


def expired(seq: int, hash_hex: str) -> bytes:
    """Return what stands in a proof for a record that expired."""
    return b'{"hash":"%b","expired":%d}' % (hash_hex.encode(), seq)


def is_one(first: bytes) -> bool:
    """Tell by its first bytes whether a file is a proof."""
    return first.startswith((INCLUSION, CONSISTENCY))


def verify(data: bytes, keys: Sequence[VerifierKey]) -> Finding:
    """Check a proof against the log's key, and witnesses' if theirs are given."""
    if len(data) > MAX_BYTES:
        message = f"it proves nothing: expected a proof of at most {MAX_BYTES >> 20} MiB"
        return Finding(Result.TAMPERED, 0, message)
    try:
        if data.startswith(INCLUSION):
            return _inclusion(notes.read_inclusion_proof(data.decode()), keys)
        return _consistency(msgspec.json.decode(data, type=Consistency), keys)
    except (*UNREADABLE, NoteError, ProofError, ValueError) as error:
        return Finding(Result.TAMPERED, 0, f"it proves nothing: {error}")


def _inclusion(proof: InclusionProof, keys: Sequence[VerifierKey]) -> Finding:
    unknown = _unknown(proof.checkpoint, keys)
    if unknown is not None:
        return unknown
    checkpoint, signers = _signed(proof.checkpoint, keys)
    if proof.extra is None:
        raise NoteError("expected the record in its extra data")
    match = _EXPIRED.fullmatch(proof.extra)
    if match is not None:
        seq, leaf = int(match[2]), bytes.fromhex(match[1].decode())
    else:
        seq = msgspec.json.decode(proof.extra, type=_Numbered).seq
        leaf = leaf_hash(proof.extra)
    if seq != proof.index + 1:
        raise NoteError(f"expected record {proof.index + 1}, found record {seq}")
    verify_inclusion(leaf, proof.index, checkpoint.size, proof.hashes, checkpoint.root)
    gone = ", which expired," if match else ""
    message = f"record {seq}{gone} is in the log of {checkpoint.size}, as signed"
    return Finding(Result.INTACT, 1, message, signers=signers, expired=1 if match else 0)


def _consistency(proof: Consistency, keys: Sequence[VerifierKey]) -> Finding:
    if proof.sprat_audit_consistency != _VERSION:
        raise NoteError(f"expected version {_VERSION}, found {proof.sprat_audit_consistency}")
    old, new = notes.read_note(proof.old), notes.read_note(proof.new)
    unknown = _unknown(old, keys) or _unknown(new, keys)
    if unknown is not None:
        return unknown
    before, _ = _signed(old, keys)
    after, signers = _signed(new, keys)
    hashes = [base64.b64decode(one, validate=True) for one in proof.hashes]
    verify_consistency(before.size, after.size, hashes, before.root, after.root)
    message = f"the log of {after.size} begins with the log of {before.size}, both as signed"
    return Finding(Result.INTACT, after.size, message, signers=signers)


def _unknown(note: Note, keys: Sequence[VerifierKey]) -> Finding | None:
    log = keys[0]
    signers = {(one.name, one.key_id) for one in note.signatures}
    its = {(key.name, key.key_id) for key in keys if is_of_log(key, log)}
    if log.kind == notes.LOG and its & signers:
        return None
    message = f"the checkpoint is signed by {signers_of(note)}, whose key is not given as the log's"
    return Finding(Result.UNKNOWN_KEY, 0, message)


def _signed(note: Note, keys: Sequence[VerifierKey]) -> tuple[Checkpoint, tuple[str, ...]]:
    """Return the checkpoint that the log's key signed, and who signed it."""
    found = notes.verify(note, keys)
    checkpoint, log = notes.read_checkpoint(note.text), keys[0]
    if checkpoint.origin != log.name:
        raise NoteError(f"expected a checkpoint of {log.name}, found {checkpoint.origin}")
    return checkpoint, tuple(one.key.name for one in found)
