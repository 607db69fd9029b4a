"""The keys of a log: those before the present one, and what its records say of them. Pure.

A next key signs beside the one before for as long as the operators want: who has either can check.
Of checkpoints by former keys alone, with those keys not given, an export says nothing but that the
log's records name the key as its former one (`Tag.LOG_REKEYED`, which never expires).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
from sprat_proto.audit_events import Tag
from sprat_proto.notes import Note, VerifierKey

_CHANGED: Final = Tag.LOG_REKEYED.value.encode()


def is_of_log(key: VerifierKey, log: VerifierKey) -> bool:
    """Tell whether a key is one of the log's: they have the same name."""
    return (key.name, key.kind) == (log.name, log.kind)


def signers_of(note: Note) -> str:
    """Return by which keys a note is signed, each as its vkey begins."""
    return ", ".join(f"{one.name}+{one.key_id.hex()}" for one in note.signatures)


class _Changed(msgspec.Struct):
    tag: str
    before: str = ""


class FormerKeys:
    """Follows which keys that are not given signed, and which the records name."""

    def __init__(self, keys: Sequence[VerifierKey]) -> None:
        """Follow a log.

        Args:
            keys: That are given, one of the log first.
        """
        self._name = keys[0].name if keys else ""
        self._given = {key.key_id for key in keys}
        self._met: dict[str, int] = {}
        self._named: set[str] = set()

    def is_by_them(self, note: Note) -> bool:
        """Tell whether keys of the log signed a note, and none that is given."""
        ids = {one.key_id for one in note.signatures if one.name == self._name}
        return bool(ids) and ids.isdisjoint(self._given)

    def meet(self, note: Note, seq: int) -> None:
        """Take in a note by them, before record `seq`."""
        for one in note.signatures:
            if one.name == self._name:
                self._met.setdefault(one.key_id.hex(), seq)

    def take(self, body: bytes) -> None:
        """Take in a record of the log."""
        if _CHANGED not in body:
            return
        try:
            record = msgspec.json.decode(body, type=_Changed)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return  # it only has these letters somewhere
        if record.tag == Tag.LOG_REKEYED.value:
            self._named.add(record.before)

    def fault(self) -> tuple[int, str] | None:
        """Return where a key signed that no record names as one of the log's, and a sentence."""
        odd = [(seq, key_id) for key_id, seq in self._met.items() if key_id not in self._named]
        if not odd:
            return None
        seq, key_id = min(odd)
        return seq, (
            f"before record {seq}: expected a checkpoint that the log signed, found one by the key"
            f" {key_id}, which no record names as a former key of {self._name}"
        )
