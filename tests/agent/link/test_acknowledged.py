"""A hostile carrier knows every record and every root, and still frees nothing (T17)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest
from simulators.pki import NOW, Pki
from simulators.sealed import journal_of, root_of
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
        self.journal = journal_of(self.state, lambda: NOW)
        self.ca_path = folder / "ca.pem"
        self.ca_path.write_bytes(PKI.root_pem)
        self.flow = AuditFlow(self.journal, "dev-a", checked_by(self.ca_path, "dev-a", lambda: NOW))
        for number in range(RECORDS):
            self.journal.append("agent:test:written", "test", {"number": number})
        batch = self.flow.due(0.0)
        assert batch is not None
        self.roots = [root_of(batch.records[:n]) for n in range(1, RECORDS + 1)]

    def kept(self) -> int:
        return len(self.journal.batch(100, 1 << 20))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.state.close()


def signed(by: KeyPair, root: bytes, device_id: str = "dev-a", up_to: int = RECORDS) -> AuditAck:
    return acknowledgement.sign(by.key_pem, by.certificate_pem, device_id, up_to, root)


def replayed(root: bytes) -> AuditAck:
    ack = signed(PKI.client("controller"), root, up_to=1)
    ack.up_to = RECORDS
    return ack


FORGERIES: Final[dict[str, Callable[[bytes], AuditAck]]] = {
    "unsigned": lambda root: AuditAck(up_to=RECORDS, root=root),
    "a server's": lambda root: signed(PKI.server("controller"), root),
    "another device's": lambda root: signed(PKI.client("dev-b"), root),
    "of another CA": lambda root: signed(Pki("broker's own").client("controller"), root),
    "for another device": lambda root: signed(PKI.client("controller"), root, device_id="dev-b"),
    "out of date": lambda root: signed(PKI.client("controller", ends=NOW - HOUR), root),
    "another position's": replayed,
}


@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES)
def test_t17_a_forged_acknowledgement_deletes_no_record(
    bench: Bench, forge: Callable[[bytes], AuditAck], caplog: pytest.LogCaptureFixture
) -> None:
    bench.flow.acknowledged(forge(bench.roots[-1]), 1.0)
    assert bench.kept() == RECORDS
    assert f"an acknowledgement of audit up to {RECORDS} frees nothing: expected" in caplog.text


def test_t17_a_forged_difference_does_not_stop_the_upload(bench: Bench) -> None:
    bench.flow.acknowledged(AuditAck(up_to=RECORDS, root=b"\xff" * 32), 1.0)
    assert bench.flow.due(100.0) is not None
    assert bench.kept() == RECORDS


def test_the_controllers_word_frees_what_it_names(bench: Bench) -> None:
    controller = PKI.client("controller")
    bench.flow.acknowledged(signed(controller, bench.roots[1], up_to=2), 1.0)
    assert bench.kept() == RECORDS - 2
    bench.flow.acknowledged(signed(controller, bench.roots[-1]), 2.0)
    assert bench.kept() == 0


def test_without_a_root_nobody_is_believed(bench: Bench) -> None:
    bench.ca_path.unlink()
    bench.flow.acknowledged(signed(PKI.client("controller"), bench.roots[-1]), 1.0)
    assert bench.kept() == RECORDS
