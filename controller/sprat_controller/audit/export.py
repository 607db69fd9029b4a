"""An export of the controller's audit log, and checking it without the controller. Pure.

JSON Lines. The first says what it is: the newest checkpoint, signed, and whether all records up to
it follow. Then the records in order, each with the hash that was kept of it:

    {"hash":"<hex>","record":{…}}                       of a whole export
    {"hash":"<hex>","proof":["<base64>",…],"record":{…}}  of a part: its proof of inclusion
    {"hash":"<hex>","expired":<seq>}                    of a whole export: its body was erased

A whole export has the roots of complete subtrees between them, and the checkpoints that were
signed on the way, so that what does not fit is found near to where it is. The last line counts the
records. `record` is byte for byte what was written: its hash is of these bytes. Of a record that
expired only the hash is left, and a later record says that it did (`expiries`).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import msgspec
from msgspec import Struct
from sprat_proto import notes
from sprat_proto.merkle import Frontier, ProofError, leaf_hash, verify_inclusion
from sprat_proto.notes import Checkpoint, NoteError, VerifierKey

from sprat_controller.audit.expiries import Expiries
from sprat_controller.audit.log_keys import FormerKeys, is_of_log, signers_of

VERSION: Final = 1
# Longer ones are none of ours: a record has at most a few thousand names in it.
MAX_LINE_BYTES: Final = 16 << 20
# What reading the JSON of others may raise: such as is nested deeper than the stack is one of them.
UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_FIRST: Final = b'{"sprat_audit_export":'
_GZIP: Final = b"\x1f\x8b"
_HASH: Final = b'{"hash":"'
_RECORD: Final = b'","record":'
_EXPIRED: Final = b'","expired":'
_PROOF: Final = b'","proof":['
_PROVED: Final = b'],"record":'
_HEX: Final = 64
_AFTER_HASH: Final = len(_HASH) + _HEX
_HASH_HEX: Final = re.compile(rb"[0-9a-f]{64}")
_EXPIRED_SEQ: Final = re.compile(rb"([1-9][0-9]{0,18})\}\n")


class Head(Struct, frozen=True):
    """The first line."""

    sprat_audit_export: int
    checkpoint: str
    whole: bool
    wanted: dict[str, str] = {}  # the filters of a part


class Subtree(Struct, frozen=True, forbid_unknown_fields=True):
    """Of a whole export: the root of the last 256**level records."""

    subtree: int
    root: str


class SignedHere(Struct, frozen=True, forbid_unknown_fields=True):
    """Of a whole export: the checkpoint that was signed when the log was as long as this."""

    checkpoint: str


class End(Struct, frozen=True, forbid_unknown_fields=True):
    """The last line."""

    end: int


# By how they begin, which lines there are beside those of records.
_OTHERS: Final[Sequence[tuple[bytes, type[End | SignedHere | Subtree]]]] = (
    (b'{"end":', End),
    (b'{"checkpoint":', SignedHere),
    (b'{"subtree":', Subtree),
)


class _Numbered(Struct):
    seq: int


class Result(IntEnum):
    """What a check found; the exit status of `sprat audit verify EXPORT`."""

    INTACT = 0
    TAMPERED = 1
    INCOMPLETE = 2
    UNKNOWN_KEY = 3


@dataclass(frozen=True)
class Finding:
    """What a check found.

    Attributes:
        result: What it is.
        records: How many records were found good, from the first on.
        message: One sentence for people.
        seq: The first record that is not what it should be; None: there is none, or it is not
            known which.
        signers: Who signed the checkpoint, of those whose keys were given.
        expired: How many of the records were erased as a policy says.
    """

    result: Result
    records: int
    message: str
    seq: int | None = None
    signers: tuple[str, ...] = ()
    expired: int = 0


class _FoundError(Exception):
    def __init__(self, result: Result, message: str, seq: int | None = None) -> None:
        super().__init__(message)
        self.result = result
        self.seq = seq


def record_line(body: bytes, hash_hex: str, proof: Sequence[bytes] | None = None) -> bytes:
    """Return the line of a record, with its end; with the proof if it is of a part."""
    if proof is None:
        return b"%b%b%b%b}\n" % (_HASH, hash_hex.encode(), _RECORD, body)
    listed = b",".join(b'"%b"' % base64.b64encode(one) for one in proof)
    return b"%b%b%b%b%b%b}\n" % (_HASH, hash_hex.encode(), _PROOF, listed, _PROVED, body)


def expired_line(seq: int, hash_hex: str) -> bytes:
    """Return the line of a record whose body was erased, with its end."""
    return b"%b%b%b%d}\n" % (_HASH, hash_hex.encode(), _EXPIRED, seq)


def is_whole(first: bytes) -> bool:
    """Tell by its first line whether an export is of all records up to its checkpoint."""
    try:
        return msgspec.json.decode(first, type=Head).whole
    except UNREADABLE:
        return False


def leaf_of(one: bytes) -> tuple[bytes, bytes] | None:
    """Return the record of a line of a whole export that was verified, and its leaf's hash.

    The record is empty if it expired; None: another line.
    """
    if not one.startswith(_HASH):
        return None
    leaf, after = bytes.fromhex(one[len(_HASH) : _AFTER_HASH].decode()), one[_AFTER_HASH:]
    return (after[len(_RECORD) : -2] if after.startswith(_RECORD) else b""), leaf


def note_of(one: bytes) -> str | None:
    """Return the checkpoint of a line that was signed on the way; None: another line."""
    return None if one.startswith(_HASH) else _checkpoint_of(one)


def _checkpoint_of(one: bytes) -> str | None:
    try:
        return msgspec.json.decode(one, type=SignedHere).checkpoint
    except msgspec.ValidationError:
        return None


def body_of(one: bytes) -> bytes | None:
    """Return the record that a line of a part holds; None: another line."""
    _, middle, body = one.partition(_PROVED)
    return body[:-2] if middle and one.startswith(_HASH) else None


def line(value: Head | Subtree | SignedHere | End) -> bytes:
    """Return another line, with its end."""
    return msgspec.json.encode(value) + b"\n"


def verify(lines: Iterable[bytes], keys: Sequence[VerifierKey]) -> Finding:
    """Check an export against the log's public key, and witnesses' if theirs are given.

    A part proves that its records are in the log, and not that there were no others.

    Args:
        lines: The export, with line ends.
        keys: Whom to believe; the first is the log's, or another of its name, and one of these
            must have signed the checkpoint.
    """
    reader = _Reader(keys)
    try:
        for one in lines:
            reader.take(one)
        return reader.finish()
    except _FoundError as found:
        return Finding(found.result, reader.count, str(found), found.seq)


class _Reader:
    """Goes over an export line by line."""

    def __init__(self, keys: Sequence[VerifierKey]) -> None:
        self._keys = keys
        self._head: Head | None = None
        self._checkpoint: Checkpoint | None = None
        self._signers: tuple[str, ...] = ()
        self._frontier = Frontier()
        self._completed: list[bytes] = []
        self._signed_until = 0  # where the last checkpoint on the way stands
        self._good_until = 0  # what one by a key that is given vouches for
        self._last = 0
        self._end: int | None = None
        self._expiries = Expiries()
        self._former = FormerKeys(keys)
        self._number = msgspec.json.Decoder(_Numbered)
        self.count = 0

    def take(self, one: bytes) -> None:
        """Check the next line."""
        if not one.endswith(b"\n"):
            raise self._without_end(one)
        if self._head is None:
            self._begin(one)
        elif self._end is not None:
            raise _FoundError(Result.TAMPERED, "something follows the last line", self._bad)
        elif one.startswith(_HASH):
            self._record(one)
        else:
            self._other(one)

    def finish(self) -> Finding:
        """Return what was found of the whole."""
        if self._head is None or self._checkpoint is None:
            raise _FoundError(Result.INCOMPLETE, "the export is empty")
        if self._end is None:
            raise _FoundError(
                Result.INCOMPLETE, f"the export ends after record {self._last}: it is cut off"
            )
        if self._end != self.count:
            raise _FoundError(
                Result.TAMPERED,
                f"expected {self._end} records, found {self.count}: some were taken out",
                self._bad if self._head.whole else None,
            )
        size, root = self._checkpoint.size, self._checkpoint.root
        if not self._head.whole:
            message = f"{self.count} records, each in the log of {size}; others are not in here"
            return Finding(Result.INTACT, self.count, message, signers=self._signers)
        if self._frontier.size < size:
            raise _FoundError(
                Result.TAMPERED,
                f"the log has {size} records, found {self.count}: the last are missing",
                self._frontier.size + 1,
            )
        if self._frontier.root() != root:
            raise self._changed_since(size)
        fault = self._expiries.fault() or self._former.fault()
        if fault is not None:
            raise _FoundError(Result.TAMPERED, fault[1], fault[0])
        expired = self._expiries.count
        said = f", {expired} expired" if expired else ""
        message = f"{size} records, unbroken, as signed{said}"
        return Finding(Result.INTACT, size, message, signers=self._signers, expired=expired)

    def _without_end(self, one: bytes) -> _FoundError:
        """Return what a line without its end means: it is cut off, or it is none of an export."""
        if len(one) >= MAX_LINE_BYTES:
            said = f"{self._where()}: expected a line of at most {MAX_LINE_BYTES >> 20} MiB"
            return _FoundError(Result.TAMPERED, said, self._bad)
        if self._head is None and not one.startswith(_FIRST) and not _FIRST.startswith(one):
            return _FoundError(Result.TAMPERED, _no_first_line(one, "found something else"))
        return _FoundError(Result.INCOMPLETE, f"{self._where()}: the line is cut off")

    def _begin(self, one: bytes) -> None:
        try:
            head = msgspec.json.decode(one, type=Head)
            note = notes.read_note(head.checkpoint)
            self._checkpoint = notes.read_checkpoint(note.text)
        except (*UNREADABLE, NoteError) as error:
            raise _FoundError(Result.TAMPERED, _no_first_line(one, str(error))) from error
        if one.endswith(b"\r\n"):
            raise _FoundError(
                Result.TAMPERED,
                "expected lines that end with LF, found CR LF: the file was changed",
            )
        if head.sprat_audit_export != VERSION:
            raise _FoundError(
                Result.TAMPERED, f"expected version {VERSION}, found {head.sprat_audit_export}"
            )
        self._head, self._signers = head, self._signed(note)

    def _signed(self, note: notes.Note) -> tuple[str, ...]:
        """Return who signed; the log's own key must have."""
        known = {(key.name, key.key_id) for key in self._keys}
        if not any((one.name, one.key_id) in known for one in note.signatures):
            signers = signers_of(note)
            raise _FoundError(
                Result.UNKNOWN_KEY, f"the checkpoint is signed by {signers}, whose key is not given"
            )
        try:
            found = notes.verify(note, self._keys)
        except NoteError as error:
            raise _FoundError(Result.TAMPERED, f"the checkpoint is not signed: {error}") from error
        text, log = notes.read_checkpoint(note.text), self._keys[0]
        if text.origin != log.name or not any(is_of_log(one.key, log) for one in found):
            raise _FoundError(
                Result.UNKNOWN_KEY, f"expected the log {log.name}, found {text.origin}"
            )
        return tuple(one.key.name for one in found)

    def _record(self, one: bytes) -> None:
        hash_hex, after = one[len(_HASH) : _AFTER_HASH], one[_AFTER_HASH:]
        if self._is_whole and after.startswith(_EXPIRED):
            self._expired(hash_hex, after[len(_EXPIRED) :])
            return
        if after.startswith(_PROOF):
            proof, middle, body = after[len(_PROOF) :].partition(_PROVED)
        else:
            proof, middle, body = b"", after[: len(_RECORD)], after[len(_RECORD) :]
        # Proofs are of a part: `leaf_of` reads what was verified, and knows no others.
        if middle != (_RECORD if self._is_whole else _PROVED) or not body.endswith(b"}\n"):
            raise self._malformed()
        body = body[:-2]
        leaf = leaf_hash(body)
        if leaf.hex().encode() != hash_hex:
            bad = self._bad if self._is_whole else self._seq(body)
            raise _FoundError(
                Result.TAMPERED, f"record {bad}: it was changed, or the hash beside it", bad
            )
        seq = self._seq(body)
        if self._is_whole:
            self._in_whole(seq, leaf)
            self._expiries.take(seq, body)
            self._former.take(body)
        else:
            self._in_part(seq, leaf, proof)
        self._last = seq
        self.count += 1

    def _expired(self, hash_hex: bytes, rest: bytes) -> None:
        match = _EXPIRED_SEQ.fullmatch(rest)
        if match is None or not _HASH_HEX.fullmatch(hash_hex):
            raise self._malformed()
        seq = int(match[1])
        self._in_whole(seq, bytes.fromhex(hash_hex.decode()))
        self._expiries.gone(seq)
        self._last = seq
        self.count += 1

    def _in_whole(self, seq: int, leaf: bytes) -> None:
        expected = self._frontier.size + 1
        if seq != expected:
            raise _FoundError(
                Result.TAMPERED,
                f"expected record {expected}, found record {seq}: {_what_happened(seq, expected)}",
                expected,
            )
        if self._checkpoint is not None and seq > self._checkpoint.size:
            raise _FoundError(
                Result.TAMPERED, f"record {seq} is beyond the log that was signed", seq
            )
        self._completed = self._frontier.append(leaf)

    def _in_part(self, seq: int, leaf: bytes, proof: bytes) -> None:
        checkpoint = self._checkpoint
        if checkpoint is None or seq <= self._last:
            raise _FoundError(
                Result.TAMPERED, f"record {seq} follows record {self._last}: not in order", seq
            )
        try:
            encoded = msgspec.json.decode(b"[%b]" % proof, type=list[str])
            hashes = [base64.b64decode(text, validate=True) for text in encoded]
            verify_inclusion(leaf, seq - 1, checkpoint.size, hashes, checkpoint.root)
        except (ProofError, msgspec.DecodeError, binascii.Error, ValueError) as error:
            raise _FoundError(
                Result.TAMPERED, f"record {seq} is not proved: {error}", seq
            ) from error

    def _seq(self, body: bytes) -> int:
        try:
            return self._number.decode(body).seq
        except UNREADABLE as error:
            raise _FoundError(
                Result.TAMPERED, f"{self._where()}: expected a record: {error}", self._bad
            ) from error

    def _other(self, one: bytes) -> None:
        form = next((form for start, form in _OTHERS if one.startswith(start)), None)
        if form is None or not (self._is_whole or form is End):
            raise self._malformed()
        try:
            found = msgspec.json.decode(one, type=form)
        except UNREADABLE as error:
            raise self._malformed() from error
        if line(found) != one:  # it has one spelling
            raise self._malformed()
        match found:
            case End():
                self._end = found.end
            case SignedHere():
                self._checkpoint_on_the_way(found.checkpoint)
            case Subtree():
                self._subtree(found.subtree, found.root)

    def _subtree(self, level: int, root: str) -> None:
        at = 8 * level
        if not 0 < at < len(self._completed):
            raise _FoundError(
                Result.TAMPERED,
                f"{self._where()}: the root of a subtree stands where none ends",
                self._bad,
            )
        if self._completed[at].hex() != root:
            first = self._frontier.size - (1 << at) + 1
            raise _FoundError(
                Result.TAMPERED,
                f"the records {max(first, self._good_until + 1)} to {self._frontier.size} are not"
                " those whose hash was kept: one of them was changed, with the hash beside it",
                max(first, self._good_until + 1),
            )

    def _checkpoint_on_the_way(self, text: str) -> None:
        try:
            note = notes.read_note(text)
            checkpoint = notes.read_checkpoint(note.text)
            is_by_former = self._former.is_by_them(note)
            if is_by_former:
                self._former.meet(note, self._bad)
            else:
                self._signed(note)
        except (NoteError, _FoundError) as error:
            # The log's own key signed all of them: whose this is does not matter.
            raise _FoundError(
                Result.TAMPERED,
                f"{self._where()}: expected a checkpoint that the log signed: {error}",
                self._bad,
            ) from error
        if checkpoint.size != self._frontier.size or checkpoint.size <= self._signed_until:
            raise _FoundError(
                Result.TAMPERED,
                f"{self._where()}: the checkpoint of {checkpoint.size} stands in the wrong place",
                self._bad,
            )
        if checkpoint.root != self._frontier.root():
            raise self._changed_since(checkpoint.size)
        self._signed_until = checkpoint.size
        if not is_by_former:
            self._good_until = checkpoint.size

    def _changed_since(self, size: int) -> _FoundError:
        first = self._good_until + 1
        return _FoundError(
            Result.TAMPERED,
            f"the records {first} to {size} are not those that were signed: one of them was"
            " changed, with all hashes beside it",
            first,
        )

    def _malformed(self) -> _FoundError:
        return _FoundError(
            Result.TAMPERED, f"{self._where()}: expected a line of an export", self._bad
        )

    def _where(self) -> str:
        return f"after record {self._last}" if self._last else "at the beginning"

    @property
    def _bad(self) -> int:
        """The record that should have been next."""
        return self._last + 1

    @property
    def _is_whole(self) -> bool:
        return self._head is not None and self._head.whole


def _no_first_line(one: bytes, why: str) -> str:
    packed = "found a compressed file: unpack it first" if one.startswith(_GZIP) else why
    return f"expected the first line of an export: {packed}"


def _what_happened(seq: int, expected: int) -> str:
    if seq > expected:
        return "one was taken out, or they were reordered"
    if seq == expected - 1:
        return f"this record or the one before it, both {seq}, was put in"
    return "it was put in, or they were reordered"
