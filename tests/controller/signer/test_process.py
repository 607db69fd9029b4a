"""The signer over its socket: hostile frames, kill -9, who may ask."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Generator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulators.device_keys import csr_of, new_key
from simulators.signer_folder import SignerMade
from simulators.signing_desk import Desk, assigned, targets
from sprat_controller.signer import wire
from sprat_controller.signer.client import SignerClient
from sprat_controller.signer.folder import IMAGE, SignerFolder
from sprat_controller.signer.port import (
    CertificateRequest,
    SignerRefusedError,
    SignerUnavailableError,
)
from sprat_controller.signer.server import SignerServer

PASSPHRASE = b"of a test"


@pytest.fixture
def folder(tmp_path: Path) -> SignerFolder:
    """A signer's folder as `init` makes it."""
    return SignerMade(tmp_path).folder


class Process:
    """`sprat-signer run` in a folder."""

    def __init__(self, folder: SignerFolder) -> None:
        self.folder = folder

    def start(self) -> None:
        self.folder.socket.unlink(missing_ok=True)
        self.running = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "sprat_controller.signer.main",
                "run",
                "--data",
                self.folder.path,
            ],
            stderr=subprocess.PIPE,
        )
        while not self.folder.socket.exists():
            assert self.running.poll() is None, self.running.communicate()

    def end(self, how: signal.Signals) -> int:
        self.running.send_signal(how)
        self.running.communicate()
        return self.running.returncode


@pytest.fixture
def process(folder: SignerFolder) -> Generator[Process]:
    made = Process(folder)
    made.start()
    yield made
    if made.running.poll() is None:
        made.end(signal.SIGKILL)


def test_every_verb_crosses_the_socket(process: Process) -> None:
    client = SignerClient(process.folder.socket)
    first = client.issue_plan(assigned(), targets(assigned()))
    assert client.issue_plan(assigned(), targets(assigned())).version > first.version
    assert client.sign_timestamp({"targets": 1}).snapshot_version == 1
    csr = csr_of(new_key()).encode()
    issued = client.issue_certificate(CertificateRequest("device", "gw-1", csr))
    client.revoke("gw-1", [issued.serial])
    assert b"X509 CRL" in client.revocation_list()
    with pytest.raises(SignerRefusedError, match="gw-1 was revoked"):
        client.issue_plan(assigned(), targets(assigned()))
    client.close()
    assert process.end(signal.SIGTERM) == 0
    assert not process.folder.socket.exists()


def test_killed_at_any_time_versions_only_rise_and_the_client_goes_on(process: Process) -> None:
    client = SignerClient(process.folder.socket)
    versions: list[int] = []
    for _ in range(3):
        versions += [client.issue_plan(assigned(), targets(assigned())).version for _ in range(5)]
        process.end(signal.SIGKILL)
        with pytest.raises(SignerUnavailableError, match="see that it runs"):
            client.issue_plan(assigned(), targets(assigned()))
        process.start()
    assert versions == sorted(set(versions))
    client.close()


def test_many_threads_ask_one_client(process: Process) -> None:
    client = SignerClient(process.folder.socket)
    found: list[int] = []

    def ask(number: int) -> None:
        wanted = assigned(device_id=f"gw-{number}")
        found.extend(client.issue_plan(wanted, targets(wanted)).version for _ in range(20))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(16)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    client.close()
    assert len(found) == 16 * 20


@pytest.fixture
def served(tmp_path: Path) -> Generator[Path]:
    """A signer of this process behind a socket."""
    path = tmp_path / "s.sock"
    server = SignerServer(Desk(tmp_path).core, path, frozenset({os.geteuid()}))
    server.bind()
    thread = threading.Thread(target=server.serve)
    thread.start()
    yield path
    server.stop()
    thread.join()


