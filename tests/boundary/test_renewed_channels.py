"""A renewed certificate takes a new channel, and the old one leaves nothing behind."""

from __future__ import annotations

import gc
from pathlib import Path

from simulators.link_ends import GrpcEnd, admit, carrier_for, enrolled
from simulators.pki import Pki
from simulators.receiver import RecordingReceiver
from sprat_proto.v1.link_pb2 import DeviceMessage

RENEWALS = 50


def open_files() -> int:
    """Count the descriptors of this process, sockets too."""
    gc.collect()
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def test_fifty_renewals_leave_no_channel_open(tmp_path: Path) -> None:
    receiver = RecordingReceiver()
    end = GrpcEnd(Pki(), receiver)
    await end.start()
    try:
        identity = enrolled("a", tmp_path / "a", end.authority, end.address)
        carrier = carrier_for("grpc", identity)
        counts: list[int] = []
        for number in range(RENEWALS):
            renewed = end.authority.client("a")
            identity.tls_path.write_bytes(renewed.key_pem + renewed.certificate_pem)
            admit(receiver, identity)  # and no key of before
            async with carrier.connect() as connection:
                await connection.send(DeviceMessage(boot_id=f"{number}"))
                await receiver.until(lambda number=number: f"{number}" in receiver.boots("a"))
            counts.append(open_files())
        # Both ends live in this process; what the first few connections open for good is there.
        assert max(counts[-10:]) <= max(counts[:10])
    finally:
        await end.stop()
