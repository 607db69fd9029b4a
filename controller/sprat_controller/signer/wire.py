"""What travels between the controller and its signer.

A length (4 bytes, big-endian), and so much MessagePack. One request, one answer, any number of
times over a connection. Pure but for `receive` and `short_path`.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeAlias

import msgspec
from msgspec import Struct
from sprat_proto.assignment import Assignment

from sprat_controller.signer.port import (
    CertificateRequest,
    IssuedCertificate,
    IssuedPlan,
    LogState,
    PlannedTarget,
    SignedTimestamp,
)

# A snapshot of 68,000 roles, the most that devices read.
MAX_FRAME_BYTES: Final = 8 << 20
_LENGTH: Final = struct.Struct(">I")


class IssuePlan(Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """`Signer.issue_plan`."""

    assignment: Assignment
    targets: list[PlannedTarget]


class SignTimestamp(Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """`Signer.sign_timestamp`."""

    roles: dict[str, int]


class IssueCertificate(Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """`Signer.issue_certificate`."""

    request: CertificateRequest


class Revoke(Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """`Signer.revoke`."""

    device_id: str
    serials: list[str]


class RevocationList(Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """`Signer.revocation_list`."""


class AskLogState(Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """`Signer.log_state`."""


class SignCheckpoint(Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """`Signer.sign_checkpoint`."""

    size: int
    root: bytes
    proof: list[bytes]


class Plan(Struct, frozen=True, tag=True):
    """The answer to IssuePlan."""

    value: IssuedPlan


class Timestamp(Struct, frozen=True, tag=True):
    """The answer to SignTimestamp."""

    value: SignedTimestamp


class Certificate(Struct, frozen=True, tag=True):
    """The answer to IssueCertificate."""

    value: IssuedCertificate


class Revoked(Struct, frozen=True, tag=True):
    """The answer to Revoke."""


class Revocations(Struct, frozen=True, tag=True):
    """The answer to RevocationList: a CRL in PEM."""

    value: bytes


class State(Struct, frozen=True, tag=True):
    """The answer to AskLogState."""

    value: LogState


class SignedCheckpoint(Struct, frozen=True, tag=True):
    """The answer to SignCheckpoint: a note."""

    value: str


class Failed(Struct, frozen=True, tag=True):
    """It was not signed."""

    code: str
    message: str
    is_refusal: bool


Request: TypeAlias = (
    IssuePlan
    | SignTimestamp
    | IssueCertificate
    | Revoke
    | RevocationList
    | AskLogState
    | SignCheckpoint
)
Answer: TypeAlias = (
    Plan | Timestamp | Certificate | Revoked | Revocations | State | SignedCheckpoint | Failed
)

_encoder: Final = msgspec.msgpack.Encoder()
_requests: Final = msgspec.msgpack.Decoder(Request)
_answers: Final = msgspec.msgpack.Decoder(Answer)


class FrameError(Exception):
    """What came is no frame of ours; the connection is of no use any more."""


def encode(message: Request | Answer) -> bytes:
    """Return a message as it travels.

    Raises:
        FrameError: It is too large.
    """
    body = _encoder.encode(message)
    if len(body) > MAX_FRAME_BYTES:
        raise FrameError(f"expected at most {MAX_FRAME_BYTES} bytes, found {len(body)}")
    return _LENGTH.pack(len(body)) + body


def decode_request(body: bytes) -> Request:
    """Read a request.

    Raises:
        FrameError: It is none.
    """
    return _decode(_requests.decode, body)


def decode_answer(body: bytes) -> Answer:
    """Read an answer.

    Raises:
        FrameError: It is none.
    """
    return _decode(_answers.decode, body)


@contextmanager
def short_path(path: Path) -> Generator[str]:
    """Yield another path of a socket: one of 108 bytes or more is neither bound nor reached.

    Raises:
        OSError: Its folder cannot be opened.
    """
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def receive(connection: socket.socket) -> bytes | None:
    """Return the body of the next frame; None when the other side has ended. Blocking.

    Raises:
        FrameError: It ended in the middle, or announces too much.
        OSError: The connection broke.
    """
    head = _exactly(connection, _LENGTH.size)
    if head is None:
        return None
    (length,) = _LENGTH.unpack(head)
    if length > MAX_FRAME_BYTES:
        raise FrameError(f"expected a frame of at most {MAX_FRAME_BYTES} bytes, found {length}")
    body = _exactly(connection, length)
    if body is None:
        raise FrameError(f"expected {length} bytes, and the connection ended")
    return body


def receive_answer(connection: socket.socket) -> bytes:
    """Return the body of the next frame; see `receive`.

    Raises:
        FrameError: As `receive`, and when the other side has ended.
        OSError: The connection broke.
    """
    body = receive(connection)
    if body is None:
        raise FrameError("it hung up")
    return body


def _exactly(connection: socket.socket, count: int) -> bytes | None:
    parts: list[bytes] = []
    left = count
    while left:
        part = connection.recv(min(left, 1 << 16))
        if not part:
            if left == count:
                return None
            raise FrameError(f"expected {count} bytes, and the connection ended after less")
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def _decode(decoder: Callable[[bytes], Any], body: bytes) -> Any:
    try:
        return decoder(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise FrameError(f"a message that is none: {error}") from error
