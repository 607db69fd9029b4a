"""The signer's socket: who may ask, and hostile bytes answered without a fall.

A Unix socket. The kernel says who is at the other end (SO_PEERCRED); whoever is not expected is
hung up on. A connection that sends what is no request ends; the others go on.
"""

from __future__ import annotations

import logging
import socket
import struct
import threading
from contextlib import suppress
from pathlib import Path
from typing import Final, assert_never

from sprat_controller.signer import wire
from sprat_controller.signer.port import FullSigner, SignerError, SignerRefusedError

MAX_CONNECTIONS: Final = 64
_PEER: Final = struct.Struct("3i")  # pid, uid, gid
_log = logging.getLogger(__name__)


class SignerServer:
    """Serves one signer on one socket, a thread a connection."""

    def __init__(self, signer: FullSigner, path: Path, uids: frozenset[int]) -> None:
        """Prepare to serve.

        Args:
            signer: Who signs.
            path: Of the socket; an old one is replaced.
            uids: Who may ask.
        """
        self._signer = signer
        self._path = path
        self._uids = uids
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._is_stopped = False

    def bind(self) -> None:
        """Listen.

        Raises:
            OSError: The socket cannot be made.
        """
        fresh = self._path.with_name(f".{self._path.name}.new")
        fresh.unlink(missing_ok=True)
        with wire.short_path(fresh) as short:
            self._socket.bind(short)
        fresh.chmod(0o660)
        self._socket.listen(MAX_CONNECTIONS)
        # The name appears when somebody answers behind it.
        fresh.replace(self._path)

    def serve(self) -> None:
        """Serve until `stop`."""
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                if self._is_stopped:
                    return
                raise
            with self._lock:
                is_full = len(self._open) >= MAX_CONNECTIONS
                if not is_full and not self._is_stopped:
                    self._open.add(connection)
            if is_full or not self._may_ask(connection):
                self._close(connection)
                continue
            threading.Thread(target=self._converse, args=(connection,), daemon=True).start()

    def stop(self) -> None:
        """End every connection, and `serve`."""
        with self._lock:
            self._is_stopped = True
            connections = list(self._open)
        # First of all: when `serve` has returned, the name may be the next one's.
        self._path.unlink(missing_ok=True)
        for one in (self._socket, *connections):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _may_ask(self, connection: socket.socket) -> bool:
        said = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
        pid, uid, _ = _PEER.unpack(said)
        if uid in self._uids:
            return True
        _log.warning("process %d of user %d is not the controller: hung up", pid, uid)
        return False

    def _converse(self, connection: socket.socket) -> None:
        try:
            while (body := wire.receive(connection)) is not None:
                connection.sendall(wire.encode(self._answer(body)))
        except (wire.FrameError, OSError) as error:
            _log.info("a connection ended: %s", error)
        finally:
            self._close(connection)

    def _answer(self, body: bytes) -> wire.Answer:
        try:
            return self._carry_out(wire.decode_request(body))
        except SignerError as error:
            return wire.Failed(error.code, error.message, isinstance(error, SignerRefusedError))
        except wire.FrameError as error:
            return wire.Failed("bad_request", str(error), is_refusal=True)
        except Exception as error:  # noqa: BLE001 - a full disk, a token pulled out: told and logged
            _log.exception("a request could not be carried out")
            return wire.Failed(
                "signer_failed", f"{type(error).__name__}: {error}", is_refusal=False
            )

    def _carry_out(self, request: wire.Request) -> wire.Answer:  # noqa: PLR0911 - one a verb
        match request:
            case wire.IssuePlan(assignment, targets):
                return wire.Plan(self._signer.issue_plan(assignment, targets))
            case wire.SignTimestamp(roles):
                return wire.Timestamp(self._signer.sign_timestamp(roles))
            case wire.IssueCertificate(asked):
                return wire.Certificate(self._signer.issue_certificate(asked))
            case wire.Revoke(device_id, serials):
                self._signer.revoke(device_id, serials)
                return wire.Revoked()
            case wire.RevocationList():
                return wire.Revocations(self._signer.revocation_list())
            case wire.AskLogState():
                return wire.State(self._signer.log_state())
            case wire.SignCheckpoint(size, root, proof):
                return wire.SignedCheckpoint(self._signer.sign_checkpoint(size, root, proof))
            case _:
                assert_never(request)

    def _close(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.discard(connection)
        connection.close()
