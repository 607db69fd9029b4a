"""The roots of trust that a new device begins with."""

from __future__ import annotations

import sqlalchemy as sql
from sprat_proto.trust import Repository
from sqlmodel import Session, col

from sprat_controller.store.tables import TrustMetadata


def newest_root(session: Session, repository: Repository) -> bytes | None:
    """Return the newest root of a repository, from which a new device goes on; None: none yet."""
    statement = (
        sql.select(col(TrustMetadata.data))
        .where(col(TrustMetadata.repository) == repository, col(TrustMetadata.role) == "root")
        .order_by(col(TrustMetadata.version).desc())
        .limit(1)
    )
    return session.connection().execute(statement).scalar()
