"""`sprat-controller init`: keys, database and the first administrator's token.

Each step is done once and found done the next time, the token's file last: an interrupted `init` is
simply run again.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sprat_proto.signing import generate_private_pem

from sprat_controller import ids
from sprat_controller.access import tokens
from sprat_controller.access.blob_credentials import MIN_SECRET_BYTES
from sprat_controller.access.policy import Role
from sprat_controller.clock import Clock
from sprat_controller.config import DataFolder, write_private
from sprat_controller.errors import StartupError
from sprat_controller.fleet.ca import CertificateAuthority
from sprat_controller.store import migrations, queries
from sprat_controller.store.session import Database, sqlite_url

ADMIN: Final = "admin"
_ACTOR: Final = "controller"


@dataclass(frozen=True)
class Initialised:
    """What a person needs to go on."""

    folder: DataFolder
    ca_fingerprint: str


def initialise(folder: DataFolder, hosts: Sequence[str], clock: Clock) -> Initialised:
    """Make a controller in `folder`.

    Args:
        folder: Made if it is not there.
        hosts: Names and addresses that devices and people reach the controller by, beside those of
            this machine; the first one is told to devices.
        clock: For the certificates.

    Raises:
        StartupError: There is a controller already, or the folder cannot be written.
    """
    if folder.admin_token.exists():
        raise StartupError(
            "already_initialised",
            f"{folder.path} holds a controller already: use `sprat-controller run --data"
            f" {folder.path}`, or choose another folder",
        )
    try:
        folder.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        return _make(folder, hosts, clock)
    except OSError as error:
        raise StartupError(
            "data_folder", f"{folder.path} cannot be written: {error.strerror or error}"
        ) from error


def _make(folder: DataFolder, hosts: Sequence[str], clock: Clock) -> Initialised:
    now = clock()
    authority = _authority(folder, now)
    if not folder.assignment_key.exists():
        write_private(folder.assignment_key, generate_private_pem())
    if not folder.blob_secret.exists():
        write_private(folder.blob_secret, secrets.token_bytes(MIN_SECRET_BYTES))
    write_private(folder.settings, json.dumps({"hosts": list(hosts)}).encode())
    database = Database(sqlite_url(folder.database))
    try:
        migrations.upgrade(database)
        token = _first_token(database, clock, now)
    finally:
        database.close()
    write_private(folder.admin_token, f"{token}\n".encode())
    return Initialised(folder, authority.fingerprint)


def _authority(folder: DataFolder, now: datetime) -> CertificateAuthority:
    if (folder.path / "ca.pem").exists():
        return CertificateAuthority.load(folder.path)
    return CertificateAuthority.create(folder.path, now)


def _first_token(database: Database, clock: Clock, now: datetime) -> str:
    with database.transaction() as session:
        # Of an interrupted `init`: nobody ever saw its text.
        for row in queries.operator_tokens(session):
            tokens.revoke(session, row.id, actor=_ACTOR, now=now)
        session.flush()
        _, text = tokens.mint(
            session,
            name=ADMIN,
            role=Role.ADMIN,
            actor=_ACTOR,
            now=now,
            new_id=ids.time_ordered(clock),
            new_secret=ids.new_secret,
        )
    return text
