"""An export of a device's own audit log, and checking it without the controller. Pure.

JSON Lines. The first says whose log it is, by which key the device signs, and holds its newest
checkpoint. Then come those records of the controller's log that vouch for it, as an export of a
part of that log (`export`): the device's enrolment, which names the key, and what says which
records expired. Then the device's records, each with its seal:

    {"hash":"<hex>","seal":"<hex>","record":{…}}
    {"hash":"<hex>","seal":"<hex>","bytes":"<base64>"}    if its JSON has line ends in it
    {"hash":"<hex>","seal":"<hex>","expired":<seq>}       if its body was erased

and last `{"end":N}`. Seals are HMACs whose first key only the device and the controller had: that
they are right is checked at the controller (`audit.verify`), as records arrive and when asked for.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from msgspec import Struct
from sprat_proto import device_log, notes
from sprat_proto.audit_events import Tag
from sprat_proto.merkle import Frontier, leaf_hash
from sprat_proto.notes import Checkpoint, NoteError, VerifierKey

from sprat_controller.audit import expiries, export
from sprat_controller.audit.expiries import Range
from sprat_controller.audit.export import Finding, Result

VERSION: Final = 1
# How the first line begins: an export of the controller's log begins otherwise.
FIRST: Final = b'{"sprat_device_log":'
_END: Final = b'{"end":'
KEY_FIELD: Final = "audit_key_sha256"  # of the record of an enrolment


class Head(Struct, frozen=True, omit_defaults=True):
    """The first line."""

    sprat_device_log: int
    device: str
    key: str  # the vkey of its checkpoints
    checkpoint: str
    # False: what says which records expired is left out, as it names devices of others.
    expiries: bool = True


class _Line(Struct, frozen=True, forbid_unknown_fields=True):
    hash: str
    seal: str
    record: msgspec.Raw = msgspec.Raw()
    bytes: str | None = None
    expired: int | None = None


class _Numbered(Struct):
    seq: int


def fingerprint(key: VerifierKey) -> str:
    """Return what an enrolment's record says of the key of a device's log."""
    public = Ed25519PublicKey.from_public_bytes(key.public)
    encoded = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(encoded).hexdigest()


def record_line(body: bytes, hash_hex: str, seal: bytes, seq: int) -> bytes:
    """Return the line of a record, with its end; an empty body has expired."""
    start = b'{"hash":"%b","seal":"%b",' % (hash_hex.encode(), seal.hex().encode())
    if not body:
        return b'%b"expired":%d}\n' % (start, seq)
    if b"\n" in body or b"\r" in body:
        return b'%b"bytes":"%b"}\n' % (start, base64.b64encode(body))
    return b'%b"record":%b}\n' % (start, body)


def line(value: Head | export.End) -> bytes:
    """Return another line, with its end."""
    return msgspec.json.encode(value) + b"\n"


class _WrongError(Exception):
    def __init__(self, result: Result, message: str, seq: int | None = None) -> None:
        super().__init__(message)
        self.result = result
        self.seq = seq


@dataclass
class _Vouched:
    """What the controller's log says of the device."""

    device: str
    keys: list[str | None] = field(default_factory=list[str | None])  # as it enrolled, in order
    expired: list[Range] = field(default_factory=list[Range])

    def take(self, body: bytes) -> None:
        """Take in a record of it."""
        self.expired += expiries.of_device(body, self.device)
        record: Any = msgspec.json.decode(body)
        about = (record.get("tag"), record.get("subject"))
        if about == (Tag.DEVICE_ENROLLED.value, f"device/{self.device}"):
            self.keys.append(record["detail"].get(KEY_FIELD))


def verify(lines: Iterable[bytes], keys: Sequence[VerifierKey]) -> Finding:
    """Check an export of a device's log.

    Args:
        lines: The export, with line ends.
        keys: Of the controller's log; then witnesses' of it.
    """
    rest, frontier, gone = iter(lines), Frontier(), list[int]()
    try:
        head, key, checkpoint = _begin(rest)
        vouched = _Vouched(head.device)
        said = export.verify(_part(rest, vouched), keys)
        if said.result is not Result.INTACT:
            message = f"the controller's records about {head.device}: {said.message}"
            return Finding(said.result, 0, message)
        _compare(checkpoint, frontier, _records(rest, frontier, gone))
        anchor = _anchor(vouched, key)
        _check_expired(vouched, gone, is_said=head.expiries)
    except _WrongError as wrong:
        return Finding(wrong.result, frontier.size, str(wrong), wrong.seq)
    count = frontier.size
    expired = f", {len(gone)} expired" if gone else ""
    message = f"{count} records of {head.device}, unbroken, as the device signed{expired}; {anchor}"
    return Finding(Result.INTACT, count, message, signers=(key.name,), expired=len(gone))


def _begin(lines: Iterator[bytes]) -> tuple[Head, VerifierKey, Checkpoint]:
    first = next(lines, b"")
    if not first.endswith(b"\n"):
        raise _WrongError(Result.INCOMPLETE, "the export is cut off at the beginning")
    try:
        head = msgspec.json.decode(first, type=Head)
        key = notes.read_key(head.key)
        checkpoint = device_log.verify(head.checkpoint, head.device, key)
    except (*export.UNREADABLE, NoteError) as error:
        raise _WrongError(
            Result.TAMPERED, f"expected the first line of an export of a device's log: {error}"
        ) from error
    if first.endswith(b"\r\n"):
        raise _WrongError(
            Result.TAMPERED, "expected lines that end with LF, found CR LF: the file was changed"
        )
    if head.sprat_device_log != VERSION:
        raise _WrongError(
            Result.TAMPERED, f"expected version {VERSION}, found {head.sprat_device_log}"
        )
    return head, key, checkpoint


