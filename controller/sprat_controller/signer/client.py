"""Asking the signer in its own process; implements `port.Signer`."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from queue import Empty, LifoQueue
from typing import Final

from sprat_proto.assignment import Assignment

from sprat_controller.signer import wire
from sprat_controller.signer.port import (
    CertificateRequest,
    IssuedCertificate,
    IssuedPlan,
    LogState,
    PlannedTarget,
    SignedTimestamp,
    SignerRefusedError,
    SignerUnavailableError,
)

TIMEOUT_S: Final = 10.0
_POOL: Final = 8  # connections that are kept


class SignerClient:
    """Asks over a Unix socket; any thread. A connection that went stale is made anew, once."""

    def __init__(self, path: Path, *, timeout_s: float = TIMEOUT_S) -> None:
        self._path = path
        self._timeout_s = timeout_s
        self._idle: LifoQueue[socket.socket] = LifoQueue(_POOL)

    def issue_plan(self, assignment: Assignment, targets: Sequence[PlannedTarget]) -> IssuedPlan:
        """Return new director metadata; see `Signer`."""
        answer = self._ask(wire.IssuePlan(assignment, list(targets)))
        if not isinstance(answer, wire.Plan):
            raise _unexpected(answer)
        return answer.value

    def sign_timestamp(self, roles: Mapping[str, int]) -> SignedTimestamp:
        """Return new image metadata; see `Signer`."""
        answer = self._ask(wire.SignTimestamp(dict(roles)))
        if not isinstance(answer, wire.Timestamp):
            raise _unexpected(answer)
        return answer.value

    def issue_certificate(self, request: CertificateRequest) -> IssuedCertificate:
        """Return a new certificate; see `Signer`."""
        answer = self._ask(wire.IssueCertificate(request))
        if not isinstance(answer, wire.Certificate):
            raise _unexpected(answer)
        return answer.value

    def revoke(self, device_id: str, serials: Sequence[str]) -> None:
        """Never sign for the device again; see `Signer`."""
        answer = self._ask(wire.Revoke(device_id, list(serials)))
        if not isinstance(answer, wire.Revoked):
            raise _unexpected(answer)

    def revocation_list(self) -> bytes:
        """Return the list of revoked certificates; see `Signer`."""
        answer = self._ask(wire.RevocationList())
        if not isinstance(answer, wire.Revocations):
            raise _unexpected(answer)
        return answer.value

    def log_state(self) -> LogState:
        """Return how far the audit log was signed; see `Signer`."""
        answer = self._ask(wire.AskLogState())
        if not isinstance(answer, wire.State):
            raise _unexpected(answer)
        return answer.value

    def sign_checkpoint(self, size: int, root: bytes, proof: Sequence[bytes]) -> str:
        """Return a checkpoint of the audit log; see `Signer`."""
        answer = self._ask(wire.SignCheckpoint(size, root, list(proof)))
        if not isinstance(answer, wire.SignedCheckpoint):
            raise _unexpected(answer)
        return answer.value

    def close(self) -> None:
        """Close what is open."""
        while True:
            try:
                self._idle.get_nowait().close()
            except Empty:
                return

    def _ask(self, request: wire.Request) -> wire.Answer:
        frame = _encoded(request)
        try:
            answer = self._over_idle(frame) or self._over(self._connect(), frame)
        except (OSError, wire.FrameError) as error:
            raise SignerUnavailableError(
                "signer_unavailable",
                f"the signer at {self._path} cannot be asked ({error}): see that it runs",
            ) from error
        if isinstance(answer, wire.Failed):
            kind = SignerRefusedError if answer.is_refusal else SignerUnavailableError
            raise kind(answer.code, answer.message)
        return answer

    def _over_idle(self, frame: bytes) -> wire.Answer | None:
        """Ask over a kept connection; None if there is none, or the signer was started anew."""
        try:
            connection = self._idle.get_nowait()
        except Empty:
            return None
        try:
            return self._over(connection, frame)
        except (OSError, wire.FrameError):
            # To ask again is harmless: a plan or certificate that nobody got is never used.
            self.close()
            return None

    def _over(self, connection: socket.socket, frame: bytes) -> wire.Answer:
        try:
            connection.sendall(frame)
            answer = wire.decode_answer(wire.receive_answer(connection))
        except BaseException:
            connection.close()
            raise
        if self._idle.full():
            connection.close()
        else:
            self._idle.put(connection)
        return answer

    def _connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(self._timeout_s)
        try:
            with wire.short_path(self._path) as short:
                connection.connect(short)
        except BaseException:
            connection.close()
            raise
        return connection


def _encoded(request: wire.Request) -> bytes:
    try:
        return wire.encode(request)
    except wire.FrameError as error:
        raise SignerRefusedError(
            "too_large", f"the signer takes no such request: {error}"
        ) from error


def _unexpected(answer: wire.Answer) -> SignerUnavailableError:
    return SignerUnavailableError(
        "signer_failed", f"the signer answered another question: {type(answer).__name__}"
    )
