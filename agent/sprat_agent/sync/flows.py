"""What must arrive whatever the carrier does: sent in order, and again until acknowledged.

Each flow lives as long as a connection; on the next one everything that is not acknowledged is
sent anew. `now` is in seconds of any clock that never goes back.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Final

from sprat_proto.acknowledgement import AckRefusedError
from sprat_proto.audit_events import Tag
from sprat_proto.v1 import link_pb2
from sprat_proto.v1.link_pb2 import AuditAck, AuditBatch, Report

from sprat_agent.audit.journal import Journal
from sprat_agent.sync.outbox import Outbox

_LOG = logging.getLogger(__name__)

WINDOW: Final = 32  # reports under way at once
MAX_BATCH_RECORDS: Final = 100
MAX_BATCH_BYTES: Final = 200_000
_FIRST_RETRANSMIT_S: Final = 5.0
_LONGEST_RETRANSMIT_S: Final = 60.0


class Retransmission:
    """When to send again what is under way: later and later while nothing is acknowledged."""

    def __init__(self) -> None:
        self.at = math.inf
        self._interval_s = _FIRST_RETRANSMIT_S

    def sent(self, now: float) -> None:
        """Something is under way since now, at the latest."""
        self.at = min(self.at, now + self._interval_s)

    def is_due(self, now: float) -> bool:
        """Tell whether what is under way is to be sent again; if so, begin a longer interval."""
        if now < self.at:
            return False
        self.at = math.inf
        self._interval_s = min(2 * self._interval_s, _LONGEST_RETRANSMIT_S)
        return True

    def acknowledged(self, now: float, *, more_under_way: bool) -> None:
        """Something arrived."""
        self._interval_s = _FIRST_RETRANSMIT_S
        self.at = now + self._interval_s if more_under_way else math.inf


class ReportFlow:
    """Sends reports, a window of them at once."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._sent_up_to = 0
        self._again = Retransmission()

    @property
    def next_due(self) -> float:
        """When `due` has something without being woken."""
        return self._again.at

    def due(self, now: float) -> list[Report]:
        """Return the reports to send now."""
        if self._again.is_due(now):
            self._sent_up_to = 0
        under_way = max(0, self._sent_up_to + 1 - self._outbox.oldest_unacknowledged())
        reports = self._outbox.pending(self._sent_up_to, WINDOW - under_way)
        if reports:
            self._sent_up_to = reports[-1].seq
            self._again.sent(now)
        return reports

    def acknowledged(self, up_to: int, now: float) -> None:
        """Take an acknowledgement; repeated ones change nothing."""
        if up_to < self._outbox.oldest_unacknowledged():
            return
        if up_to > self._outbox.last_seq():
            _LOG.warning(
                "the controller acknowledges report %d and this device wrote %d so far: ignored",
                up_to,
                self._outbox.last_seq(),
            )
            return
        self._outbox.acknowledge(up_to)
        self._again.acknowledged(now, more_under_way=self._sent_up_to > up_to)


class AuditFlow:
    """Sends audit records, one batch at a time, and compares the two ends of the log."""

    def __init__(self, journal: Journal, device_id: str, check: Callable[[AuditAck], None]) -> None:
        """Bring over what is in the journal.

        Args:
            journal: The records.
            device_id: Whose they are.
            check: Raises AckRefusedError for an acknowledgement that is not the controller's word.
        """
        self._journal = journal
        self._check = check
        self._device_id = device_id
        self._under_way = 0  # position of the last record of the batch under way
        self._again = Retransmission()
        self._has_diverged = False

    @property
    def next_due(self) -> float:
        """When `due` has something without being woken."""
        return self._again.at

    def due(self, now: float) -> AuditBatch | None:
        """Return the batch to send now."""
        if self._has_diverged:
            return None
        if self._under_way and not self._again.is_due(now):
            return None
        records = self._journal.batch(MAX_BATCH_RECORDS, MAX_BATCH_BYTES)
        if not records:
            self._under_way = 0
            return None
        self._under_way = records[-1].seq
        self._again.sent(now)
        return AuditBatch(
            records=[
                link_pb2.AuditRecord(seq=one.seq, body=one.body, seal=one.seal) for one in records
            ],
            checkpoint=self._journal.checkpoint(self._under_way),
        )

    def acknowledged(self, ack: AuditAck, now: float) -> None:
        """Take an acknowledgement; repeated ones and those of anybody else change nothing.

        If the controller's root at a position is not ours, nothing more is sent while the agent
        runs: the records stay here as evidence.
        """
        up_to = ack.up_to
        if self._has_diverged or up_to < self._journal.oldest_unacknowledged():
            return
        try:
            self._check(ack)
        except AckRefusedError as error:
            _LOG.warning("an acknowledgement of audit up to %d frees nothing: %s", up_to, error)
            return
        ours = self._journal.root_at(up_to)
        if ours != ack.root:
            self._diverge(up_to, ours, ack.root)
            return
        self._journal.acknowledge(up_to)
        more = self._under_way > up_to
        self._under_way = self._under_way if more else 0
        self._again.acknowledged(now, more_under_way=more)

    def _diverge(self, up_to: int, ours: bytes | None, theirs: bytes) -> None:
        self._has_diverged = True
        self._again = Retransmission()
        expected = ours.hex() if ours else "no such position"
        _LOG.error(
            "the controller's audit of this device differs at %d: expected %s, found %s; no more is"
            " uploaded and nothing is removed until the agent is restarted",
            up_to,
            expected,
            theirs.hex(),
        )
        self._journal.append(
            Tag.AUDIT_DIVERGED,
            f"device/{self._device_id}",
            {"seq": up_to, "expected": expected, "found": theirs.hex()},
        )