def _part(lines: Iterator[bytes], vouched: _Vouched) -> Iterator[bytes]:
    """Yield the part of the controller's log; what it says counts once all of it is verified."""
    for one in lines:
        yield one
        body = export.body_of(one)
        if body is not None:
            vouched.take(body)
        elif is_end(one):
            return


def _records(lines: Iterator[bytes], frontier: Frontier, gone: list[int]) -> int:
    """Go over the device's records; return how many there should be."""
    for one in lines:
        seq = frontier.size + 1
        if len(one) >= export.MAX_LINE_BYTES and not one.endswith(b"\n"):
            most = f"at most {export.MAX_LINE_BYTES >> 20} MiB"
            raise _WrongError(Result.TAMPERED, f"record {seq}: expected a line of {most}", seq)
        if not one.endswith(b"\n"):
            raise _WrongError(Result.INCOMPLETE, f"after record {seq - 1}: the line is cut off")
        try:
            if is_end(one):
                end = msgspec.json.decode(one, type=export.End)
                _check_spelling(one, line(end), seq)
                _check_over(lines, seq)
                return end.end
            frontier.append(_leaf(one, seq, gone))
        except (*export.UNREADABLE, ValueError) as error:
            raise _WrongError(
                Result.TAMPERED, f"record {seq}: expected a line of an export: {error}", seq
            ) from error
    raise _WrongError(
        Result.INCOMPLETE, f"the export ends after record {frontier.size}: it is cut off"
    )


def _check_spelling(found: bytes, expected: bytes, seq: int) -> None:
    """A line that may be written in several ways hides what was done to it."""
    if found != expected:
        message = f"record {seq}: expected a line of an export, found another spelling of it"
        raise _WrongError(Result.TAMPERED, message, seq)


def _check_over(lines: Iterator[bytes], seq: int) -> None:
    if next(lines, None) is not None:
        raise _WrongError(Result.TAMPERED, "something follows the last line", seq)


def _leaf(found: bytes, seq: int, gone: list[int]) -> bytes:
    """Return the hash of a line's record."""
    one = msgspec.json.decode(found, type=_Line)
    if one.expired is not None:
        if one.expired != seq or bytes(one.record) or one.bytes is not None:
            raise _WrongError(
                Result.TAMPERED, f"expected record {seq}, found {one.expired} as expired", seq
            )
        gone.append(seq)
        leaf = bytes.fromhex(one.hash)
        _check_spelling(found, record_line(b"", leaf.hex(), bytes.fromhex(one.seal), seq), seq)
        return leaf
    body = bytes(one.record)
    if one.bytes is not None:
        body = base64.b64decode(one.bytes, validate=True)
    leaf = leaf_hash(body)
    if leaf.hex() != one.hash:
        message = f"record {seq}: this record was changed, or the hash beside it"
        raise _WrongError(Result.TAMPERED, message, seq)
    said = msgspec.json.decode(body, type=_Numbered).seq
    if said != seq:
        message = f"expected record {seq}, found record {said}: one was taken out or put in"
        raise _WrongError(Result.TAMPERED, message, seq)
    _check_spelling(found, record_line(body, one.hash, bytes.fromhex(one.seal), seq), seq)
    return leaf


def _compare(checkpoint: Checkpoint, frontier: Frontier, end: int) -> None:
    size = frontier.size
    if size != checkpoint.size:
        raise _WrongError(
            Result.TAMPERED,
            f"the device signed {checkpoint.size} records, found {size}: some were taken out or put"
            " in",
            min(size, checkpoint.size) + 1,
        )
    if end != size:
        message = f"the last line counts {end} records, found {size}: it was changed"
        raise _WrongError(Result.TAMPERED, message, size + 1)
    if frontier.root() != checkpoint.root:
        raise _WrongError(
            Result.TAMPERED,
            f"the records 1 to {size} are not those that the device signed: one of them was"
            " changed, with the hash beside it",
            1,
        )


def _check_expired(vouched: _Vouched, gone: list[int], *, is_said: bool) -> None:
    first = expiries.first_outside(expiries.ranges_of(gone), vouched.expired)
    if first is not None and not is_said:
        why = (
            f"{len(gone)} records of {vouched.device}, the first of them {first}, have no body, and"
            " what says that they expired is not in this export: whoever may read the whole audit"
            " log can export it"
        )
        raise _WrongError(Result.INCOMPLETE, why, first)
    if first is not None:
        why = f"record {first} was removed, no record of the controller says that it expired"
        raise _WrongError(Result.TAMPERED, why, first)


def _anchor(vouched: _Vouched, key: VerifierKey) -> str:
    """Return how it is known that the key is the device's."""
    if not vouched.keys:
        raise _WrongError(
            Result.UNKNOWN_KEY,
            f"the controller's log has no enrolment of {vouched.device} in this export",
        )
    if vouched.keys[-1] is None:
        return "its enrolment is of before the controller's log named the key"
    if vouched.keys[-1] != fingerprint(key):
        raise _WrongError(
            Result.UNKNOWN_KEY,
            f"the log is not signed by the key that {vouched.device} enrolled with",
        )
    return "its key is that of its enrolment in the controller's log"


def is_end(one: bytes) -> bool:
    """Tell whether a line is the last of the part of the controller's log, or of all."""
    return one.startswith(_END)


def is_one(first: bytes) -> bool:
    """Tell by its first line whether an export is of a device's log."""
    return first.startswith(FIRST)
