"""Sending records to one receiver; what was sent is with it when `send` returns, as far as known.

Syslog has no answer that says so. Over TCP and TLS all that was written has been acknowledged by
the receiver's kernel when `send` returns, and it had not hung up by then; over UDP nothing is
known. OTLP has an answer.
"""

from __future__ import annotations

import contextlib
import fcntl
import re
import select
import socket
import ssl
import struct
import termios
import threading
from collections.abc import Sequence
from time import monotonic
from typing import Final, Protocol

import httpx
import msgspec

from sprat_controller.audit.forwarding.destination import Content, Destination, Transport
from sprat_controller.audit.views import cef, ocsf, otlp, syslog
from sprat_controller.audit.views.record import Origin, Record, read
from sprat_controller.errors import StartupError

TIMEOUT_S: Final = 30.0
# What a datagram holds, of IPv4 and of IPv6; a longer message goes without its content.
MAX_DATAGRAM: Final = 65_000
_CONNECT_S: Final = 5.0
_LOOK_MS: Final = 10
_OK: Final = 200
_CHUNK: Final = 4096
_MAX_SAID: Final = 200
_MAX_RETRY_AFTER_S: Final = 3600.0
_HEADER: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE: Final = re.compile(r"[\t -~]+")
_OWN_HEADERS: Final = frozenset({"content-type", "content-length", "transfer-encoding"})


class SendError(Exception):
    """The receiver does not take them now: the same must be sent again, later.

    Attributes:
        retry_after_s: When the receiver wants to be asked again, if it said so.
    """

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Sender(Protocol):
    """Brings records to one receiver; one thread sends, any thread closes."""

    def send(self, bodies: Sequence[bytes]) -> None:
        """Send records in this order.

        Raises:
            SendError: Some, perhaps all, did not arrive.
        """
        ...

    def close(self) -> None:
        """Hang up; a `send` that is going on fails."""
        ...


def make(destination: Destination, origin: Origin) -> Sender:
    """Return the sender for a destination.

    Raises:
        StartupError: A file that it names cannot be read.
    """
    context = _context(destination) if destination.transport.is_encrypted else None
    match destination.transport:
        case Transport.UDP:
            return UdpSender(destination, origin)
        case Transport.TCP | Transport.TLS:
            return StreamSender(destination, origin, context)
        case Transport.HTTP | Transport.HTTPS:
            return OtlpSender(destination, origin, context)


def _message(body: bytes, content: Content, origin: Origin, limit: int | None = None) -> bytes:
    record = read(body)
    return syslog.message(record, origin, _content(record, content, origin), limit)


def _content(record: Record, content: Content, origin: Origin) -> bytes:
    match content:
        case Content.JSON:
            return record.text.encode()
        case Content.CEF:
            return cef.render(record, origin)
        case Content.OCSF:
            return ocsf.render(record, origin)


class UdpSender:
    """Syslog over UDP: a datagram a message."""

    def __init__(self, destination: Destination, origin: Origin) -> None:
        self._to = destination
        self._origin = origin

    def send(self, bodies: Sequence[bytes]) -> None:
        """Send each record; that a receiver is there is not known."""
        try:
            found = socket.getaddrinfo(self._to.host, self._to.port, type=socket.SOCK_DGRAM)
            family, kind, protocol, _, address = found[0]
            with socket.socket(family, kind, protocol) as out:
                out.settimeout(TIMEOUT_S)
                for body in bodies:
                    out.sendto(
                        _message(body, self._to.content, self._origin, MAX_DATAGRAM), address
                    )
        except (OSError, ValueError) as error:  # ValueError: no name of a host
            raise SendError(f"{self._to.name}: {error}") from error

    def close(self) -> None:
        """There is nothing to hang up."""


