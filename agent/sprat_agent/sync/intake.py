"""Taking in an assignment: only what the controller signed for this device, and only forward."""

from __future__ import annotations

import logging
from typing import Final

from sprat_proto import assignment as assignments
from sprat_proto import canonical
from sprat_proto.assignment import Assignment
from sprat_proto.canonical import NotCanonicalError
from sprat_proto.signing import SignatureRefusedError, TrustedKey, verify

from sprat_agent.audit.journal import Journal
from sprat_agent.sync.ledger import Ledger

_LOG = logging.getLogger(__name__)

REFUSED: Final = "agent:assignment:refused"


class _RefusedError(Exception):
    def __init__(self, code: str, expected: str, found: str) -> None:
        super().__init__(f"expected {expected}, found {found}")
        self.code = code
        self.expected = expected
        self.found = found


class Intake:
    """Checks assignments and keeps the newest."""

    def __init__(self, device_id: str, key: TrustedKey, ledger: Ledger, journal: Journal) -> None:
        self._device_id = device_id
        self._key = key
        self._ledger = ledger
        self._journal = journal
        self._last_refused = ""

    def take(self, envelope: bytes) -> bool:
        """Keep the assignment if it is good and newer than what is kept; tell whether it was.

        A repeated or older one is nothing to speak of: carriers repeat and reorder. What is not
        signed for this device is refused and audited, once while it is repeated.
        """
        try:
            assignment = self._checked(envelope)
        except _RefusedError as error:
            self._refuse(envelope, error)
            return False
        if assignment.version <= self._ledger.assignment_version():
            return False
        self._ledger.keep_assignment(assignment, envelope)
        _LOG.info("assignment %d accepted", assignment.version)
        return True

    def _checked(self, envelope: bytes) -> Assignment:
        try:
            payload = verify(envelope, assignments.PAYLOAD_TYPE, [self._key]).payload
            assignment = assignments.decode(payload)
        except SignatureRefusedError as error:
            raise _RefusedError(error.code, error.expected, error.found) from error
        except NotCanonicalError as error:
            raise _RefusedError("ASSIGNMENT_INVALID", "an assignment", str(error)) from error
        if assignment.device_id != self._device_id:
            raise _RefusedError(
                "OTHER_DEVICE", f"device {self._device_id}", f"device {assignment.device_id}"
            )
        aliases = [one.alias for one in assignment.models]
        ids = [one.execution_id for one in assignment.models]
        if len(set(aliases)) < len(aliases) or len(set(ids)) < len(ids):
            raise _RefusedError(
                "ASSIGNMENT_INVALID", "each alias and execution once", f"{aliases}, {ids}"
            )
        return assignment

    def _refuse(self, envelope: bytes, error: _RefusedError) -> None:
        sha256 = canonical.sha256_hex(envelope)
        if sha256 == self._last_refused:
            return
        self._last_refused = sha256
        _LOG.warning("an assignment is refused: %s", error)
        self._journal.append(
            REFUSED,
            f"device/{self._device_id}",
            {
                "code": str(error.code),
                "expected": error.expected,
                "found": error.found,
                "sha256": sha256,
            },
        )
