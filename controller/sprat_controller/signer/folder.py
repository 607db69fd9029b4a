"""The signer's folder: its settings, keys and records; made once, opened at each start.

signer.json        where the keys are, for which names a server's certificate may be made
passphrase         of the keys in files; or in the folder that systemd names in
                   CREDENTIALS_DIRECTORY, as `sprat-signer-passphrase`
*.pem              the keys, encrypted; the issuer's certificate
signer.db          what was signed
signer.sock        where it is asked
"""

from __future__ import annotations

import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from sprat_controller.clock import Clock
from sprat_controller.errors import StartupError
from sprat_controller.signer.authority import Issuer
from sprat_controller.signer.core import Keys, SignerCore
from sprat_controller.signer.keys import (
    FILE,
    KeyUnusableError,
    Place,
    PrivateKey,
    new_ed25519,
    open_key,
)
from sprat_controller.signer.limits import Limits
from sprat_controller.signer.records import Records

DIRECTOR: Final = "director-online"
IMAGE: Final = "image-online"
ISSUER: Final = "ca-issuer"
LOG: Final = "audit-log"
_CREDENTIAL: Final = "sprat-signer-passphrase"


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """signer.json."""

    director: str = f"file:{DIRECTOR}.pem"
    image: str = f"file:{IMAGE}.pem"
    issuer: str = f"file:{ISSUER}.pem"
    log: str = f"file:{LOG}.pem"
    former_issuer: str = f"file:{ISSUER}.old.pem"  # used while its certificate is there
    former_log: str = f"file:{LOG}.old.pem"  # used while it is there
    server_names: list[str] = []
    # Who may ask, beside the signer's own user and root.
    users: list[int] = []


@dataclass(frozen=True)
class SignerFolder:
    """Where everything is that the signer keeps."""

    path: Path

    @property
    def socket(self) -> Path:
        """Where it is asked."""
        return self.path / "signer.sock"

    @property
    def lock(self) -> Path:
        """Held by the process that signs."""
        return self.path / "lock"

    @property
    def issuer_certificate(self) -> Path:
        """The issuer's certificate, PEM."""
        return self.path / "ca-issuer.crt.pem"

    @property
    def former_certificate(self) -> Path:
        """The certificate of the issuer before, PEM; not there before the first rotation."""
        return self.path / "ca-issuer.old.crt.pem"

    @property
    def settings_file(self) -> Path:
        """The settings."""
        return self.path / "signer.json"

    @property
    def passphrase_file(self) -> Path:
        """The passphrase of the keys in files."""
        return self.path / "passphrase"

    def key_file(self, name: str) -> Path:
        """Return where a key is."""
        return self.path / f"{name}.pem"

    def settings(self) -> Settings:
        """Return the settings.

        Raises:
            StartupError: They cannot be read.
        """
        try:
            return msgspec.json.decode(self.settings_file.read_bytes(), type=Settings)
        except (OSError, msgspec.DecodeError) as error:
            raise StartupError(
                "signer_settings",
                f"expected {self.settings_file} as `sprat-controller init` makes it: {error}",
            ) from error

    def passphrase(self) -> bytes | None:
        """Return the passphrase of the keys in files; None: there is none."""
        credentials = os.environ.get("CREDENTIALS_DIRECTORY")
        places = [Path(credentials, _CREDENTIAL)] if credentials else []
        for place in [*places, self.passphrase_file]:
            try:
                return place.read_bytes().strip()
            except FileNotFoundError:
                continue
            except OSError as error:
                raise StartupError(
                    "signer_passphrase", f"the passphrase in {place} cannot be read: {error}"
                ) from error
        return None

    def open(self, clock: Clock) -> SignerCore:
        """Return the signer of this folder. Blocking.

        Raises:
            StartupError: A key cannot be had, or the records cannot be opened.
        """
        settings, passphrase = self.settings(), self.passphrase()
        try:
            keys = Keys(
                director=self._key(settings.director, passphrase),
                image=self._key(settings.image, passphrase),
                issuer=_p256(self._key(settings.issuer, passphrase)),
                issuer_certificate=_certificate(self.issuer_certificate),
                former=self._former(settings, passphrase),
                log=self._log_key(settings.log, passphrase),
                former_log=self._former_log(settings, passphrase),
            )
            _check_pair(keys, settings.issuer)
            records = Records(self.path / "signer.db")
        except (KeyUnusableError, OSError, ValueError, sqlite3.Error) as error:
            raise StartupError("signer_keys", f"the signer cannot start: {error}") from error
        limits = Limits(server_names=frozenset(settings.server_names) or None)
        return SignerCore(keys, records, clock, limits)

    def _former(self, settings: Settings, passphrase: bytes | None) -> Issuer | None:
        if not self.former_certificate.exists():
            return None
        key = _p256(self._key(settings.former_issuer, passphrase))
        return Issuer(_certificate(self.former_certificate), key)

    def _former_log(
        self, settings: Settings, passphrase: bytes | None
    ) -> ed25519.Ed25519PrivateKey | None:
        file = settings.former_log.removeprefix(FILE)
        is_gone = settings.former_log.startswith(FILE) and not (self.path / file).exists()
        return None if is_gone else self._ed25519(settings.former_log, passphrase)

    def _log_key(self, uri: str, passphrase: bytes | None) -> ed25519.Ed25519PrivateKey:
        """Return the audit log's key; a folder of before gets one."""
        path = self.key_file(LOG)
        if uri == f"{FILE}{path.name}" and passphrase is not None and not path.exists():
            return new_ed25519(path, passphrase)
        return self._ed25519(uri, passphrase)

    def _ed25519(self, uri: str, passphrase: bytes | None) -> ed25519.Ed25519PrivateKey:
        key = self._key(uri, passphrase)
        if not isinstance(key, ed25519.Ed25519PrivateKey):
            raise KeyUnusableError(
                f"expected an Ed25519 key for the audit log, found {type(key).__name__}"
            )
        return key

    def _key(self, uri: str, passphrase: bytes | None) -> PrivateKey:
        return open_key(Place(uri, self.path, passphrase))


def _certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        raise KeyUnusableError(f"expected a certificate in {path}: {error}") from error


def _check_pair(keys: Keys, uri: str) -> None:
    if keys.issuer.public_key() != keys.issuer_certificate.public_key():
        raise KeyUnusableError(f"{uri} is not the private key of the issuer's certificate")


def _p256(key: PrivateKey) -> ec.EllipticCurvePrivateKey:
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise KeyUnusableError(f"expected a P-256 key for the issuer, found {type(key).__name__}")
    return key
