"""`sprat-controller init`: keys, first metadata, database and the first administrator's token.

Each step is done once and found done the next time, the token's file last: an interrupted `init` is
simply run again.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

# The name below is the library's documented API; it re-exports it without saying so.
# pyright: reportPrivateImportUsage=false
from securesystemslib.signer import Signer as TufSigner
from sprat_proto.trust import DIRECTOR, IMAGE

from sprat_controller import ids
from sprat_controller.access import founding
from sprat_controller.access.blob_credentials import MIN_SECRET_BYTES
from sprat_controller.clock import Clock
from sprat_controller.config import DataFolder, server_names, write_private
from sprat_controller.errors import RequestError, StartupError
from sprat_controller.fleet.ca import Root
from sprat_controller.signer import folder as signer_folder
from sprat_controller.signer.authority import make_issuer, make_root
from sprat_controller.signer.core import SignerCore
from sprat_controller.signer.folder import Settings, SignerFolder
from sprat_controller.signer.keys import (
    KeyUnusableError,
    Place,
    PrivateKey,
    new_ed25519,
    new_p256,
    open_key,
    public_pem,
    tuf_signer,
)
from sprat_controller.store.opening import open_database
from sprat_controller.store.session import Database, sqlite_url
from sprat_controller.trust import repository
from sprat_controller.trust.founding import found_director, found_image

IMAGE_ROOT: Final = tuple(f"image-root-{number}" for number in (1, 2, 3))
IMAGE_TARGETS: Final = tuple(f"image-targets-{number}" for number in (1, 2, 3))
DIRECTOR_ROOT: Final = tuple(f"director-root-{number}" for number in (1, 2, 3))
CA_ROOT: Final = "ca-root"
PASSPHRASE_FILE: Final = "passphrase"  # noqa: S105 - its name, not its content
_PASSPHRASE_BYTES: Final = 24


@dataclass(frozen=True)
class Initialised:
    """What a person needs to go on."""

    folder: DataFolder
    offline: Path
    has_own_passphrase: bool
    ca_fingerprint: str


@dataclass(frozen=True)
class _Offline:
    """The keys that must leave, and their passphrase."""

    path: Path
    passphrase: bytes

    def signers(self, names: Sequence[str]) -> dict[str, TufSigner]:
        """Return TUF signers by name, made where they are not there."""
        return {name: tuf_signer(self.key(name, new_ed25519)) for name in names}

    def key(self, name: str, make: Callable[[Path, bytes], PrivateKey]) -> PrivateKey:
        """Return a key and have its public half beside it; both are made where they are not."""
        return _key(self.path, name, self.passphrase, make)


def initialise(
    folder: DataFolder,
    hosts: Sequence[str],
    clock: Clock,
    *,
    offline: Path | None = None,
    passphrase_file: Path | None = None,
    database_url: str | None = None,
) -> Initialised:
    """Make a controller in `folder`.

    Args:
        folder: Made if it is not there.
        hosts: Names and addresses that devices and people reach the controller by, beside those of
            this machine; the first one is told to devices.
        clock: For certificates and metadata.
        offline: Where the offline keys go; None: beside the rest, to be moved away.
        passphrase_file: Holds the offline keys' passphrase; None: one is made beside them.
        database_url: Where the rows are kept; None: in a file in the folder.

    Raises:
        StartupError: There is a controller already, a folder or key cannot be written or read, or
            the database cannot be opened.
    """
    if folder.admin_token.exists():
        raise StartupError(
            "already_initialised",
            f"{folder.path} holds a controller already: use `sprat-controller run --data"
            f" {folder.path}`, or choose another folder",
        )
    place = offline or folder.offline
    try:
        folder.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        keys = _Offline(place, _passphrase(passphrase_file or place / PASSPHRASE_FILE, place))
        _make(folder, hosts, clock, keys, database_url)
    except OSError as error:
        raise StartupError(
            "data_folder",
            f"{error.filename or folder.path} cannot be written: {error.strerror or error}",
        ) from error
    except KeyUnusableError as error:
        raise StartupError("keys_unreadable", str(error)) from error
    return Initialised(folder, place, passphrase_file is not None, Root.load(folder.ca).fingerprint)


def screen(made: Initialised) -> str:
    """Return what `init` tells: which keys there are, which must go, and how."""
    data, offline = made.folder.path, made.offline
    passphrase = "" if made.has_own_passphrase else f" Its passphrase is in {offline}/passphrase."
    return f"""\
controller made in {data}
administrator's token: {made.folder.admin_token}
CA fingerprint (SHA-256): {made.ca_fingerprint}

Keys that must leave this machine now, in {offline} (encrypted).{passphrase}
  image-root-1..3     2 of 3 name all other keys of the image repository   three holders
  image-targets-1..3  2 of 3 say who may publish what, and who approves    release managers
  director-root-1..3  2 of 3 name the director's key                       three holders
  ca-root             certifies the issuer of TLS certificates             a safe
Copy each to its holder, keep the passphrase apart from the files, then remove them here:
  cp {offline}/image-root-1.* /media/HOLDER-1/    (and so on)
  find {offline} -type f -exec shred --remove {{}} +
Until then whoever owns this machine owns the fleet. `sprat publishers add NAME FILE.pub --keys
{offline}` is what the targets keys are needed for next.

