"""What the image repository says of a variant, as a plan must repeat it."""

from __future__ import annotations

from typing import Final

import sqlalchemy
from sprat_proto import manifest, trust
from sqlmodel import Session, col

from sprat_controller.signer.port import PlannedTarget
from sprat_controller.store.tables import Variant

_MANIFEST: Final = sqlalchemy.select(col(Variant.manifest)).where(
    col(Variant.digest) == sqlalchemy.bindparam("digest")
)
# A digest names its content, so what was read once stays true. Thousands of devices get the same
# few variants, and reading a large manifest takes longer than signing a plan.
_KEPT: Final = 1024
_known: dict[str, PlannedTarget] = {}


def planned_target(session: Session, digest: str) -> PlannedTarget:
    """Return a published variant as a target of the director."""
    known = _known.get(digest)
    if known is None:
        data = session.connection().execute(_MANIFEST, {"digest": digest}).scalar_one()
        if len(_known) >= _KEPT:
            _known.clear()
        known = _known[digest] = _read(digest, data)
    return known


def _read(digest: str, data: bytes) -> PlannedTarget:
    decoded = manifest.decode(data)
    return PlannedTarget(trust.path_of(decoded), len(data), digest, trust.custom_of(decoded))
