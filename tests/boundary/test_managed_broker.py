"""The managed broker with the real signer: a device that is removed is cut off everywhere."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from simulators.device_keys import csr_of, new_key
from simulators.link_ends import admit, bare_identity, carrier_for
from simulators.pki import NOW, Pki
from simulators.receiver import TIMEOUT_S, RecordingReceiver
from simulators.signing_desk import Desk
from sprat_agent.identity.identity import Identity
from sprat_agent.link.carrier import LinkLostError, LinkUnavailableError
from sprat_controller.clock import system_clock
from sprat_controller.fleet.ca import KeyPair
from sprat_controller.link.hub import Hub
from sprat_controller.link.managed import managed_broker
from sprat_controller.link.mqtt import MqttCarrier
from sprat_controller.signer.port import CertificateKind, CertificateRequest
from sprat_controller.store.session import Database, sqlite_url
from sprat_proto import acknowledgement
from sprat_proto.acknowledgement import AckRefusedError
from sprat_proto.v1.link_pb2 import DeviceMessage, Hello
from sqlmodel import SQLModel

# paho forgets to close the socket of a failed handshake; it is closed when it is collected.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <ssl.SSLSocket:pytest.PytestUnraisableExceptionWarning"
)


class Bench:
    """A broker, the controller at it, and a signer whose certificates all of them have."""

    def __init__(self, folder: Path) -> None:
        (folder / "signer").mkdir()
        self.folder = folder
        self.desk = Desk(folder / "signer", now=NOW)
        self.hub, self.receiver = Hub(), RecordingReceiver()
        self.address = ""

    @property
    def ca_pem(self) -> bytes:
        return self.desk.root_pem + self.desk.keys.issuer_certificate.public_bytes(Encoding.PEM)

    def enrol(self, name: str) -> Identity:
        identity = bare_identity(name, self.folder / name, self.address)
        identity.folder.mkdir()
        shown = certified(self.desk, "device", name)
        identity.tls_path.write_bytes(shown.key_pem + shown.certificate_pem)
        identity.ca_path.write_bytes(self.desk.root_pem)
        admit(self.receiver, identity)
        return identity

    def remove(self, identity: Identity) -> None:
        """Do what the API does when a device is removed."""
        leaf = x509.load_pem_x509_certificate(identity.tls_path.read_bytes())
        self.desk.core.revoke(identity.device_id, [f"{leaf.serial_number:x}"])
        self.hub.end(identity.device_id, "the device was removed")


def certified(desk: Desk, kind: CertificateKind, name: str) -> KeyPair:
    key = new_key()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    request = CertificateRequest(kind, name, csr_of(key).encode())
    return KeyPair(desk.core.issue_certificate(request).chain_pem, private)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    made = Bench(tmp_path)
    database = Database(sqlite_url(tmp_path / "controller.db"))
    SQLModel.metadata.create_all(database.engine)
    async with managed_broker(
        tmp_path / "broker",
        ca_pem=made.ca_pem,
        server=made.desk.server("127.0.0.1"),
        signer=made.desk.core,
        hub=made.hub,
        clock=system_clock,
        database=database,
        host="127.0.0.1",
        port=0,
    ) as port:
        made.address = f"127.0.0.1:{port}"
        carrier = MqttCarrier(
            made.hub,
            made.receiver,
            host="127.0.0.1",
            port=port,
            client=certified(made.desk, "client", "controller"),
            ca_pem=made.ca_pem,
            group="a-secret",
        )
        running = asyncio.create_task(carrier.run())
        await carrier.connected.wait()
        yield made
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
    database.close()


def said(text: str) -> DeviceMessage:
    return DeviceMessage(boot_id=text, hello=Hello(capability=1))


async def test_a_device_that_is_removed_is_cut_off_and_the_others_stay(bench: Bench) -> None:
    gone, stays = bench.enrol("dev-a"), bench.enrol("dev-b")
    async with (
        carrier_for("mqtt", stays).connect() as other,
        carrier_for("mqtt", gone).connect() as connection,
    ):
        await connection.send(said("before"))
        await bench.receiver.until(lambda: "before" in bench.receiver.boots("dev-a"))
        bench.remove(gone)
        async with asyncio.timeout(TIMEOUT_S):
            with pytest.raises(LinkLostError):
                async for _ in connection:
                    pass
        await other.send(said("unmoved"))
        await bench.receiver.until(lambda: "unmoved" in bench.receiver.boots("dev-b"))
    with pytest.raises(LinkUnavailableError):
        async with carrier_for("mqtt", gone, timeout_s=2).connect():
            pass


def test_the_signers_certificate_makes_an_acknowledgement_that_devices_believe(
    tmp_path: Path,
) -> None:
    desk = Desk(tmp_path, now=NOW)
    controller = certified(desk, "client", "controller")
    ack = acknowledgement.sign(controller.key_pem, controller.certificate_pem, "a", 1, b"h" * 32)
    acknowledgement.verify(ack, "a", desk.root_pem, NOW)
    with pytest.raises(AckRefusedError, match="CA root"):
        acknowledgement.verify(ack, "a", Pki().root_pem, NOW)
