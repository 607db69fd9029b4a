"""A real HTTPS server of blobs on loopback that misbehaves as a test wants."""

from __future__ import annotations

import re
import ssl
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class BlobSource:
    """What the server has and how it behaves.

    Attributes:
        blobs: Content by SHA-256 in the URL, true to its name or not.
        bearer: What it accepts.
        status: Answered instead of a blob, by SHA-256.
        cut_after: The connection breaks after so many bytes of an answer, as often as listed.
        has_ranges: It answers Range with 206.
        is_chunked: It says no length, and ends where its content ends.
        ranges: Range headers of requests so far.
    """

    blobs: dict[str, bytes] = field(default_factory=dict[str, bytes])
    bearer: str = "good"
    status: dict[str, int] = field(default_factory=dict[str, int])
    cut_after: list[int] = field(default_factory=list[int])
    has_ranges: bool = True
    is_chunked: bool = False
    ranges: list[str] = field(default_factory=list[str])
    url: str = ""


@contextmanager
def serving(source: BlobSource, certificate: Path, key: Path) -> Generator[BlobSource]:
    """Serve until the end of the block; `source.url` is the base URL."""

    class Handler(_Handler):
        blobs = source

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    source.url = f"https://127.0.0.1:{server.server_address[1]}/blobs"
    try:
        yield source
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    blobs: BlobSource
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        source = self.blobs
        sha256 = self.path.rpartition("/")[2]
        asked = self.headers.get("range", "")
        source.ranges.append(asked)
        if self.headers.get("authorization") != f"Bearer {source.bearer}":
            self._empty(401)
        elif sha256 in source.status:
            self._empty(source.status[sha256])
        elif sha256 not in source.blobs:
            self._empty(404)
        else:
            self._blob(source.blobs[sha256], asked)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as http.server has it
        """Say nothing."""

    def _empty(self, status: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("content-length", "0")
        self.end_headers()

    def _blob(self, data: bytes, asked: str) -> None:
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", asked)
        start = int(match[1]) if match and self.blobs.has_ranges else 0
        if start and start >= len(data):
            self._empty(416, content_range=f"bytes */{len(data)}")
            return
        part = data[start : int(match[2]) + 1] if match and self.blobs.has_ranges else data
        is_partial = match is not None and self.blobs.has_ranges
        self.send_response(206 if is_partial else 200)
        total = "*" if self.blobs.is_chunked else str(len(data))
        if is_partial:
            self.send_header("content-range", f"bytes {start}-{start + len(part) - 1}/{total}")
        if self.blobs.is_chunked:
            self.send_header("connection", "close")
        else:
            self.send_header("content-length", str(len(part)))
        self.end_headers()
        if self.blobs.cut_after:
            self.wfile.write(part[: self.blobs.cut_after.pop(0)])
            self.close_connection = True
            return
        self.wfile.write(part)
