"""The controller's API over real parts in a folder, with a clock that a test turns."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from copy import copy
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

# The library's documented API; it re-exports it without saying so.
# pyright: reportPrivateImportUsage=false
from securesystemslib.signer import Signer
from sprat_controller.access import grants, subjects, tokens
from sprat_controller.access.actor import SubjectKind
from sprat_controller.access.blob_credentials import BlobCredentials
from sprat_controller.access.passwords import Cost, Passwords
from sprat_controller.access.policy import Role
from sprat_controller.access.scopes import read
from sprat_controller.access.snapshot import Policies
from sprat_controller.api.app import make_app
from sprat_controller.api.parts import Ids, LinkAddresses, Parts
from sprat_controller.audit.checkpoints import Checkpoints
from sprat_controller.audit.denials import Denials
from sprat_controller.fleet.ca import Root
from sprat_controller.fleet.rate import LOGIN_OF_ALL, LOGIN_PER_SOURCE, Gate, Gates
from sprat_controller.ids import new_secret
from sprat_controller.registry.blobs import BlobStore
from sprat_controller.rollout.recurring.recurrences import Recurrences
from sprat_controller.rollout.service import RolloutService
from sprat_controller.store.session import Database
from sprat_proto import approval
from sqlmodel import Session

from simulators.image_keys import ImageKeys
from simulators.migrated import empty_database
from simulators.signing_desk import Desk

START = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
HOST = "ctl.example"
QUICK = Cost(memory_kib=64, passes=1, lanes=1)  # of passwords


class HttpWorld:
    """The application, its parts, and a token for each role."""

    def __init__(self, folder: Path, database: Database | None = None) -> None:
        """Make it; in a database that is migrated and empty, or in one of its own in the folder."""
        self.now = START
        self.ended: list[str] = []
        self.woken = 0
        self.policy = approval.NOBODY
        counter = itertools.count(1)

        def new_id() -> str:
            return f"id-{next(counter):06d}"

        self.desk = Desk(folder, now=START)
        if database is None:
            database = empty_database(folder / "controller.db")
        self.parts = Parts(
            database=database,
            clock=lambda: self.now,
            ids=Ids(new_id, new_secret),
            authority=Root.load(self.desk.root_file),
            signer=self.desk.core,
            gates=Gates(
                enrolment=Gate(), renewal=Gate(), login=Gate(LOGIN_PER_SOURCE, LOGIN_OF_ALL)
            ),
            passwords=Passwords(QUICK),
            oidc=None,
            blobs=BlobStore(folder / "blobs"),
            blob_credentials=BlobCredentials(b"s" * 32),
            denials=Denials(database),
            policies=Policies(),
            checkpoints=Checkpoints(database, self.desk.core),
            rollouts=self._rollouts(database, new_id),
            recurrences=Recurrences(database, lambda: self.now, new_id),
            addresses=LinkAddresses(7771, mqtt_port=8883),
            end_session=lambda device_id, _: self.ended.append(device_id),
            wake=self._wake,
        )
        # What people keep offline, once it was made (`founded`).
        self.image_keys: ImageKeys | None = None
        self.publishers: dict[str, Signer] = {}
        self.named: dict[str, str] = {}  # tokens of whom a test admits, by name
        self.tokens = {role: self.admit(role.value, role) for role in Role}
        self.app = make_app(self.parts, "0.0.0")

    def _rollouts(self, database: Database, new_id: Callable[[], str]) -> RolloutService:
        return RolloutService(database, lambda: self.now, new_id, self._wake, lambda _: self.policy)

    def _wake(self) -> None:
        self.woken += 1

    def admit(
        self,
        name: str,
        role: str,
        scope: str = "",
        *,
        kind: SubjectKind = SubjectKind.USER,
        owner: str | None = None,
    ) -> str:
        """Make a subject with one role, and return a token of theirs that allows all of it."""
        ids = self.parts.ids
        with self.parts.database.transaction() as session:
            row = subjects.create(
                session, kind, name, owner=owner, actor="controller", now=self.now
            )
            wanted = grants.Wanted(row.id, role, read(scope))
            grants.grant(session, wanted, actor=None, now=self.now, binding_id=ids.new_id())
            return self._mint(session, tokens.Wanted(row.id, "first", role))

    def token_of(self, subject: str, name: str, role: str, scope: str = "") -> str:
        """Return another token of a subject."""
        with self.parts.database.transaction() as session:
            return self._mint(session, tokens.Wanted(subject, name, role, read(scope)))

    def _mint(self, session: Session, wanted: tokens.Wanted) -> str:
        _, text = tokens.mint(
            session,
            wanted,
            made_by=None,
            now=self.now,
            new_id=self.parts.ids.new_id,
            new_secret=self.parts.ids.new_secret,
        )
        return text

    def later(self, **delta: float) -> None:
        """Turn the clock."""
        self.now += timedelta(**delta)
        self.desk.now = self.now

    def client(self, role: Role | None = Role.ADMIN) -> Client:
        """Return a client with a role's token, or with none."""
        return Client(self.app, self.tokens[role] if role else None)

    def client_of(self, token: str) -> Client:
        """Return a client with a token."""
        return Client(self.app, token)

    def replica(self, database: Database) -> HttpWorld:
        """Return another controller over the same rows: with all that is kept in a process anew.

        Args:
            database: Its own connections to the same database.
        """
        other = copy(self)
        other.parts = replace(
            self.parts,
            database=database,
            policies=Policies(),
            denials=Denials(database),
            passwords=Passwords(QUICK),
            oidc=None,
            gates=Gates(
                enrolment=Gate(), renewal=Gate(), login=Gate(LOGIN_PER_SOURCE, LOGIN_OF_ALL)
            ),
            checkpoints=Checkpoints(database, self.desk.core),
            rollouts=self._rollouts(database, self.parts.ids.new_id),
            recurrences=Recurrences(database, lambda: self.now, self.parts.ids.new_id),
        )
        other.app = make_app(other.parts, "0.0.0")
        return other

    def close(self) -> None:
        """Close the database."""
        self.parts.database.close()


