"""One audit record: a leaf of the device's log. Pure.

The body has the fields of the controller's own log, so that one reader reads both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sprat_proto import audit_events

_APPLICATION: Final = "application:"
_FAILURES: Final = frozenset({"refused", "failed", "crashed", "diverged"})


@dataclass(frozen=True)
class Record:
    """A record at its place in the log."""

    seq: int  # 1, 2, 3 ... for ever
    body: bytes
    seal: bytes


@dataclass(frozen=True)
class Moment:
    """When something was written down.

    Attributes:
        at: By the clock of the wall, timezone-aware.
        is_synchronised: Something (NTP, PTP) keeps that clock right.
        boot_id: Of this start of the agent.
        since_boot_ns: By the clock that never goes back; it says the order where the other jumped.
    """

    at: datetime
    is_synchronised: bool = False
    boot_id: str = ""
    since_boot_ns: int = 0


@dataclass(frozen=True)
class Ending:
    """How something came out."""

    is_success: bool
    reason: str = ""  # why not, in a word that programs read


@dataclass(frozen=True)
class Change:
    """From what to what a thing was changed: a state or a digest; "" is nothing."""

    before: str = ""
    after: str = ""


NO_CHANGE: Final = Change()


def make(
    log: str,
    seq: int,
    *,
    moment: Moment,
    tag: str,
    subject: str,
    detail: Mapping[str, object],
    ending: Ending | None = None,
    change: Change = NO_CHANGE,
) -> bytes:
    """Return the body of the record at a position.

    Args:
        log: Whose log: the device's id.
        seq: Its position, from 1.
        moment: When.
        tag: `source:subject:action`; actions that say that something went wrong (`refused`,
            `crashed`, ...) make the outcome a failure.
        subject: To which thing, for example `execution/<id>`.
        detail: Integers, strings, booleans and lists or mappings of them; `caller` is who did it,
            where the tag's source is an application. All else the device did.
        ending: How it came out, where the tag does not say.
        change: Of what, if anything was changed.
    """
    if audit_events.GRAMMAR.fullmatch(tag) is None:
        raise ValueError(f"expected a tag of the form source:subject:action, found {tag!r}")
    if ending is None:
        ending = Ending(is_success=tag.rpartition(":")[2] not in _FAILURES)
    return audit_events.encode(
        log=log,
        seq=seq,
        at=moment.at,
        actor=_actor(log, tag, detail),
        tag=tag,
        subject=subject,
        outcome="success" if ending.is_success else "failure",
        detail=dict(detail),
        more={
            "tsq": "synced" if moment.is_synchronised else "unsynced",
            "boot": moment.boot_id,
            "mono": moment.since_boot_ns or None,
            "reason": ending.reason,
            "before": change.before,
            "after": change.after,
        },
    )


def _actor(log: str, tag: str, detail: Mapping[str, object]) -> dict[str, str]:
    caller = detail.get("caller")
    if tag.startswith(_APPLICATION) and isinstance(caller, str) and caller:
        return {"type": "application", "id": caller}
    return {"type": "device", "id": log}
