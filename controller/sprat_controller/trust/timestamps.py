"""Keeping the image repository's timestamp young: devices take nothing new from an old one.

To be called daily, and may be called more often. What cannot be renewed is an alarm long before it
is an outage: a timestamp is good for seven days.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import Final

from sprat_proto.audit_events import Tag

# The names below are the library's documented API; it re-exports them without saying so.
# pyright: reportPrivateImportUsage=false
from sprat_proto.trust import IMAGE
from tuf.api.metadata import Timestamp

from sprat_controller.audit import log
from sprat_controller.errors import RefusedError
from sprat_controller.signer.port import Signer, SignerError
from sprat_controller.store.session import Database
from sprat_controller.trust import repository
from sprat_controller.trust.checks import Change
from sprat_controller.trust.folder import TIMESTAMP, Metadata
from sprat_controller.trust.words import read, until

RENEW_BEFORE: Final = timedelta(days=6)
# To look costs reading all metadata; after a failure an alarm is written down each time.
LOOK_EVERY: Final = timedelta(hours=1)
RETRY_AFTER: Final = timedelta(minutes=10)
_logger: Final = logging.getLogger(__name__)


class TimestampJob:
    """Has the timestamp renewed when it is due; may be asked at any rate, by one thread."""

    def __init__(self, database: Database, signer: Signer) -> None:
        self._database = database
        self._signer = signer
        self._looked: datetime | None = None
        self._pause = RETRY_AFTER

    def look(self, now: datetime) -> None:
        """Renew what is due, if it was not looked at lately."""
        # A clock that was set back makes it due, too.
        if self._looked is not None and timedelta() <= now - self._looked < self._pause:
            return
        self._looked, self._pause = now, RETRY_AFTER
        if renew_due(self._database, self._signer, now):
            self._pause = LOOK_EVERY


def ends_at(metadata: Metadata) -> datetime | None:
    """Return when the timestamp expires; None if there is none."""
    data = metadata.files.get(TIMESTAMP)
    return read(data, Timestamp, TIMESTAMP).signed.expires if data else None


def renew_due(database: Database, signer: Signer, now: datetime) -> bool:
    """Sign the timestamp anew if it is a day old; return False if that was due and failed.

    A failure is written down in the audit log and in the log.
    """
    with database.reading() as session:
        ends = ends_at(repository.current(session, IMAGE))
    if ends is None or ends - now > RENEW_BEFORE:
        return True
    try:
        with database.transaction() as session:
            current = repository.current(session, IMAGE)
            online = repository.sign_online(signer, current)
            repository.show_to_client(Change(current, {}), online, now)
            repository.keep_online(session, online)
            log.append(
                session,
                Tag.TIMESTAMP_RENEWED,
                at=now,
                actor="controller",
                subject=f"trust/{IMAGE}",
                before=ends.isoformat(),
                after=(ends_at(repository.current(session, IMAGE)) or ends).isoformat(),
                detail={"files": sorted(online)},
            )
    except (SignerError, RefusedError) as error:
        _logger.error(  # noqa: TRY400 - the sentence says all, a traceback would hide it
            "the timestamp of the image repository ends on %s and was not renewed: %s",
            until(ends),
            error.message,
        )
        with database.transaction() as session:
            log.append(
                session,
                Tag.TIMESTAMP_LATE,
                at=now,
                actor="controller",
                subject=f"trust/{IMAGE}",
                outcome="failure",
                reason=error.code,
                detail={"code": error.code, "message": error.message, "ends": ends.isoformat()},
            )
        return False
    return True