class StreamSender:
    """Syslog over TCP or TLS, with octet counting; the connection stays open."""

    def __init__(
        self, destination: Destination, origin: Origin, context: ssl.SSLContext | None
    ) -> None:
        self._to = destination
        self._origin = origin
        self._context = context
        self._lock = threading.Lock()
        self._sending = threading.Lock()
        self._connection: socket.socket | None = None
        self._is_closed = False

    def send(self, bodies: Sequence[bytes]) -> None:
        """Send records and wait until the receiver's kernel has them all."""
        data = b"".join(
            syslog.octet_counted(_message(body, self._to.content, self._origin)) for body in bodies
        )
        with self._sending:
            try:
                connection = self._connected()
                connection.sendall(data)
                self._wait_until_taken(connection)
            except (OSError, ValueError) as error:
                self._hang_up()
                raise SendError(f"{self._to.name}: {error or type(error).__name__}") from error

    def close(self) -> None:
        """Hang up for good; politely, if nothing is being sent."""
        with self._lock:
            self._is_closed = True
        is_idle = self._sending.acquire(blocking=False)
        try:
            if is_idle and isinstance(self._connection, ssl.SSLSocket):
                _say_good_bye(self._connection)
        finally:
            if is_idle:
                self._sending.release()
        self._hang_up()

    def _connected(self) -> socket.socket:
        if self._connection is not None:
            try:
                _look(self._connection, 0)
            except OSError:  # it was closed while nothing was sent: that is no failure
                self._hang_up()
            else:
                return self._connection
        plain = socket.create_connection((self._to.host, self._to.port), _CONNECT_S)
        try:
            plain.settimeout(TIMEOUT_S)
            made = plain
            if self._context is not None:
                made = self._context.wrap_socket(plain, server_hostname=self._to.host)
        except BaseException:
            plain.close()
            raise
        with self._lock:
            is_closed = self._is_closed
            if not is_closed:
                self._connection = made
        if is_closed:
            made.close()
            raise ConnectionAbortedError("stopped")
        return made

    def _wait_until_taken(self, connection: socket.socket) -> None:
        end = monotonic() + TIMEOUT_S
        while True:
            left = _unacknowledged(connection)
            _look(connection, _LOOK_MS if left else 0)
            if left == 0:
                return
            if monotonic() > end:
                raise TimeoutError(f"{left} bytes were not taken in {TIMEOUT_S:.0f} s")

    def _hang_up(self) -> None:
        with self._lock:
            connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.shutdown(socket.SHUT_RDWR)  # wakes who is just sending
            except OSError:
                pass  # the other end was first
            finally:
                connection.close()


def _say_good_bye(connection: ssl.SSLSocket) -> None:
    """Send TLS's word for it (RFC 5425 §4.4); whether it is answered is no matter."""
    connection.setblocking(False)  # noqa: FBT003 - the socket's own way to say it
    with contextlib.suppress(OSError, ValueError):
        connection.unwrap()


def _unacknowledged(connection: socket.socket) -> int:
    """Return how many bytes that were written the other end's kernel has not acknowledged."""
    answer = fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4))
    (left,) = struct.unpack("i", answer)
    return int(left)


def _look(connection: socket.socket, wait_ms: int) -> None:
    """Take in what the receiver says, which means nothing to us.

    Raises:
        OSError: It hung up.
    """
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    if not poll.poll(wait_ms):
        return
    timeout = connection.gettimeout()
    connection.setblocking(False)  # noqa: FBT003 - the socket's own way to say it
    try:
        # TLS 1.3 sends tickets for the next session: something arrives that is nothing to read.
        if connection.recv(_CHUNK) == b"":
            raise ConnectionResetError("the receiver hung up")
    except (BlockingIOError, ssl.SSLWantReadError):
        pass
    finally:
        connection.settimeout(timeout)


class _PartialSuccess(msgspec.Struct):
    # Integers of 64 bits are texts in this form, and some collectors write numbers all the same.
    rejectedLogRecords: int | str = 0  # noqa: N815 - OTLP's name
    errorMessage: str = ""  # noqa: N815 - OTLP's name


