"""Telling the signer again who was removed, in case that it never heard of it.

A removal is a row first and the signer's knowledge then. Killed in between, the controller keeps
the device out and the signer would still sign for it; so every start tells the signer of all that
were removed. What the signer knows already changes nothing there.
"""

from __future__ import annotations

import logging
from datetime import datetime

import sqlalchemy as sql
from sqlmodel import col

from sprat_controller.fleet.certificates import serials_to_revoke
from sprat_controller.signer.port import Signer, SignerError
from sprat_controller.store.session import Database
from sprat_controller.store.tables import Device

_log = logging.getLogger(__name__)


def tell_of_removed(database: Database, signer: Signer, now: datetime) -> list[str]:
    """Have the signer revoke every removed device; return those that it was not told of. Blocking.

    A signer that fails stops nobody from starting: the next start tells it.
    """
    with database.reading() as session:
        query = sql.select(col(Device.id)).where(col(Device.revoked_at).is_not(None))
        removed = [
            (device_id, serials_to_revoke(session, device_id, now))
            for device_id in sorted(session.connection().execute(query).scalars())
        ]
    for number, (device_id, serials) in enumerate(removed):
        try:
            signer.revoke(device_id, serials)
        except SignerError as error:
            untold = [name for name, _ in removed[number:]]
            _log.error(
                "the signer was not told that %s were removed: %s; restart the controller, or"
                " remove them once more",
                ", ".join(untold),
                error.message,
            )
            return untold
    if removed:
        _log.info("the signer knows of %d devices that were removed", len(removed))
    return []
