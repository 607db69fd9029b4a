"""Sending the log on to one destination, in a thread of its own.

Nothing else waits for it: a receiver that is slow or gone is behind, and the log is as long as it
is. After a failure the same records are sent again, after a pause that doubles; after a quarter of
an hour without success a record says that nobody else sees the log.
"""

from __future__ import annotations

import logging
import threading
from datetime import datetime, timedelta
from typing import Final

from sprat_proto.audit_events import Tag

from sprat_controller.audit import log
from sprat_controller.audit.forwarding.positions import Position, Positions
from sprat_controller.audit.forwarding.senders import Sender, SendError
from sprat_controller.clock import Clock
from sprat_controller.store.session import Database

INTERVAL_S: Final = 1.0
FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 300.0
LATE_AFTER: Final = timedelta(minutes=15)
ALARM_EVERY: Final = timedelta(days=1)
_MAX_DOUBLINGS: Final = 16
_logger = logging.getLogger(__name__)


def pause_after(failures: int) -> float:
    """Return the seconds until the next try, after so many failures in a row, from 1. Pure."""
    doubled = FIRST_PAUSE_S * 2.0 ** min(failures - 1, _MAX_DOUBLINGS)
    return min(doubled, LONGEST_PAUSE_S)


class Forwarder:
    """Sends on from where it was, until it is stopped."""

    def __init__(
        self,
        name: str,
        sender: Sender,
        database: Database,
        owner: str,
        clock: Clock,
        *,
        position: Positions | None = None,
        interval_s: float = INTERVAL_S,
    ) -> None:
        """Prepare.

        Args:
            name: Of the destination.
            sender: Brings records there.
            database: Where the log is.
            owner: This controller; no other one has the name.
            clock: For claims and alarms.
            position: What to send, and how far it is; None: the controller's own log.
            interval_s: How often to look for new records.
        """
        self._name = name
        self._sender = sender
        self._database = database
        self._position = position or Position(database, name, owner)
        self._clock = clock
        self._interval_s = interval_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"forward {name}", daemon=True)
        self._failures = 0
        self._failing_since: datetime | None = None
        self._alarmed: datetime | None = None

    def start(self) -> None:
        """Start sending."""
        self._position.begin()
        self._thread.start()

    def stop(self) -> None:
        """Stop; what is being sent just now is sent again by whoever is next."""
        self._stopping.set()
        self._sender.close()
        self._thread.join()
        self._position.release()

    def step(self) -> bool:
        """Send the next batch; True: there may be more.

        Raises:
            SendError: The receiver does not take it.
        """
        found = self._position.next_records()
        at = self._position.claim(self._clock()) if found else None
        if at is None:
            return False
        records = [record for record in found if record.seq > at]
        if not records:  # another controller sent them in between
            return True
        # What expired before it was sent there is passed over: nothing is left to send.
        bodies = [record.body for record in records if record.body]
        if bodies:
            self._sender.send(bodies)
        return self._position.move(records[-1].seq, self._clock())

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._stopping.wait(self._once())

    def _once(self) -> float:
        """Make one step and return the seconds until the next."""
        try:
            pause = 0.0 if self.step() else self._interval_s
        except SendError as error:
            return max(self._failed(str(error)), error.retry_after_s or 0.0)
        except Exception as error:
            _logger.exception("audit records could not be sent to %s", self._name)
            return self._failed(f"{type(error).__name__}: {error}")
        if self._failures:
            _logger.warning("%s takes audit records again", self._name)
        self._failures, self._failing_since, self._alarmed = 0, None, None
        return pause

    def _failed(self, message: str) -> float:
        if self._stopping.is_set():
            return 0.0
        now = self._clock()
        self._failures += 1
        self._failing_since = self._failing_since or now
        if self._failures == 1:
            _logger.warning("audit records wait for their receiver: %s", message)
        try:
            self._alarm(message, now)
        except Exception:
            _logger.exception("that audit records wait for %s could not be written", self._name)
        return pause_after(self._failures)

    def _alarm(self, message: str, now: datetime) -> None:
        """Say in the log that it is not seen elsewhere, once a day."""
        since = self._failing_since or now
        if now - since < LATE_AFTER:
            return
        if self._alarmed is not None and timedelta() <= now - self._alarmed < ALARM_EVERY:
            return
        with self._database.transaction() as session:
            log.append(
                session,
                Tag.FORWARDING_LATE,
                at=now,
                actor="controller",
                subject=f"forwarding/{self._name}",
                outcome="failure",
                reason="receiver_unreachable",
                detail={"message": message[:500], "since": since.isoformat()},
            )
        self._alarmed = now
