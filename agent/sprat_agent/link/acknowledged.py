"""Whether an acknowledgement is the controller's word: then, and only then, evidence may go."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sprat_proto import acknowledgement
from sprat_proto.acknowledgement import AckRefusedError
from sprat_proto.v1.link_pb2 import AuditAck

from sprat_agent.clock import Clock


def checked_by(ca_path: Path, device_id: str, clock: Clock) -> Callable[[AuditAck], None]:
    """Return what raises AckRefusedError for an acknowledgement that the controller did not sign.

    Args:
        ca_path: The CA root that enrolment pinned, PEM; read each time, for it may be renewed.
        device_id: Who this is.
        clock: Certificates must be in date by it, as they must for a connection to come up.
    """

    def check(ack: AuditAck) -> None:
        try:
            root_pem = ca_path.read_bytes()
        except OSError as error:
            raise AckRefusedError(f"the CA root cannot be read: {error}") from error
        acknowledgement.verify(ack, device_id, root_pem, clock())

    return check
