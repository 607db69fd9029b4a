"""The controller's signed word that it keeps a device's audit."""

from __future__ import annotations

from sprat_proto import acknowledgement
from sprat_proto.v1.link_pb2 import ControllerMessage

from sprat_controller.fleet.ca import KeyPair


class Acknowledger:
    """Signs with the key of the controller's own client certificate; may be used by any thread."""

    def __init__(self, client: KeyPair) -> None:
        """Sign under `client`: its certificate with the chain up to the root, and its key."""
        self._client = client

    def audit_ack(self, device_id: str, seq: int, root: bytes) -> ControllerMessage:
        """Return the acknowledgement of a device's audit up to a position, with the root there."""
        ack = acknowledgement.sign(
            self._client.key_pem,
            self._client.certificate_pem,
            device_id,
            seq,
            root,
        )
        return ControllerMessage(audit_ack=ack)
