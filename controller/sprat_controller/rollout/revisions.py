"""Holding a change to the revision of a rollout that somebody looked at."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec
from sqlmodel import Session, col, select

from sprat_controller.errors import ConflictError
from sprat_controller.store.tables import AuditRecord, Rollout

_NAMED: Final = 3  # changes that an error names, the newest
_LOOKED_AT: Final = 50  # audit records of the rollout


def check(session: Session, rollout: Rollout, expected: int | None) -> None:
    """Check that a rollout that is held is still what was looked at; None: whatever it is.

    Raises:
        ConflictError: It was changed meanwhile; it says by whom and how.
    """
    if expected is None or expected == rollout.revision:
        return
    changes = list(_since(session, rollout, expected))
    shown = "; ".join(reversed(changes[:_NAMED])) or "it was never that"
    raise ConflictError(
        "revision_changed",
        f"expected revision {expected} of rollout {rollout.id}, found {rollout.revision}: {shown};"
        " look again",
        {"expected": expected, "found": rollout.revision},
    )


def _since(session: Session, rollout: Rollout, expected: int) -> Iterator[str]:
    """Yield what made the revisions after `expected`, newest first."""
    records = session.exec(
        select(AuditRecord.body)
        .where(col(AuditRecord.subject) == f"rollout/{rollout.id}")
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
        yield f"{record['actor']} had it {what}{moved} at {record['ts']}"
