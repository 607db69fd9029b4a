"""`sprat-controller` as a real process: starts, says where it is, stops, and says what is wrong."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
from collections.abc import Generator
from pathlib import Path

import httpx
import pytest
from processes import BIN, Controller, wait_for
from simulators.log_receivers import StreamReceiver
from simulators.view_readers import read_syslog
from sprat_controller.main import main
from sprat_controller.store.session import Database, sqlite_url
from sprat_controller.store.tables import AuditRecord
from sqlmodel import select


@pytest.fixture(scope="module")
def controller(tmp_path_factory: pytest.TempPathFactory) -> Generator[Controller]:
    made = Controller(tmp_path_factory.mktemp("controller"))
    made.init()
    yield made
    made.terminate()


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [BIN / "sprat-controller", *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


def refused(done: subprocess.CompletedProcess[str]) -> str:
    """Return the one sentence."""
    assert done.returncode != 0
    assert done.stderr.startswith("sprat-controller: "), done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    return done.stderr


def test_it_serves_until_it_is_told_to_stop(controller: Controller) -> None:
    ready = controller.start()
    assert ready["mqtt"] is None
    context = ssl.create_default_context(cafile=str(controller.data / "ca.pem"))
    assert httpx.get(f"{ready['api']}/readyz", verify=context).json() == {"status": "ok"}
    # A second one on the same folder, and one on the same port, are told why not.
    assert "another process" in refused(command("run", "--data", controller.data))
    assert controller.terminate() == 0
    assert not controller.ready_file.exists()
    database = Database(sqlite_url(controller.data / "controller.db"))
    with database.reading() as session:
        tags = [record.tag for record in session.exec(select(AuditRecord))]
    database.close()
    assert tags[-2:] == ["controller:process:started", "controller:process:stopped"]


def test_its_audit_log_is_sent_on(tmp_path: Path) -> None:
    receiver = StreamReceiver()
    url = f"syslog+tcp://127.0.0.1:{receiver.port}"
    controller = Controller(tmp_path, "--forward-audit", url)
    controller.init()
    try:
        controller.start()
        (first,) = receiver.take(1)
        assert json.loads(read_syslog(first).message or "")["seq"] == 1
    finally:
        assert controller.terminate() == 0
        receiver.close()


def test_a_killed_one_is_started_again(controller: Controller) -> None:
    controller.start()
    controller.kill()
    first = controller.url
    ready = controller.start()
    assert ready["api"] == first
    assert controller.terminate() == 0


def test_its_secrets_are_its_owners(controller: Controller) -> None:
    for name in ("admin.token", "blob.secret", "settings.json", "signer/signer.json"):
        assert (controller.data / name).stat().st_mode & 0o777 == 0o600, name
    assert controller.data.stat().st_mode & 0o777 == 0o700


def test_init_is_done_once(controller: Controller) -> None:
    before = (controller.data / "admin.token").read_bytes()
    assert "already" in refused(command("init", "--data", controller.data))
    assert (controller.data / "admin.token").read_bytes() == before


@pytest.mark.parametrize("missing", ["admin.token", "blob.secret", "controller.db"])
def test_an_interrupted_init_is_simply_run_again(tmp_path: Path, missing: str) -> None:
    data = tmp_path / "data"
    assert main(["init", "--data", str(data), "--host", "ctl.example"]) == 0
    authority = (data / "ca.pem").read_bytes()
    for name in {"admin.token", missing}:
        (data / name).unlink()
    assert main(["init", "--data", str(data)]) == 0
    assert (data / "ca.pem").read_bytes() == authority
    assert (data / "admin.token").read_text().startswith("sprat_")


def test_a_port_that_is_taken_is_named(controller: Controller) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for flags in (
            ("--api-port", port, "--grpc-port", 0),
            ("--api-port", 0, "--grpc-port", port),
        ):
            sentence = refused_among_log(command("run", "--data", controller.data, *flags))
            assert str(port) in sentence


def refused_among_log(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 1
    assert "Traceback" not in done.stderr, done.stderr
    return done.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("fly",),
        ("init",),
        ("init", "--data", "/proc/nothing"),
        ("init", "--data", "{new}", "--host", "a b"),
        ("run", "--data", "{new}"),
        ("run", "--data", "{new}", "--api-port", "99999"),
        ("run", "--data", "{new}", "--listen", "every where"),
        ("run", "--data", "{new}", "--mqtt", "maybe"),
        ("run", "--data", "{new}", "--heartbeat", "0"),
        ("run", "--data", "{new}", "--forward-audit", "siem.example:514"),
    ],
    ids=lambda arguments: " ".join(arguments) or "nothing",
)
def test_bad_flags_get_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    try:
        status = main([word.replace("{new}", str(tmp_path / "new")) for word in arguments])
    except SystemExit as end:
        status = end.code
    said = capsys.readouterr()
    assert status in (1, 64)
    assert said.out == ""
    assert said.err.startswith("sprat-controller: "), said.err
    assert len(said.err.strip().splitlines()) == 1, said.err


@pytest.mark.parametrize(
    "name", ["ca.pem", "blob.secret", "signer/director-online.pem", "signer/ca-issuer.crt.pem"]
)
def test_a_key_that_is_missing_or_broken_is_named(controller: Controller, name: str) -> None:
    path = controller.data / name
    before = path.read_bytes()
    flags = ("--api-port", 0, "--grpc-port", 0)
    for content in (b"x", None):
        path.unlink()
        if content is not None:
            path.write_bytes(content)
            path.chmod(0o600)
        sentence = refused_among_log(command("run", "--data", controller.data, *flags))
        assert path.name in sentence, sentence
    path.write_bytes(before)
    path.chmod(0o600)


def test_the_signer_is_started_again_when_it_dies(controller: Controller) -> None:
    controller.start()
    signers = Path(f"/proc/{controller.pid}/task/{controller.pid}/children")
    (first,) = map(int, signers.read_text().split())
    os.kill(first, signal.SIGKILL)
    wait_for("another signer", lambda: first not in map(int, signers.read_text().split()))
    made = wait_for("the signer's socket", lambda: _can_enrol(controller))
    assert made["token"].startswith("sprat1.")
    assert controller.terminate() == 0


def _can_enrol(controller: Controller) -> dict[str, str] | None:
    answer = controller.sprat("enrolment", "create", "gw-1", "-o", "json", check=False)
    return answer.json if answer.status == 0 else None


def test_the_ready_file_says_where_everything_is(controller: Controller) -> None:
    controller.start()
    said = json.loads(controller.ready_file.read_text())
    assert set(said) == {"pid", "api", "grpc", "mqtt"}
    assert said["pid"] == controller.pid
    assert controller.terminate() == 0
