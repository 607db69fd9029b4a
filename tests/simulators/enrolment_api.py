"""The two enrolment routes of a controller over real TLS, small enough to be broken on purpose."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from sprat_controller.fleet.ca import CertificateAuthority, key_sha256_of_csr
from sprat_proto.claim import Claim
from sprat_proto.signing import SigningKey, generate_private_pem

NOW = datetime.now(UTC)  # noqa: TID251 - TLS judges these certificates by the real clock
SECRET = "s" * 43


def public_pem() -> str:
    """Return a new key's public half."""
    return SigningKey(generate_private_pem()).public_pem


class EnrolmentApi:
    """Certifies one device, `pond-1`, once per key, as the controller does.

    Attributes:
        reply: What a good answer holds; a test may change it.
        change: Applied to each good answer before it is sent.
        asked: Bodies of the POST requests.
        lose_replies: How many answers to certify for and then lose on the way.
    """

    def __init__(self, folder: Path, names: tuple[str, ...] = ("127.0.0.1",)) -> None:
        self.authority = CertificateAuthority.create(folder / "authority", NOW)
        self.assignment_pem, self.publisher_pem = public_pem(), public_pem()
        self.change: Callable[[dict[str, Any]], object] = lambda reply: reply
        self.asked: list[dict[str, Any]] = []
        self.lose_replies = 0
        self._used_by: str | None = None
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.socket = self._tls(folder, names).wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self._server.server_address[1]}"

    @property
    def token(self) -> str:
        return str(Claim(SECRET, self.authority.fingerprint))

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self.close()

    def close(self) -> None:
        """Free the port of one that was never started."""
        self._server.server_close()

    def redeem(self, body: dict[str, Any]) -> tuple[int, object] | None:
        """Return status and answer, or None for an answer that is lost."""
        self.asked.append(body)
        if body["token"] != self.token:
            return 403, _error("token_refused", "this token is not known, was used, or expired")
        key = key_sha256_of_csr(body["csr"].encode())
        if self._used_by not in (None, key):
            return 403, _error("token_refused", "this token was used by another device")
        self._used_by = key
        if self.lose_replies > 0:
            self.lose_replies -= 1
            return None
        return 200, self.change(self._reply(body["csr"]))

    def _reply(self, csr: str) -> dict[str, Any]:
        return {
            "device_id": "pond-1",
            "certificate": self.authority.sign_device(csr.encode(), "pond-1", NOW).decode(),
            "ca": self.authority.certificate_pem.decode(),
            "assignment_key": {"name": "controller", "public_pem": self.assignment_pem},
            "publishers": [{"name": "acme", "public_pem": self.publisher_pem}],
            "grpc": "127.0.0.1:7771",
            "mqtt": None,
        }

    def _tls(self, folder: Path, names: tuple[str, ...]) -> ssl.SSLContext:
        issued = self.authority.issue_server(names, NOW)
        pem = folder / "server.pem"
        pem.write_bytes(issued.certificate_pem + issued.key_pem)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        return context

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path == "/enrol/ca.pem":
                    self._send(200, api.authority.certificate_pem)
                else:
                    self._send(404, b"nothing here")

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                answer = api.redeem(body)
                if answer is None:
                    self.close_connection = True
                else:
                    self._send(answer[0], json.dumps(answer[1]).encode())

            def _send(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name
                pass

        return Handler


def _error(code: str, message: str) -> dict[str, object]:
    return {"error": {"code": code, "message": message, "details": {}}}
