"""The claim token: what a person carries from the controller to a new device, once.

    sprat1.<secret>.<fingerprint>

`secret` is 256 random bits, base64url without padding: the controller keeps only its SHA-256.
`fingerprint` is the hex SHA-256 of the controller's CA certificate (DER): with it the device knows
that it speaks to the right controller before it sends the secret.

A claim file is a token with the address to go to, for images that enrol by themselves.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Final

import msgspec

_FORM: Final = re.compile(r"sprat1\.([A-Za-z0-9_-]{43})\.([0-9a-f]{64})")


class ClaimError(ValueError):
    """The text is not a claim token."""


class ClaimFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a factory puts into an image: JSON."""

    controller: str  # https://host:port
    token: str
    image_root: str | None = None  # TUF root metadata to pin; None: first contact is trusted


@dataclass(frozen=True)
class Claim:
    """A claim token taken apart."""

    secret: str
    ca_fingerprint: str

    def __str__(self) -> str:
        """Return the token as it is handed over."""
        return f"sprat1.{self.secret}.{self.ca_fingerprint}"

    @property
    def secret_sha256(self) -> str:
        """What the controller stores instead of the secret."""
        return hashlib.sha256(self.secret.encode()).hexdigest()


def parse(text: str) -> Claim:
    """Take a token apart.

    Raises:
        ClaimError: Another form; the message never repeats the secret.
    """
    match = _FORM.fullmatch(text.strip())
    if match is None:
        raise ClaimError(
            "expected an enrolment token of the form sprat1.<secret>.<fingerprint>, as"
            f" `sprat enrolment create` prints it; found {len(text.strip())} other characters"
        )
    return Claim(match[1], match[2])


def read_file(data: bytes) -> ClaimFile:
    """Read a claim file.

    Raises:
        ClaimError: Another form.
    """
    try:
        return msgspec.json.decode(data, type=ClaimFile)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ClaimError(
            f"expected a claim file, as `sprat enrolment create --image-file` writes it: {error}"
        ) from error


def write_file(file: ClaimFile) -> bytes:
    """Return the bytes of a claim file."""
    return msgspec.json.format(msgspec.json.encode(file), indent=1)
