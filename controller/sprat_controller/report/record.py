"""A record as reports read it: whatever stands in a log, nothing here fails on it. Pure.

Devices write their own records, so none of their fields can be counted on.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias, cast

import msgspec
from sprat_proto import audit_events

Json: TypeAlias = dict[str, Any]
CONTROLLER: Final = "controller"
# What a statement about one record says beside when, who, what and to what.
_MORE: Final = ("outcome", "reason", "before", "after", "scope", "detail")
_HASH: Final = b'{"hash":"'
_RECORD: Final = b'"record":'


@dataclass(frozen=True)
class Record:
    """A record of a log.

    Attributes:
        log: `controller`, or a device's id.
        seq: Its position there, from 1.
        body: What it says.
    """

    log: str
    seq: int
    body: Json

    @property
    def ts(self) -> str:
        """When, in its own spelling; empty: it does not say."""
        return text(self.body.get("ts"))

    @property
    def at(self) -> datetime | None:
        """When; None: it does not say so that it can be read."""
        return moment(self.ts)

    @property
    def actor(self) -> str:
        """Who; empty: it does not say."""
        return audit_events.actor_name(self.body.get("actor")) or ""

    @property
    def tag(self) -> str:
        """What happened."""
        return text(self.body.get("tag"))

    @property
    def subject(self) -> str:
        """To which thing."""
        return text(self.body.get("subject"))

    @property
    def detail(self) -> Json:
        """What else it says."""
        return mapping(self.body.get("detail"))

    def about(self, kind: str) -> str:
        """Return the id of the thing of this kind that it happened to; empty: of another kind."""
        name = self.subject.removeprefix(f"{kind}/")
        return "" if name == self.subject else name

    def said(self, name: str) -> str:
        """Return a text of its details."""
        return text(self.detail.get(name))


@dataclass(frozen=True)
class Expired:
    """A record of which only the hash is kept."""

    log: str
    seq: int


class _Other(msgspec.Struct):
    expired: int | None = None
    bytes: str = ""


def of_line(log: str, line: bytes) -> Record | Expired | None:
    """Return what a line of an export holds of a log; None: nothing that can be read.

    Nothing is verified: `audit.export` and `audit.device_export` do, and say so of what is odd.
    """
    if not line.startswith(_HASH):
        return None
    try:
        _, found, body = line.partition(_RECORD)
        if not found:
            other = msgspec.json.decode(line, type=_Other)
            if other.expired is not None:
                return Expired(log, other.expired)
            return of_body(log, base64.b64decode(other.bytes, validate=True))
        return of_body(log, body.rstrip()[:-1])
    except (msgspec.DecodeError, UnicodeDecodeError, binascii.Error):
        return None


def of_body(log: str, body: bytes) -> Record | None:
    """Return a record by what was written; None: it is no JSON object with a position.

    Raises:
        msgspec.DecodeError: It is no JSON.
    """
    said = mapping(msgspec.json.decode(body))
    seq = number(said.get("seq"))
    return Record(log, seq, said) if seq > 0 else None


def about_one(record: Record) -> Json:
    """Return the statement that a record was written: what it says, and which it is."""
    body = record.body
    said = {"at": record.ts, "who": record.actor, "what": record.tag, "subject": record.subject}
    more = {name: body[name] for name in _MORE if body.get(name)}
    return {"records": cite(record), **said, **more}


def cite(*records: Record | None) -> dict[str, list[int]]:
    """Return which records a statement rests on, by log."""
    found: dict[str, set[int]] = {}
    for record in records:
        if record is not None:
            found.setdefault(record.log, set()).add(record.seq)
    return {log: sorted(seqs) for log, seqs in sorted(found.items())}


def text(value: object) -> str:
    """Return a text; empty, if it is none."""
    return value if isinstance(value, str) else ""


def number(value: object) -> int:
    """Return a whole number; 0, if it is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def mapping(value: object) -> Json:
    """Return an object; an empty one, if it is none."""
    return dict(cast("Mapping[str, Any]", value)) if isinstance(value, Mapping) else {}


def items(value: object) -> list[Json]:
    """Return the objects of a list; none, if it is none."""
    listed = cast("list[object]", value) if isinstance(value, list) else []
    return [mapping(one) for one in listed]


def moment(said: str) -> datetime | None:
    """Read a time; None: it is none, or it does not say of which zone."""
    try:
        found = datetime.fromisoformat(said)
        return found.astimezone(UTC) if found.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None


def seconds(begin: datetime | None, end: datetime | None) -> int | None:
    """Return how long it was, in whole seconds."""
    return None if begin is None or end is None else int((end - begin).total_seconds())
