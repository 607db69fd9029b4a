"""The managed broker: found or asked for, started or explained, ended."""

# To leave a broker as a killed controller does, its watching must end without its `stop`.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import os
import signal
import socket
import stat
from pathlib import Path

import pytest
from processes import lasting_port
from simulators.pki import NOW, Pki
from simulators.waiting import until
from sprat_controller.errors import StartupError
from sprat_controller.fleet.ca import KeyPair
from sprat_controller.link import broker as broker_module
from sprat_controller.link.broker import ManagedBroker, find_mosquitto

# paho forgets to close the socket of a failed connection; it is closed when it is collected.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <socket.socket:pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture(scope="module")
def authority() -> Pki:
    return Pki()


def broker(
    authority: Pki, folder: Path, port: int = 0, server: KeyPair | None = None
) -> ManagedBroker:
    return ManagedBroker(
        folder,
        ca_pem=authority.ca_pem,
        revocations=authority.revocation_list(),
        server=server or authority.server(),
        port=port,
    )


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def test_it_listens_once_started_and_is_gone_once_stopped(
    authority: Pki, tmp_path: Path
) -> None:
    managed = broker(authority, tmp_path / "broker")
    port = await managed.start()
    try:
        assert listens(port)
    finally:
        await managed.stop()
    assert not listens(port)


async def test_its_files_are_for_its_owner_only(authority: Pki, tmp_path: Path) -> None:
    folder = tmp_path / "broker"
    managed = broker(authority, folder)
    await managed.start()
    try:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        files = [one for one in folder.iterdir() if one.suffix in (".pem", ".txt", ".conf")]
        assert {stat.S_IMODE(one.stat().st_mode) for one in files} == {0o600}
        assert {"key.pem", "revoked.pem", "access.txt"} <= {one.name for one in files}
        # Where sessions are ended: only who enters the folder comes near it.
        assert stat.S_ISSOCK((folder / "end.sock").stat().st_mode)
    finally:
        await managed.stop()


async def test_what_a_killed_controller_left_behind_is_ended_first(
    authority: Pki, tmp_path: Path
) -> None:
    port = lasting_port()
    left = broker(authority, tmp_path / "broker", port)
    await left.start()
    left_pid = left.pid
    # Its controller is gone: nobody watches it, nobody will stop it.
    assert left._watching is not None
    left._watching.cancel()
    managed = broker(authority, tmp_path / "broker", port)
    try:
        assert await managed.start() == port
        assert managed.pid != left_pid
    finally:
        await managed.stop()
        await left.stop()


async def test_a_process_that_only_has_the_number_is_left_alone(
    authority: Pki, tmp_path: Path
) -> None:
    folder = tmp_path / "broker"
    folder.mkdir()
    (folder / "mosquitto.pid").write_text(str(os.getpid()))
    managed = broker(authority, folder)
    ended: list[int] = []

    def note(number: int, _frame: object) -> None:
        ended.append(number)

    handler = signal.signal(signal.SIGTERM, note)
    try:
        await managed.start()
        await managed.stop()
    finally:
        signal.signal(signal.SIGTERM, handler)
    assert ended == []


async def test_a_port_that_is_taken_is_said_to_be(authority: Pki, tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(StartupError, match=f"cannot listen on 127.0.0.1:{port}"):
            await broker(authority, tmp_path / "broker", port).start()


async def test_a_broker_that_does_not_start_is_quoted(authority: Pki, tmp_path: Path) -> None:
    damaged = KeyPair(b"no certificate", b"no key")
    managed = broker(authority, tmp_path / "broker", server=damaged)
    with pytest.raises(StartupError, match=r"did not start .*certificate.pem"):
        await managed.start()
    assert managed.pid is None


def test_a_missing_program_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr(broker_module, "_MORE_PATH", "/nonexistent")
    with pytest.raises(StartupError, match="apt-get install mosquitto"):
        find_mosquitto()


async def test_a_broker_that_does_not_answer_is_ended_with_all_its_sessions(
    authority: Pki, tmp_path: Path
) -> None:
    managed = broker(authority, tmp_path / "broker")
    port = await managed.start()
    first = managed.pid
    try:
        (tmp_path / "broker" / "end.sock").unlink()
        await managed.end_session("dev-a")
        await until(lambda: managed.pid != first and listens(port))
    finally:
        await managed.stop()


async def test_a_broker_that_was_stopped_keeps_what_it_is_told_for_its_next_start(
    authority: Pki, tmp_path: Path
) -> None:
    managed = broker(authority, tmp_path / "broker")
    await managed.start()
    await managed.stop()
    revoked = authority.revocation_list(NOW)
    await managed.revoke(revoked)
    await managed.cut_off("dev-a")
    await managed.start()
    try:
        assert (tmp_path / "broker" / "revoked.pem").read_bytes() == revoked
        assert "user dev-a\ntopic deny #" in (tmp_path / "broker" / "access.txt").read_text()
    finally:
        await managed.stop()
