"""Holding a change to the revision that somebody looked at, of a rollout or a recurring one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec
from sprat_proto.audit_events import actor_name
from sqlmodel import Session, col, select

from sprat_controller.errors import ConflictError
from sprat_controller.store.tables import AuditRecord, Recurrence, Rollout

_NAMED: Final = 3  # changes that an error names, the newest
_LOOKED_AT: Final = 50  # audit records about it


def check(session: Session, rollout: Rollout, expected: int | None) -> None:
    """Check that a rollout that is held is still what was looked at; None: whatever it is.

    Raises:
        ConflictError: It was changed meanwhile; it says by whom and how.
    """
    subject, found = f"rollout/{rollout.id}", rollout.revision
    _check(session, f"rollout {rollout.id}", subject, found, expected)


def check_recurrence(session: Session, row: Recurrence, expected: int | None) -> None:
    """Check the same of a recurring rollout.

    Raises:
        ConflictError: It was changed meanwhile; it says by whom and how.
    """
    named, subject = f"recurring rollout {row.id}", f"recurrence/{row.id}"
    _check(session, named, subject, row.revision, expected)


def _check(session: Session, named: str, subject: str, found: int, expected: int | None) -> None:
    if expected is None or expected == found:
        return
    changes = list(_since(session, subject, expected))
    shown = "; ".join(reversed(changes[:_NAMED])) or "it was never that"
    raise ConflictError(
        "revision_changed",
        f"expected revision {expected} of {named}, found {found}: {shown}; look again",
        {"expected": expected, "found": found},
    )


def _since(session: Session, subject: str, expected: int) -> Iterator[str]:
    """Yield what made the revisions after `expected`, newest first."""
    records = session.exec(
        select(AuditRecord.body)
        .where(col(AuditRecord.subject) == subject)
        .order_by(col(AuditRecord.seq).desc())
        .limit(_LOOKED_AT)
    )
    for body in records:
        record: dict[str, Any] = msgspec.json.decode(body)
        detail = record["detail"]
        if detail.get("revision", 0) <= expected:
            continue
        moved = f" ({detail['from']} -> {detail['to']})" if "from" in detail else ""
        what = record["tag"].rpartition(":")[2].replace("_", " ")
        yield f"{actor_name(record['actor'])} had it {what}{moved} at {record['ts']}"
