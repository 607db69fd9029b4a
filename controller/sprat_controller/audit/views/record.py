"""Reading a record for a view: whatever stands in it, for what a view leaves out nobody sees. Pure.

Records of devices are theirs: a field of a kind that it should not have is as good as none, and
what is no JSON object has no fields at all. The text of the record is there in any case.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from typing import Any, Final, cast

import msgspec
from sprat_proto import audit_events
from sprat_proto.audit_events import Tag

PRODUCT: Final = "sprat-controller"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# What ends a line somewhere, moves a cursor, or turns the direction of what follows.
_CONTROLS: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]"
)
_REPLACEMENT: Final = "\ufffd"
# As long as the CEF dictionary allows a user's name or a reason to be.
MAX_PLAIN: Final = 1023


class Severity(Enum):
    """How much a record wants to be looked at."""

    INFORMATIONAL = auto()
    WARNING = auto()  # something was refused, or failed
    ALARM = auto()  # somebody must look


# What nobody should find in a log weeks later.
ALARMS: Final = frozenset(
    {
        Tag.LOGIN_LOCKED,
        Tag.DEVICE_ENROLMENT_CONTESTED,
        Tag.DEVICE_COPY_SUSPECTED,
        Tag.DEVICE_QUARANTINED,
        Tag.TIMESTAMP_LATE,
        Tag.ROLLOUT_OVERRIDDEN,
        Tag.APPROVAL_OVERRIDDEN,
        Tag.DEVICE_AUDIT_BROKEN,
        Tag.DEVICE_AUDIT_REWOUND,
        Tag.DEVICE_AUDIT_SILENT,
        Tag.DEVICE_AUDIT_COPIED,
        Tag.REVOCATIONS_LATE,
        Tag.CHECKPOINT_LATE,
        Tag.FORWARDING_LATE,
        Tag.AUDIT_DIVERGED,
        Tag.SIGNER_CHECKPOINT_REFUSED,
        Tag.SIGNER_PLAN_REFUSED,
        Tag.SIGNER_TIMESTAMP_REFUSED,
        Tag.SIGNER_CERTIFICATE_REFUSED,
    }
)


@dataclass(frozen=True)
class Origin:
    """Whose logs they are: the controller's host name, and its version."""

    host: str
    version: str


@dataclass(frozen=True)
class Record:
    """A record's fields, "" for each that is not there; `text` is all of it, on one line."""

    text: str
    log: str = ""
    seq: int = 0
    at: datetime | None = None
    actor: str = ""  # `user:ann`, `planner`
    actor_type: str = ""
    actor_id: str = ""
    authn: str = ""
    session: str = ""
    tag: str = ""
    subject: str = ""
    scope: str = ""
    request: str = ""
    trace: str = ""
    before: str = ""
    after: str = ""
    outcome: str = ""
    reason: str = ""
    tsq: str = ""
    detail: Mapping[str, object] = field(default_factory=dict[str, object])

    @property
    def known_tag(self) -> Tag | None:
        """The tag; None: one of a newer agent, or none."""
        try:
            return Tag(self.tag)
        except ValueError:
            return None

    @property
    def action(self) -> str:
        """What was done: the last part of the tag."""
        return self.tag.rpartition(":")[2]

    @property
    def severity(self) -> Severity:
        """How much it wants to be looked at."""
        if self.known_tag in ALARMS:
            return Severity.ALARM
        return Severity.WARNING if self.outcome in ("failure", "denied") else Severity.INFORMATIONAL

    @property
    def title(self) -> str:
        """What happened in a few words, for example `rollout started`."""
        words = " ".join(self.tag.split(":")[1:])
        return words.replace("-", " ").replace("_", " ") or "record"

    @property
    def microseconds(self) -> int | None:
        """When, since 1970; None: not said, or before."""
        if self.at is None or self.at < _EPOCH:
            return None
        return (self.at - _EPOCH) // timedelta(microseconds=1)

    def named(self) -> dict[str, str]:
        """Return the fields that are there, by the names that they have in records."""
        said = {
            "log": self.log,
            "seq": str(self.seq),
            "tag": self.tag,
            "actor": self.actor,
            "authn": self.authn,
            "session": self.session,
            "subject": self.subject,
            "scope": self.scope,
            "request": self.request,
            "before": self.before,
            "after": self.after,
            "outcome": self.outcome,
            "reason": self.reason,
            "tsq": self.tsq,
        }
        return {name: value for name, value in said.items() if value}


def read(body: bytes) -> Record:
    """Return a record of either version; what cannot be read has its text and nothing else."""
    text = printable(body)
    try:
        decoded: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return Record(text)
    if not isinstance(decoded, dict):
        return Record(text)
    said = cast("dict[str, object]", decoded)
    seq = said.get("seq")
    actor = audit_events.actor_name(said.get("actor")) or ""
    who = _fields(said, "actor") or (audit_events.actor_of(actor) if actor else {})
    return Record(
        text,
        log=_text(said, "log"),
        seq=seq if isinstance(seq, int) and not isinstance(seq, bool) else 0,
        at=_moment(_text(said, "ts")),
        actor=actor,
        actor_type=_text(who, "type"),
        actor_id=_text(who, "id"),
        authn=_text(who, "authn"),
        session=_text(who, "session"),
        tag=_text(said, "tag"),
        subject=_text(said, "subject"),
        scope=_text(said, "scope"),
        request=_text(said, "request"),
        trace=_text(said, "trace"),
        before=_text(said, "before"),
        after=_text(said, "after"),
        outcome=_text(said, "outcome"),
        reason=_text(said, "reason"),
        tsq=_text(said, "tsq"),
        detail=_fields(said, "detail"),
    )


def printable(json: bytes) -> str:
    r"""Return JSON without control characters: each as the escape `\uXXXX`, which means the same.

    The text of JSON has such characters inside strings only; what is no JSON is one line, too.
    """
    return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", json.decode(errors="replace"))


def json_line(value: object) -> bytes:
    """Return a value as JSON without control characters."""
    return printable(msgspec.json.encode(value)).encode()


def plain(text: str, *, limit: int = MAX_PLAIN, but: str = "") -> str:
    """Return a text for a field that has no escape for control characters: U+FFFD for each.

    Args:
        text: Of any length.
        limit: So many characters are kept.
        but: Control characters that may stay.
    """
    kept = text[:limit]
    return _CONTROLS.sub(lambda found: found[0] if found[0] in but else _REPLACEMENT, kept)


def _text(said: Mapping[str, object], name: str) -> str:
    value = said.get(name)
    return value if isinstance(value, str) else ""


def _fields(said: Mapping[str, object], name: str) -> Mapping[str, object]:
    value = said.get(name)
    return cast("Mapping[str, object]", value) if isinstance(value, dict) else {}


def _moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC) if moment.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None
