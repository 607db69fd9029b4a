"""The enrolment routes of a controller over real TLS: the real rules, and a road that loses things.

What the routes do is the controller's own code on a real database; the wire is small enough to be
broken on purpose.
"""

from __future__ import annotations

import base64
import json
import ssl
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from sprat_controller.errors import SpratError
from sprat_controller.fleet import enrolment, renewal
from sprat_controller.fleet.certificates import Given
from sprat_controller.signer.port import CertificateRequest

from simulators.device_keys import csr_of, new_key
from simulators.enrolment_desk import Desk
from simulators.migrated import empty_database

NOW = datetime.now(UTC)  # noqa: TID251 - TLS judges these certificates by the real clock
DEVICE = "pond-1"
IMAGE_ROOT = '{"signatures":[],"signed":{"_type":"root","version":1}}'
DIRECTOR_ROOT = '{"signatures":[],"signed":{"_type":"root","version":2}}'


class EnrolmentApi:
    """Enrols and renews devices.

    Attributes:
        desk: What decides, with its clock and its rows.
        token: For one device, `pond-1`.
        change: Applied to each good answer before it is sent.
        asked: Bodies of the POST requests.
        lose_requests: How many to lose before the controller has them.
        lose_replies: How many answers to lose on the way back.
    """

    def __init__(self, folder: Path, names: tuple[str, ...] = ("127.0.0.1",)) -> None:
        self._database = empty_database(folder / "controller.db")
        self.desk = Desk(self._database, NOW)
        self.token = self.desk.token(DEVICE)
        self.change: Callable[[dict[str, Any]], object] = lambda reply: reply
        self.asked: list[dict[str, Any]] = []
        self.lose_requests = 0
        self.lose_replies = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.socket = self._tls(folder, names).wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self._server.server_address[1]}"

    @property
    def ca_pem(self) -> str:
        return self.desk.signer.root_pem

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self.close()

    def close(self) -> None:
        """Free the port and the rows of one that was never started."""
        self._server.server_close()
        self._database.close()

    def answer(self, path: str, body: dict[str, Any]) -> tuple[int, object] | None:
        """Return status and answer, or None for a request or an answer that is lost."""
        if self.lose_requests > 0:
            self.lose_requests -= 1
            return None
        self.asked.append(body)
        signature = base64.b64decode(body["signature"])
        try:
            reply = (
                self._enrolled(body, signature)
                if path == "/enrol"
                else self._certified(self._renewed(body, signature))
            )
        except SpratError as error:
            return error.status, {"error": {"code": error.code, "message": error.message}}
        if self.lose_replies > 0:
            self.lose_replies -= 1
            return None
        return 200, self.change(reply)

    def _enrolled(self, body: dict[str, Any], signature: bytes) -> dict[str, Any]:
        request = enrolment.Request(
            token=body["token"],
            csr_pem=body["csr"],
            identity_key_pem=body["identity_key"],
            audit_key_pem=body["audit_key"],
            audit_seed=base64.b64decode(body["audit_seed"]),
            signature=signature,
            hardware_id=body["hardware_id"],
        )
        given = self.desk.send(request)
        return self._certified(given) | {
            "device_id": given.device_id,
            "group": given.group,
            "image_root": IMAGE_ROOT,
            "director_root": DIRECTOR_ROOT,
            "grpc": "127.0.0.1:7771",
            "mqtt": None,
        }

    def _renewed(self, body: dict[str, Any], signature: bytes) -> Given:
        return self.desk.send_renewal(
            renewal.Request(body["device_id"], body["serial"], body["csr"], signature)
        )

    def _certified(self, given: Given) -> dict[str, Any]:
        return {"certificate": given.chain_pem, "ca": self.ca_pem}

    def _tls(self, folder: Path, names: tuple[str, ...]) -> ssl.SSLContext:
        key = new_key()
        request = CertificateRequest("server", names[0], csr_of(key).encode(), names)
        issued = self.desk.signer.issue_certificate(request)
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        pem = folder / "server.pem"
        pem.write_bytes(private + issued.chain_pem)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        return context

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path == "/enrol/ca.pem":
                    self._send(200, api.ca_pem.encode())
                else:
                    self._send(404, b"nothing here")

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                answer = api.answer(self.path, body)
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
