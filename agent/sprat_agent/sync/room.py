"""Whether this device has room for the records of a rollout: without it none begins.

What is done here is to be proved, so what cannot be recorded is not done: a rollout that would
begin is refused while as many records wait for the controller as may, or while the disk is so full
that the audit log lives on its reserve. What is under way goes on to its end, which takes few
records; the way back to a release that was proved here is always open; applications are answered.
"""

from __future__ import annotations

from sprat_proto.amounts import most
from sprat_proto.states import ReasonCode

from sprat_agent.audit.journal import Journal
from sprat_agent.sync.ledger import Ledger
from sprat_agent.sync.plan import Execution
from sprat_agent.sync.ports import RejectedError


class Recording:
    """Asks the journal before anything of a rollout is fetched."""

    def __init__(self, journal: Journal, ledger: Ledger) -> None:
        self._journal = journal
        self._ledger = ledger

    def check(self, execution: Execution) -> None:
        """Refuse an execution that begins, if what it does could not be recorded.

        Raises:
            RejectedError: AUDIT_FULL, INSUFFICIENT_DISK.
        """
        wanted = execution.wanted
        if wanted.times.is_way_back and self._ledger.was_proved(wanted.digest):
            return
        fill, room = self._journal.fill(), self._journal.room
        if fill.is_full:
            raise RejectedError(
                ReasonCode.AUDIT_FULL,
                f"{wanted.name} is not begun: {most(fill.kept_bytes)} of audit records wait on this"
                f" device for its controller, and at most {most(room.full_bytes)} may: have it"
                " connect, and roll out again",
                expected=f"at most {room.free_bytes} bytes of records",
                found=f"{fill.kept_bytes} bytes",
            )
        if fill.is_short and room.reserve:
            raise RejectedError(
                ReasonCode.INSUFFICIENT_DISK,
                f"{wanted.name} is not begun: the disk of this device is full, and its audit log"
                " lives on the space that is reserved for it: free some space and roll out again",
                expected=f"{room.reserve.size_bytes} bytes in reserve",
                found=f"{room.reserve.held_bytes} bytes, and {room.reserve.free_bytes()} free",
            )
