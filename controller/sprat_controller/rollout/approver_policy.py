"""Where the controller reads who may approve: the policy that the image repository publishes.

It is the target `policy/approvers.json`, signed offline. The controller believes its own rows;
devices verify the same bytes by its signatures.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Final, TypeAlias

import sqlalchemy
from sprat_proto import approval, trust
from sprat_proto.approval import ApproverPolicy, PolicyError
from sqlmodel import Session, col

from sprat_controller.errors import ConflictError, NotFoundError
from sprat_controller.registry.blobs import BlobStore
from sprat_controller.store.tables import TrustMetadata

PolicySource: TypeAlias = Callable[[Session], ApproverPolicy]

_TARGETS: Final = (
    sqlalchemy.select(col(TrustMetadata.data))
    .where(col(TrustMetadata.repository) == trust.IMAGE, col(TrustMetadata.role) == "targets")
    .order_by(col(TrustMetadata.version).desc())
    .limit(1)
)


def published(blobs: BlobStore) -> PolicySource:
    """Return what reads the newest policy; without one, no group asks for anything."""

    def read(session: Session) -> ApproverPolicy:
        data = session.connection().execute(_TARGETS).scalar()
        target = json.loads(data)["signed"]["targets"].get(trust.POLICY_PATH) if data else None
        if target is None:
            return approval.NOBODY
        sha256 = target["hashes"]["sha256"]
        try:
            return approval.decode_policy(blobs.find(sha256).read_bytes())
        except (NotFoundError, PolicyError) as error:
            # Whom to ask is not known, so nobody's word is enough.
            raise ConflictError(
                "approver_policy_unreadable",
                f"expected {trust.POLICY_PATH} of the image repository in the blob {sha256},"
                f" found {error}: publish it again",
            ) from error

    return read


def nobody(_session: Session) -> ApproverPolicy:
    """Return the policy of a controller that has none."""
    return approval.NOBODY
