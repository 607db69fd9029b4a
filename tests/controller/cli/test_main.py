"""The edge: what no verb foresaw, and the command as a process."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest
from simulators.operator_api import OperatorApi
from simulators.pki import Pki
from simulators.sprat_command import Sprat

SPRAT = Path(sys.executable).parent / "sprat"
# A first answer that is an object without what a rollout has: a controller with a defect.
DEFECT = ("rollout", "start", "talk@1.0.0", "--alias", "a", "--yes")


def test_a_bug_is_one_sentence_that_says_how_to_report_it(sprat: Sprat, api: OperatorApi) -> None:
    api.answer = lambda _: httpx.Response(200, json={})
    said = sprat(*DEFECT)
    assert said.status == 1
    assert said.errors.startswith("sprat: this is a bug")
    assert "SPRAT_DEBUG=1" in said.errors
    assert len(said.errors.splitlines()) == 1


def test_a_bug_shows_where_it_is_only_when_asked(
    sprat: Sprat, api: OperatorApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPRAT_DEBUG", "1")
    api.answer = lambda _: httpx.Response(200, json={})
    said = sprat(*DEFECT)
    assert said.status == 1
    assert "Traceback" in said.errors


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("SPRAT_")}
    return subprocess.run(
        [SPRAT, *arguments],
        check=False,
        capture_output=True,
        text=True,
        env=clean | environ,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )


def test_a_word_that_is_none_of_a_few_is_named_with_them(sprat: Sprat) -> None:
    said = sprat("devices", "list", "-o", "foo")
    said.assert_one_sentence(64)
    assert ": 'foo' is not one of 'table', 'tsv', 'json' (see" in said.errors


def test_the_installed_command_ends_with_its_statuses(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": ""}
    assert run("--help", **home).returncode == 0
    wrong = run("devices", "fly", **home)
    assert (wrong.returncode, wrong.stdout) == (64, "")
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"https://127.0.0.1:{port}"
    refused = run("whoami", "--url", url, "--token", "sprat_x", **home)
    assert refused.returncode == 1
    assert url in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_a_reader_that_goes_away_is_no_bug(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [SPRAT, "keys", "generate", "--out", str(tmp_path / "k")],
        check=False,
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    os.close(writing)
    assert done.returncode == 1
    assert done.stderr == ""


@contextmanager
def tls_server(folder: Path) -> Generator[int]:
    """A server with a certificate of nobody's, which ends each connection after the handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate(folder))
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                try:
                    context.wrap_socket(connection, server_side=True).close()
                except OSError:
                    continue  # the client refused our certificate, which is the point

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield int(server.getsockname()[1])
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join(10)


def certificate(folder: Path) -> tuple[Path, Path]:
    made = Pki().server()
    (folder / "cert.pem").write_bytes(made.certificate_pem)
    (folder / "key.pem").write_bytes(made.key_pem)
    return folder / "cert.pem", folder / "key.pem"


def test_a_real_certificate_of_another_authority_is_refused_in_one_sentence(
    tmp_path: Path,
) -> None:
    with tls_server(tmp_path) as port:
        done = run("whoami", "--url", f"https://127.0.0.1:{port}", "--token", "sprat_x")
    assert done.returncode == 1
    assert "does not vouch" in done.stderr
    assert "--ca" in done.stderr
    assert len(done.stderr.splitlines()) == 1
