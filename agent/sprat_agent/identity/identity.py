"""The enrolled device: what is on disk in `DIR/identity`, and reading it.

identity-key.pem    the identity key, mode 0600, for the device's life (unless it is in a token)
tls.pem             the TLS key and its certificate with the chain: one file, replaced as one
pending-key.pem     the next TLS key, while its certificate is asked for
audit-key.pem       the key that signs the audit log's checkpoints, mode 0600
audit-seed          what the seals of audit records begin with; gone once the journal has begun
ca.pem              whom the device trusts to be its controller
image-root.json     where its trust in the image repository begins (TUF root)
director-root.json  where its trust in the director begins
identity.json       names and addresses; written last: without it nothing is enrolled
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

FOLDER: Final = "identity"
IDENTITY_FILE: Final = "identity.json"
IDENTITY_KEY_FILE: Final = "identity-key.pem"
TLS_FILE: Final = "tls.pem"
PENDING_KEY_FILE: Final = "pending-key.pem"
AUDIT_KEY_FILE: Final = "audit-key.pem"
AUDIT_SEED_FILE: Final = "audit-seed"
CA_FILE: Final = "ca.pem"
IMAGE_ROOT_FILE: Final = "image-root.json"
DIRECTOR_ROOT_FILE: Final = "director-root.json"


class IdentityError(Exception):
    """The device is not enrolled, or its identity on disk is damaged."""


@dataclass(frozen=True)
class Identity:
    """Who this device is and whom it trusts.

    Attributes:
        device_id: Its name, for ever.
        group: Pinned at enrolment; whose approvals count is by group.
        folder: Where its files are.
        controller_url: `https://host:port` of the controller's API.
        grpc: `host:port`.
        mqtt: `host:port` of the broker; None: there is none.
        identity_key: `file`, or the PKCS#11 URI of the key (RFC 7512).
        image_root: TUF root of the image repository that was pinned, of whatever version.
        director_root: The same of the director.
    """

    device_id: str
    group: str
    folder: Path
    controller_url: str
    grpc: str
    mqtt: str | None
    identity_key: str
    image_root: bytes
    director_root: bytes

    @property
    def tls_path(self) -> Path:
        """The TLS key and the certificate with its chain, PEM, in this order."""
        return self.folder / TLS_FILE

    @property
    def identity_key_path(self) -> Path:
        """The identity key, PEM, unless it is in a token."""
        return self.folder / IDENTITY_KEY_FILE

    @property
    def pending_key_path(self) -> Path:
        """The next TLS key, PEM; there only while its certificate is asked for."""
        return self.folder / PENDING_KEY_FILE

    @property
    def ca_path(self) -> Path:
        """The controller's certificate authority, PEM."""
        return self.folder / CA_FILE


class Stored(msgspec.Struct, frozen=True):
    """identity.json."""

    device_id: str
    group: str
    controller_url: str
    grpc: str
    mqtt: str | None
    identity_key: str


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
    for path in (identity.tls_path, identity.ca_path):
        if not path.is_file():
            raise IdentityError(f"{path} is missing: remove {folder} and enrol anew")
    return identity


def from_stored(stored: Stored, folder: Path) -> Identity:
    """Return the identity that `stored` describes, whose files are in `folder`.

    Raises:
        IdentityError: A root of trust is missing.
    """
    return Identity(
        device_id=stored.device_id,
        group=stored.group,
        folder=folder,
        controller_url=stored.controller_url,
        grpc=stored.grpc,
        mqtt=stored.mqtt,
        identity_key=stored.identity_key,
        image_root=_root(folder / IMAGE_ROOT_FILE),
        director_root=_root(folder / DIRECTOR_ROOT_FILE),
    )


def _root(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise IdentityError(
            f"{path} cannot be read ({error}): remove {path.parent} and enrol anew"
        ) from error
