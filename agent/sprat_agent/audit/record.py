"""One audit record: a leaf of the device's log. Pure.

The body has the fields of the controller's own log, so that one reader reads both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sprat_proto import audit_events

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


def make(
    log: str,
    seq: int,
    *,
    moment: Moment,
    tag: str,
    subject: str,
    detail: Mapping[str, object],
) -> bytes:
    """Return the body of the record at a position.

    Args:
        log: Whose log: the device's id.
        seq: Its position, from 1.
        moment: When.
        tag: `source:subject:action`; actions that say that something went wrong (`refused`,
            `crashed`, ...) make the outcome a failure.
        subject: To which thing, for example `execution/<id>`.
        detail: Integers, strings, booleans and lists or mappings of them.
    """
    if audit_events.GRAMMAR.fullmatch(tag) is None:
        raise ValueError(f"expected a tag of the form source:subject:action, found {tag!r}")
    return audit_events.encode(
        log=log,
        seq=seq,
        at=moment.at,
        actor={"type": "device", "id": log},
        tag=tag,
        subject=subject,
        outcome="failure" if tag.rpartition(":")[2] in _FAILURES else "success",
        detail=dict(detail),
        more={
            "tsq": "synced" if moment.is_synchronised else "unsynced",
            "boot": moment.boot_id,
            "mono": moment.since_boot_ns or None,
        },
    )
