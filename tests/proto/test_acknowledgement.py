"""Only the controller frees a device's audit records (T17)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from simulators.pki import DAY, NOW, Pki
from sprat_controller.fleet.ca import KeyPair
from sprat_proto import acknowledgement
from sprat_proto.acknowledgement import AckRefusedError
from sprat_proto.v1.link_pb2 import AuditAck

PKI, FOREIGN = Pki(), Pki("foreign")
CONTROLLER = PKI.client("controller")
HASH = b"\x07" * 32


def signed(
    by: KeyPair, *, device_id: str = "dev-a", up_to: int = 7, hash_: bytes = HASH
) -> AuditAck:
    return acknowledgement.sign(by.key_pem, by.certificate_pem, device_id, up_to, hash_)


def check(ack: AuditAck, *, root: bytes = PKI.root_pem, after: timedelta = timedelta()) -> None:
    acknowledgement.verify(ack, "dev-a", root, NOW + after)


def test_the_controllers_word_is_believed() -> None:
    check(signed(CONTROLLER))
    check(signed(FOREIGN.client("controller")), root=PKI.root_pem + FOREIGN.root_pem)


def _alter(change: Callable[[AuditAck], object]) -> AuditAck:
    ack = signed(CONTROLLER)
    change(ack)
    return ack


@pytest.mark.parametrize(
    ("ack", "expected"),
    [
        (AuditAck(up_to=7, root=HASH), "found 0"),
        (_alter(lambda ack: setattr(ack, "up_to", 8)), "does not cover"),
        (_alter(lambda ack: setattr(ack, "root", b"\x08" * 32)), "does not cover"),
        (_alter(lambda ack: setattr(ack, "signature", b"")), "does not cover"),
        (_alter(lambda ack: setattr(ack, "signature", b"\xff" * 70)), "does not cover"),
        (_alter(lambda ack: ack.certificates.pop()), "CA root"),
        (_alter(lambda ack: ack.certificates.pop(0)), "CA root"),
        (_alter(lambda ack: ack.certificates.append(b"\x30")), "CA root"),
        (_alter(lambda ack: ack.certificates.extend([b"x"] * 9)), "found 11"),
        (signed(CONTROLLER, device_id="dev-b"), "does not cover"),
        (signed(PKI.client("dev-b")), "certificate of 'controller'"),
        (signed(PKI.client("controller2")), "certificate of 'controller'"),
        (signed(PKI.server()), "EKU"),
        (signed(FOREIGN.client("controller")), "CA root"),
        (signed(PKI.client("controller", ends=NOW - timedelta(hours=1))), "CA root"),
    ],
)
def test_t17_what_anybody_else_says_frees_nothing(ack: AuditAck, expected: str) -> None:
    with pytest.raises(AckRefusedError, match=expected):
        check(ack)


def test_a_certificate_counts_while_it_is_in_date() -> None:
    check(signed(CONTROLLER), after=6 * DAY)
    with pytest.raises(AckRefusedError, match="CA root"):
        check(signed(CONTROLLER), after=8 * DAY)
