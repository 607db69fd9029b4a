"""Writing down who was turned away, without letting a stranger fill the disk.

Each refusal is a record, at most `PER_MINUTE` of them a minute; what is beyond that is counted, and
the count stands in the next record.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from sprat_proto.audit_events import Tag

from sprat_controller.audit import log
from sprat_controller.store.session import Database

PER_MINUTE: Final = 120
_WINDOW: Final = timedelta(minutes=1)


class Denials:
    """Records refusals, each in a transaction of its own; may be used by many threads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._window_began: datetime | None = None
        self._in_window = 0
        self._unrecorded = 0

    def record(
        self, tag: Tag, *, at: datetime, actor: str, subject: str, detail: Mapping[str, object]
    ) -> None:
        """Write one refusal down, or count it."""
        with self._lock:
            if not self._has_room(at):
                self._unrecorded += 1
                return
            missed, self._unrecorded = self._unrecorded, 0
        shown = dict(detail) | ({"unrecorded_before": missed} if missed else {})
        try:
            with self._database.transaction() as session:
                log.append(
                    session,
                    tag,
                    at=at,
                    actor=actor,
                    subject=subject,
                    outcome="denied",
                    reason=str(detail["code"]) if "code" in detail else None,
                    detail=shown,
                )
        except BaseException:
            with self._lock:  # neither this one nor those before it are written down
                self._unrecorded += missed + 1
            raise

    def _has_room(self, at: datetime) -> bool:
        # A clock that was set back begins a minute, too.
        if self._window_began is None or not timedelta() <= at - self._window_began < _WINDOW:
            self._window_began, self._in_window = at, 0
        self._in_window += 1
        return self._in_window <= PER_MINUTE