class _Answer(msgspec.Struct):
    partialSuccess: _PartialSuccess | None = None  # noqa: N815 - OTLP's name


class OtlpSender:
    """OTLP over HTTP, in JSON."""

    def __init__(
        self, destination: Destination, origin: Origin, context: ssl.SSLContext | None
    ) -> None:
        self._to = destination
        self._origin = origin
        scheme = destination.transport.value.removeprefix("otlp+")
        self._url = destination.name.replace(destination.transport.value, scheme, 1)
        self._client = httpx.Client(
            verify=context or True,
            timeout=httpx.Timeout(TIMEOUT_S, connect=_CONNECT_S),
            headers=_headers(destination) | {"content-type": "application/json"},
            trust_env=False,  # where audit goes is said in one place
        )

    def send(self, bodies: Sequence[bytes]) -> None:
        """Send records in one request.

        Whatever the receiver does not take is an error, other than OTLP has it of records that
        would be refused again: a log with holes is worth less than one that is late.
        """
        content = otlp.request([read(body) for body in bodies], self._origin)
        try:
            answer = self._client.post(self._url, content=content)
        # A client that was closed raises RuntimeError; what is no name of a host, ValueError.
        except (httpx.HTTPError, RuntimeError, ValueError) as error:
            raise SendError(f"{self._to.name}: {error or type(error).__name__}") from error
        if answer.status_code != _OK:
            said = f"{self._to.name}: expected status 200, found {answer.status_code}"
            raise SendError(f"{said}: {answer.text[:_MAX_SAID]!r}", _retry_after(answer))
        self._check(answer)

    def close(self) -> None:
        """Hang up for good."""
        self._client.close()

    def _check(self, answer: httpx.Response) -> None:
        try:
            said = msgspec.json.decode(answer.content or b"{}", type=_Answer).partialSuccess
            rejected = int(said.rejectedLogRecords) if said else 0
        except (msgspec.DecodeError, ValueError) as error:
            raise SendError(f"{self._to.name}: expected an OTLP answer: {error}") from error
        if said is not None and rejected:
            message = said.errorMessage[:_MAX_SAID]
            raise SendError(f"{self._to.name}: {rejected} records were rejected: {message!r}")


def _retry_after(answer: httpx.Response) -> float | None:
    text = answer.headers.get("retry-after", "")
    if not (text.isascii() and text.isdigit()):
        return None
    return min(float(text), _MAX_RETRY_AFTER_S)


def _headers(destination: Destination) -> dict[str, str]:
    if destination.headers is None:
        return {}
    try:
        lines = destination.headers.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(destination, error) from error
    headers: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        name, colon, value = line.partition(":")
        if not line.strip():
            continue
        fault = None if colon else "found no colon"
        if colon and not _HEADER.fullmatch(name.strip()):
            fault = "found no name of a header before the colon"
        elif colon and name.strip().lower() in _OWN_HEADERS:
            fault = f"found {name.strip()}, which the controller sets itself"
        elif colon and not _VALUE.fullmatch(value.strip()):
            fault = "found a value that is not printable ASCII"
        if fault:  # never the line itself: it may be a secret
            where = f"{destination.headers}, line {number}"
            raise StartupError("bad_flag", f"{where}: expected `Name: value`, {fault}")
        headers[name.strip()] = value.strip()
    return headers


def _context(destination: Destination) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(
            cafile=None if destination.ca is None else str(destination.ca)
        )
        if destination.certificate is not None:
            context.load_cert_chain(destination.certificate, destination.key)
    except OSError as error:  # ssl.SSLError is one
        raise _unreadable(destination, error) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _unreadable(destination: Destination, error: Exception) -> StartupError:
    named = (destination.ca, destination.certificate, destination.key, destination.headers)
    files = ", ".join(str(file) for file in named if file is not None)
    message = f"{destination.name}: expected files that can be read ({files}): {error}"
    return StartupError("bad_flag", message)