Keys that stay, in {data}/signer, used by the signer alone:
  director-online     signs plans          image-online   signs snapshot and timestamp
  ca-issuer           certifies devices and servers
  audit-log           signs checkpoints of the audit log

How keys are replaced: docs/runbook-trust.md. What a stolen key can do: docs/security.md.
next: sprat-controller run --data {data}"""


def _make(
    folder: DataFolder,
    hosts: Sequence[str],
    clock: Clock,
    offline: _Offline,
    database_url: str | None,
) -> None:
    now = clock()
    root_key = _p256(offline.key(CA_ROOT, new_p256))
    if not folder.ca.exists():
        _write_public(folder.ca, make_root(root_key, now).public_bytes(Encoding.PEM))
    signer = _signer(folder, hosts, root_key, now)
    if not folder.blob_secret.exists():
        write_private(folder.blob_secret, secrets.token_bytes(MIN_SECRET_BYTES))
    settings = {"hosts": list(hosts), "machine": socket.gethostname(), "database": database_url}
    write_private(folder.settings, json.dumps(settings).encode())
    database = open_database(database_url or sqlite_url(folder.database))
    try:
        _found(database, signer, offline, clock)
        token = _first_token(database, clock, now)
    finally:
        database.close()
    write_private(folder.admin_token, f"{token}\n".encode())


def _signer(
    data: DataFolder, hosts: Sequence[str], root_key: ec.EllipticCurvePrivateKey, now: datetime
) -> SignerFolder:
    """Return the signer's folder, made where it is not."""
    signer = SignerFolder(data.signer)
    signer.path.mkdir(exist_ok=True, mode=0o700)
    passphrase = _passphrase(signer.passphrase_file, signer.path)
    for name in (signer_folder.DIRECTOR, signer_folder.IMAGE, signer_folder.LOG):
        _key(signer.path, name, passphrase, new_ed25519)
    issuer = _p256(_key(signer.path, signer_folder.ISSUER, passphrase, new_p256))
    if not signer.issuer_certificate.exists():
        root = x509.load_pem_x509_certificate(data.ca.read_bytes())
        made = make_issuer(root, root_key, issuer.public_key(), now)
        _write_public(signer.issuer_certificate, made.public_bytes(Encoding.PEM))
    names = server_names(hosts, "127.0.0.1", socket.gethostname())
    settings = Settings(server_names=names, users=[os.geteuid()])
    write_private(signer.settings_file, msgspec.json.encode(settings))
    return signer


def _found(database: Database, folder: SignerFolder, offline: _Offline, clock: Clock) -> None:
    """Make the first metadata of both repositories, unless it is there."""
    with database.reading() as session:
        if repository.names(session, DIRECTOR):
            return
    # What an interrupted run had signed was never kept; nobody else has asked this signer.
    for path in folder.path.glob("signer.db*"):
        path.unlink()
    core = folder.open(clock)
    try:
        _publish_first(database, core, folder, offline, clock())
    finally:
        core.close()


def _publish_first(
    database: Database, core: SignerCore, folder: SignerFolder, offline: _Offline, now: datetime
) -> None:
    passphrase = folder.passphrase()
    online = {
        name: open_key(Place(f"file:{name}.pem", folder.path, passphrase))
        for name in (signer_folder.DIRECTOR, signer_folder.IMAGE)
    }
    named = {name: (name, tuf_signer(key).public_key) for name, key in online.items()}
    files: Mapping[str, Mapping[str, bytes]] = {
        IMAGE: found_image(
            offline.signers(IMAGE_ROOT),
            offline.signers(IMAGE_TARGETS),
            named[signer_folder.IMAGE],
            now,
        ),
        DIRECTOR: found_director(
            offline.signers(DIRECTOR_ROOT), named[signer_folder.DIRECTOR], now
        ),
    }
    try:
        with database.transaction() as session:
            repository.found(session, core, {IMAGE: files[IMAGE], DIRECTOR: files[DIRECTOR]}, now)
    except RequestError as error:
        raise StartupError(error.code, error.message) from error


def _key(
    folder: Path, name: str, passphrase: bytes, make: Callable[[Path, bytes], PrivateKey]
) -> PrivateKey:
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    if private.exists():
        key = open_key(Place(f"file:{private.name}", folder, passphrase))
    else:
        key = make(private, passphrase)
    if not public.exists():
        _write_public(public, public_pem(key))
    return key


def _p256(key: PrivateKey) -> ec.EllipticCurvePrivateKey:
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise KeyUnusableError(f"expected a P-256 key, found {type(key).__name__}")
    return key


def _passphrase(path: Path, own: Path) -> bytes:
    """Return the passphrase in a file; in a folder of ours it is made where there is none."""
    if path.parent == own and not path.exists():
        write_private(path, secrets.token_urlsafe(_PASSPHRASE_BYTES).encode())
    passphrase = path.read_bytes().strip()
    if not passphrase:
        raise KeyUnusableError(f"expected a passphrase in {path}, found nothing")
    return passphrase


def _write_public(path: Path, data: bytes) -> None:
    write_private(path, data)
    path.chmod(0o644)


def _first_token(database: Database, clock: Clock, now: datetime) -> str:
    """Make the first administrator, a person, and a token of theirs."""
    with database.transaction() as session:
        # Of an interrupted `init` the one before is revoked: nobody ever saw its text.
        return founding.let_in(
            session, now=now, new_id=ids.time_ordered(clock), new_secret=ids.new_secret
        )
