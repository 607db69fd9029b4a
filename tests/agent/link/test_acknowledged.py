"""A hostile carrier knows every record and every hash, and still frees nothing (T17)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest
from simulators.pki import NOW, Pki
from sprat_agent.audit.journal import Journal
from sprat_agent.link.acknowledged import checked_by
from sprat_agent.state import State
from sprat_agent.sync.flows import AuditFlow
from sprat_controller.fleet.ca import KeyPair
from sprat_proto import acknowledgement
from sprat_proto.v1.link_pb2 import AuditAck

PKI = Pki()
RECORDS = 5
HOUR = timedelta(hours=1)


class Bench:
    """A device with some audit under way."""

    def __init__(self, folder: Path) -> None:
        self.state = State(folder)
        self.journal = Journal(self.state, lambda: NOW)
        self.ca_path = folder / "ca.pem"
        self.ca_path.write_bytes(PKI.root_pem)
        self.flow = AuditFlow(self.journal, "dev-a", checked_by(self.ca_path, "dev-a", lambda: NOW))
        for number in range(RECORDS):
            self.journal.append("agent:test:written", "test", {"number": number})
        batch = self.flow.due(0.0)
        assert batch is not None
        self.hashes = [record.hash for record in batch.records]

    def kept(self) -> int:
        return len(self.journal.batch(100, 1 << 20))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.state.close()


def signed(by: KeyPair, hash_: bytes, device_id: str = "dev-a", up_to: int = RECORDS) -> AuditAck:
    return acknowledgement.sign(by.key_pem, by.certificate_pem, device_id, up_to, hash_)


def replayed(hash_: bytes) -> AuditAck:
    ack = signed(PKI.client("controller"), hash_, up_to=1)
    ack.up_to = RECORDS
    return ack


FORGERIES: Final[dict[str, Callable[[bytes], AuditAck]]] = {
    "unsigned": lambda hash_: AuditAck(up_to=RECORDS, hash=hash_),
    "a server's": lambda hash_: signed(PKI.server("controller"), hash_),
    "another device's": lambda hash_: signed(PKI.client("dev-b"), hash_),
    "of another CA": lambda hash_: signed(Pki("broker's own").client("controller"), hash_),
    "for another device": lambda hash_: signed(PKI.client("controller"), hash_, device_id="dev-b"),
    "out of date": lambda hash_: signed(PKI.client("controller", ends=NOW - HOUR), hash_),
    "another position's": replayed,
}


@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES)
def test_t17_a_forged_acknowledgement_deletes_no_record(
    bench: Bench, forge: Callable[[bytes], AuditAck], caplog: pytest.LogCaptureFixture
) -> None:
    bench.flow.acknowledged(forge(bench.hashes[-1]), 1.0)
    assert bench.kept() == RECORDS
    assert f"an acknowledgement of audit up to {RECORDS} frees nothing: expected" in caplog.text


def test_t17_a_forged_difference_does_not_stop_the_upload(bench: Bench) -> None:
    bench.flow.acknowledged(AuditAck(up_to=RECORDS, hash=b"\xff" * 32), 1.0)
    assert bench.flow.due(100.0) is not None
    assert bench.kept() == RECORDS


def test_the_controllers_word_frees_what_it_names(bench: Bench) -> None:
    controller = PKI.client("controller")
    bench.flow.acknowledged(signed(controller, bench.hashes[1], up_to=2), 1.0)
    assert bench.kept() == RECORDS - 2
    bench.flow.acknowledged(signed(controller, bench.hashes[-1]), 2.0)
    assert bench.kept() == 0


def test_without_a_root_nobody_is_believed(bench: Bench) -> None:
    bench.ca_path.unlink()
    bench.flow.acknowledged(signed(PKI.client("controller"), bench.hashes[-1]), 1.0)
    assert bench.kept() == RECORDS
