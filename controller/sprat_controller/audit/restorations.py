"""What the log says of each time that it was restored."""

from __future__ import annotations

import msgspec
import sqlalchemy as sql
from sprat_proto.audit_events import Tag
from sqlmodel import Session, col

from sprat_controller.store.tables import AuditRecord


def statements(session: Session) -> list[tuple[str, int]]:
    """Return each statement in the log, oldest first, and the record that it stands in."""
    rows = session.connection().execute(
        sql.select(col(AuditRecord.body), col(AuditRecord.seq))
        .where(col(AuditRecord.tag) == Tag.AUDIT_RESTORED.value)
        .order_by(col(AuditRecord.seq))
    )
    found = ((msgspec.json.decode(body)["detail"].get("statement"), seq) for body, seq in rows)
    return [(str(statement), seq) for statement, seq in found if statement]
