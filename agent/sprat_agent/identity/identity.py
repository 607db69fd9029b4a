"""The enrolled device: what is on disk in `DIR/identity`, and reading it.

key.pem           the device's private key, mode 0600; it never leaves the device
certificate.pem   the controller's word for who this device is
ca.pem            whom the device trusts to be its controller
identity.json     names, addresses and keys; written last: without it nothing is enrolled
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
from sprat_proto.signing import TrustedKey

FOLDER: Final = "identity"
IDENTITY_FILE: Final = "identity.json"


class IdentityError(Exception):
    """The device is not enrolled, or its identity on disk is damaged."""


@dataclass(frozen=True)
class Identity:
    """Who this device is and whom it trusts."""

    device_id: str
    folder: Path
    controller_url: str
    grpc: str  # host:port
    mqtt: str | None  # host:port
    assignment_key: TrustedKey
    publishers: tuple[TrustedKey, ...]

    @property
    def key_path(self) -> Path:
        """The private key, PEM."""
        return self.folder / "key.pem"

    @property
    def certificate_path(self) -> Path:
        """The device's certificate, PEM."""
        return self.folder / "certificate.pem"

    @property
    def ca_path(self) -> Path:
        """The controller's certificate authority, PEM."""
        return self.folder / "ca.pem"


class Key(msgspec.Struct, frozen=True):
    """A trusted key as it stands in JSON."""

    name: str
    public_pem: str

    def trusted(self) -> TrustedKey:
        """Return it as the key that verifies."""
        return TrustedKey(self.name, self.public_pem)


class Stored(msgspec.Struct, frozen=True):
    """identity.json."""

    device_id: str
    controller_url: str
    grpc: str
    mqtt: str | None
    assignment_key: Key
    publishers: list[Key]


def load(state_dir: Path) -> Identity:
    """Return the identity that enrolment left in `state_dir`.

    Raises:
        IdentityError: There is none, or it is not whole.
    """
    folder = state_dir / FOLDER
    try:
        stored = msgspec.json.decode((folder / IDENTITY_FILE).read_bytes(), type=Stored)
    except FileNotFoundError as error:
        raise IdentityError(
            f"{state_dir} holds no enrolled device: run `sprat-agent enrol` with a token from"
            " `sprat enrolment create`"
        ) from error
    except (OSError, msgspec.DecodeError) as error:
        raise IdentityError(
            f"{folder / IDENTITY_FILE} cannot be read ({error}): remove {folder} and enrol anew"
        ) from error
    identity = from_stored(stored, folder)
    for path in (identity.key_path, identity.certificate_path, identity.ca_path):
        if not path.is_file():
            raise IdentityError(f"{path} is missing: remove {folder} and enrol anew")
    return identity


def from_stored(stored: Stored, folder: Path) -> Identity:
    """Return the identity that `stored` describes, whose files are in `folder`."""
    return Identity(
        device_id=stored.device_id,
        folder=folder,
        controller_url=stored.controller_url,
        grpc=stored.grpc,
        mqtt=stored.mqtt,
        assignment_key=stored.assignment_key.trusted(),
        publishers=tuple(key.trusted() for key in stored.publishers),
    )
