"""Receivers of logs: a syslog server that knows octet counting and nothing of us, and rsyslog."""

from __future__ import annotations

import json
import os
import queue
import shutil
import socket
import socketserver
import ssl
import subprocess
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from sprat_controller.fleet.ca import KeyPair

RSYSLOGD = shutil.which("rsyslogd", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
WAIT_S = 30.0
KEPT_UNREAD = 16 << 10  # bytes that a receiver's kernel keeps for it; Linux doubles it


class StreamReceiver:
    """Syslog over TCP, or TLS if it has a certificate; takes what it is told to take."""

    def __init__(self, context: ssl.SSLContext | None = None, port: int = 0) -> None:
        self.messages: queue.Queue[bytes] = queue.Queue()
        self.connections = 0
        self.reads = threading.Event()  # cleared: it is connected, and reads nothing
        self.reads.set()
        self.hang_up_after: int | None = None  # so many messages of a connection
        receiver = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                receiver.connections += 1
                try:
                    connection: socket.socket = self.request
                    if context is not None:
                        connection = context.wrap_socket(connection, server_side=True)
                    receiver.read(connection)
                    connection.close()
                except (OSError, EOFError):
                    pass  # a sender that goes away is what some tests are about

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            allow_reuse_address = True
            block_on_close = False

        self._server = Server(("127.0.0.1", port), Handler)
        # What its kernel took in and it has not read is lost when it hangs up: let it be little.
        self._server.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, KEPT_UNREAD)
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def read(self, connection: socket.socket) -> None:
        with connection.makefile("rb") as file:
            taken = 0
            while self.hang_up_after is None or taken < self.hang_up_after:
                self.reads.wait()
                digits = b""
                while (byte := file.read(1)) != b" ":
                    if not byte and not digits:
                        return
                    assert byte.isdigit(), byte
                    digits += byte
                assert not digits.startswith(b"0"), digits
                message = file.read(int(digits))
                if len(message) < int(digits):
                    return
                self.messages.put(message)
                taken += 1

    def take(self, count: int) -> list[bytes]:
        return [self.messages.get(timeout=WAIT_S) for _ in range(count)]

    def close(self) -> None:
        self.reads.set()
        self._server.shutdown()
        self._server.server_close()


class Collector:
    """An OTLP receiver over HTTP, which answers as it is told to."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.requests: queue.Queue[tuple[str, dict[str, str], bytes]] = queue.Queue()
        self.answers: list[tuple[int, dict[str, str], bytes]] = []  # before all is well
        collector = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                status, headers, answer = (
                    collector.answers.pop(0) if collector.answers else (200, {}, b"{}")
                )
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)
                said = {name.lower(): value for name, value in self.headers.items()}
                collector.requests.put((self.path, said, body))

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name
                del format, args

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        if context is not None:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def take(self) -> tuple[str, dict[str, str], bytes]:
        return self.requests.get(timeout=WAIT_S)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def server_context(folder: Path, pair: KeyPair, clients_ca: Path | None = None) -> ssl.SSLContext:
    """Return what a receiver shows; with `clients_ca` it wants a certificate of who sends."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate, key = folder / "receiver.pem", folder / "receiver.key"
    certificate.write_bytes(pair.certificate_pem)
    key.write_bytes(pair.key_pem)
    context.load_cert_chain(certificate, key)
    if clients_ca is not None:
        context.load_verify_locations(clients_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


class Rsyslog:
    """What rsyslog made of the messages: a JSON object each, of the fields that it parsed."""

    def __init__(self, fifo: Path) -> None:
        self._lines: queue.Queue[str] = queue.Queue()
        self._fifo = fifo
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        with self._fifo.open(encoding="utf-8") as lines:
            for line in lines:
                self._lines.put(line)

    def take(self, count: int) -> list[dict[str, str]]:
        return [json.loads(self._lines.get(timeout=WAIT_S)) for _ in range(count)]


@contextmanager
def rsyslog(folder: Path, inputs: str) -> Generator[Rsyslog]:
    """Run rsyslog with the given inputs.

    Args:
        folder: Its own.
        inputs: In its configuration's language: modules and inputs.
    """
    assert RSYSLOGD is not None
    fifo, settings = folder / "out.fifo", folder / "rsyslog.conf"
    os.mkfifo(fifo)
    names = ("pri", "timestamp", "hostname", "app-name", "msgid", "structured-data", "msg")
    properties = 'constant(value="\\n")'
    fields = 'constant(value=", ")'.join(
        f'property(outname="{name}" name="{name}"'
        f"{' dateFormat=' + chr(34) + 'rfc3339' + chr(34) if name == 'timestamp' else ''}"
        ' format="jsonf")'
        for name in names
    )
    settings.write_text(
        f"""global(workDirectory="{folder}" maxMessageSize="256k")
{inputs}
template(name="parsed" type="list") {{
  constant(value="{{") {fields} constant(value="}}") {properties}
}}
action(type="ompipe" pipe="{fifo}" template="parsed")
""",
        encoding="utf-8",
    )
    received = Rsyslog(fifo)
    with (folder / "rsyslog.log").open("w") as log:
        process = subprocess.Popen(
            [RSYSLOGD, "-n", "-f", settings, "-i", folder / "pid"], stdout=log, stderr=log
        )
        try:
            yield received
        finally:
            process.terminate()
            process.wait(timeout=WAIT_S)