def raw(path: Path, data: bytes) -> bytes:
    """Send bytes and return what comes back until the other side is silent or gone."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5)
        connection.connect(str(path))
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        found: list[bytes] = []
        # Hung up on with bytes unread is a reset: as good as an end.
        with contextlib.suppress(ConnectionResetError):
            found.extend(iter(lambda: connection.recv(65536), b""))
        return b"".join(found)


@pytest.mark.parametrize(
    "data",
    [b"", b"\0", struct.pack(">I", 1 << 31), struct.pack(">I", 100) + b"short", b"\xff" * 5000],
)
def test_what_is_no_frame_ends_that_connection_only(served: Path, data: bytes) -> None:
    assert raw(served, data) == b""
    client = SignerClient(served)
    client.issue_plan(assigned(), targets(assigned()))
    client.close()


def test_a_frame_that_is_no_request_is_answered(served: Path) -> None:
    body = msgspec.msgpack.encode({"type": "GiveMeTheKeys"})
    answer = raw(served, struct.pack(">I", len(body)) + body)
    failed = wire.decode_answer(answer[4:])
    assert isinstance(failed, wire.Failed)
    assert failed.code == "bad_request"
    assert failed.is_refusal


def test_another_user_is_hung_up_on(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    server = SignerServer(Desk(tmp_path).core, path, frozenset({os.geteuid() + 1}))
    server.bind()
    thread = threading.Thread(target=server.serve)
    thread.start()
    client = SignerClient(path)
    with pytest.raises(SignerUnavailableError):
        client.revocation_list()
    server.stop()
    thread.join()


def test_the_socket_is_not_for_everybody(served: Path) -> None:
    assert served.stat().st_mode & 0o777 == 0o660


@given(st.binary(max_size=200))
def test_no_bytes_make_the_reader_fall(body: bytes) -> None:
    for decode in (wire.decode_request, wire.decode_answer):
        try:
            decode(body)
        except wire.FrameError as error:
            assert str(error)  # noqa: PT017 - either outcome is fine, no other is


@pytest.mark.parametrize("missing", ["passphrase", "director-online.pem", "signer.json"])
def test_what_is_missing_is_said_in_one_sentence(folder: SignerFolder, missing: str) -> None:
    (folder.path / missing).unlink()
    ended = subprocess.run(
        [sys.executable, "-m", "sprat_controller.signer.main", "run", "--data", folder.path],
        check=False,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith("sprat-signer: ")
    assert ended.stderr.count("\n") == 1
    assert "Traceback" not in ended.stderr


def test_a_key_that_others_may_read_is_not_used(folder: SignerFolder) -> None:
    folder.key_file(IMAGE).chmod(0o644)
    ended = subprocess.run(
        [sys.executable, "-m", "sprat_controller.signer.main", "run", "--data", folder.path],
        check=False,
        capture_output=True,
        text=True,
    )
    assert "run `chmod 600" in ended.stderr


def test_a_signer_outlives_nobody_who_started_it(folder: SignerFolder) -> None:
    command = [sys.executable, "-m", "sprat_controller.signer.main", "run", "--child"]
    arguments = [*command, "--data", folder.path]
    child = subprocess.Popen(arguments, stdin=subprocess.PIPE)
    while not folder.socket.exists():
        assert child.poll() is None
    other = subprocess.Popen(arguments, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    _, said = other.communicate()
    assert other.returncode == 1
    assert "another signer is using" in said
    # A controller that was killed leaves no word, only the end of its pipe.
    assert child.stdin is not None
    child.stdin.close()
    assert child.wait() == 0
    assert not folder.socket.exists()


def test_a_socket_may_be_in_a_deep_folder(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)
    server = SignerServer(Desk(tmp_path).core, deep / "s.sock", frozenset({os.geteuid()}))
    server.bind()
    thread = threading.Thread(target=server.serve)
    thread.start()
    client = SignerClient(deep / "s.sock")
    client.issue_plan(assigned(), targets(assigned()))
    client.close()
    server.stop()
    thread.join()
