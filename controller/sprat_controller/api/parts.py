"""What the routes work with, put together once in `main` and taken apart again by FastAPI.

Each route asks for the few parts that it needs by type (`DatabasePart`, `Now`, ...), so that its
signature says what it can touch. They are `async` only because FastAPI would otherwise send each of
them to a thread of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Final, Protocol

from fastapi import Depends, Request

from sprat_controller.access.blob_credentials import BlobCredentials
from sprat_controller.access.oidc.provider import Provider
from sprat_controller.access.passwords import Passwords
from sprat_controller.access.snapshot import Policies
from sprat_controller.audit.checkpoints import Checkpoints
from sprat_controller.audit.denials import Denials
from sprat_controller.bundle.export import Exporter
from sprat_controller.clock import Clock
from sprat_controller.fleet.rate import Gates
from sprat_controller.registry.blobs import BlobStore
from sprat_controller.rollout.recurring.recurrences import Recurrences
from sprat_controller.rollout.service import RolloutService
from sprat_controller.signer.port import Signer
from sprat_controller.store.session import Database

PARTS: Final = "parts"  # where they are in a request's state


class Authority(Protocol):
    """Whom devices trust to be their controller: `fleet.ca`."""

    @property
    def fingerprint(self) -> str:
        """Hex SHA-256 of the root's certificate, as it stands in claim tokens."""
        ...

    @property
    def certificate_pem(self) -> bytes:
        """What a device trusts, PEM."""
        ...


@dataclass(frozen=True)
class LinkAddresses:
    """Where devices connect to.

    Attributes:
        grpc_port: On the host that the device reached the API at.
        mqtt_port: The same for a managed broker; None if there is none.
        mqtt_broker: `host:port` of a broker elsewhere, or None.
    """

    grpc_port: int
    mqtt_port: int | None = None
    mqtt_broker: str | None = None

    def grpc(self, host: str) -> str:
        """Return where to speak gRPC, for a device that reached the API at `host`."""
        return f"{host}:{self.grpc_port}"

    def mqtt(self, host: str) -> str | None:
        """Return the broker's address, if there is one."""
        return self.mqtt_broker or (f"{host}:{self.mqtt_port}" if self.mqtt_port else None)


@dataclass(frozen=True)
class Ids:
    """Randomness: ids sort by the time they were made; a secret is 43 characters of base64url."""

    new_id: Callable[[], str]
    new_secret: Callable[[], str]


@dataclass(frozen=True)
class Parts:
    """Everything; only `main` and `make_app` see it whole."""

    database: Database
    clock: Clock
    ids: Ids
    authority: Authority
    signer: Signer
    gates: Gates
    blobs: BlobStore
    blob_credentials: BlobCredentials
    denials: Denials
    policies: Policies
    passwords: Passwords
    oidc: Provider | None  # at which people sign in; None: at none
    checkpoints: Checkpoints
    rollouts: RolloutService
    recurrences: Recurrences
    addresses: LinkAddresses
    # Ends the live session of a device that was removed: (device id, reason).
    end_session: Callable[[str, str], None]
    # Has the rows of rollouts looked at soon.
    wake: Callable[[], None]


def parts_of(request: Request) -> Parts:
    """Return the parts that `make_app` was given."""
    parts = getattr(request.state, PARTS, None)
    if not isinstance(parts, Parts):
        raise TypeError("the application was made without its parts")
    return parts


async def _all(request: Request) -> Parts:
    return parts_of(request)


_All = Annotated[Parts, Depends(_all)]


async def _database(parts: _All) -> Database:
    return parts.database


async def _now(parts: _All) -> datetime:
    return parts.clock()


async def _ids(parts: _All) -> Ids:
    return parts.ids


async def _authority(parts: _All) -> Authority:
    return parts.authority


async def _blobs(parts: _All) -> BlobStore:
    return parts.blobs


async def _signer(parts: _All) -> Signer:
    return parts.signer


async def _denials(parts: _All) -> Denials:
    return parts.denials


async def _rollouts(parts: _All) -> RolloutService:
    return parts.rollouts


async def _recurrences(parts: _All) -> Recurrences:
    return parts.recurrences


async def _exporter(parts: _All) -> Exporter:
    return Exporter(parts.database, parts.signer, parts.clock)


AllParts = _All
DatabasePart = Annotated[Database, Depends(_database)]
Now = Annotated[datetime, Depends(_now)]
IdsPart = Annotated[Ids, Depends(_ids)]
AuthorityPart = Annotated[Authority, Depends(_authority)]
BlobsPart = Annotated[BlobStore, Depends(_blobs)]
SignerPart = Annotated[Signer, Depends(_signer)]
DenialsPart = Annotated[Denials, Depends(_denials)]
RolloutsPart = Annotated[RolloutService, Depends(_rollouts)]
RecurrencesPart = Annotated[Recurrences, Depends(_recurrences)]
ExporterPart = Annotated[Exporter, Depends(_exporter)]