class Client:
    """Calls the application in this process."""

    def __init__(self, app: Any, token: str | None) -> None:
        self._app = app
        self._headers = {"authorization": f"Bearer {token}"} if token else {}

    async def send(self, method: str, path: str, **request: Any) -> httpx.Response:
        """Send one request."""
        transport = httpx.ASGITransport(self._app, raise_app_exceptions=False)
        headers = self._headers | request.pop("headers", {})
        async with httpx.AsyncClient(transport=transport, base_url=f"https://{HOST}:7770") as http:
            return await http.request(method, path, headers=headers, **request)

    async def get(self, path: str, **request: Any) -> httpx.Response:
        """GET below the operators' prefix."""
        return await self.send("GET", f"/api/v1/{path}", **request)

    async def post(self, path: str, body: object = None) -> httpx.Response:
        """POST JSON below the operators' prefix."""
        return await self.send("POST", f"/api/v1/{path}", json=body)

    async def put_blob(self, sha256: str, data: bytes) -> httpx.Response:
        """Upload a blob."""
        return await self.send("PUT", f"/api/v1/blobs/sha256/{sha256}", content=data)


def new_csr(name: str = "anything") -> bytes:
    """Return a CSR of a new key."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    return builder.sign(key, SHA256()).public_bytes(Encoding.PEM)


def error_of(answer: httpx.Response) -> tuple[int, str]:
    """Return the status and the code of an error, after a look at its whole shape."""
    assert set(answer.json()) == {"error"}, answer.text
    error = answer.json()["error"]
    assert set(error) == {"code", "message", "details"}
    assert error["message"].strip()
    assert "\n" not in error["message"]
    assert "Traceback" not in answer.text
    assert answer.headers["x-request-id"]
    return answer.status_code, error["code"]
