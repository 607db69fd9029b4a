"""TUF metadata read, made and told in words: what the other files of this room share. No I/O."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final, TypeVar, cast

# The names below are the libraries' documented API; they re-export them without saying so.
# pyright: reportPrivateImportUsage=false
from securesystemslib.exceptions import UnverifiedSignatureError, VerificationError
from securesystemslib.signer import Key, Signer
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, Snapshot, Targets, Timestamp
from tuf.api.serialization import DeserializationError
from tuf.api.serialization.json import JSONSerializer

T = TypeVar("T", Root, Timestamp, Snapshot, Targets)

# A key's name for people, in the metadata beside its id (which does not depend on it).
NAME_FIELD: Final = "x-sprat-name"
COMPACT: Final = JSONSerializer(compact=True)
_SHOWN: Final = 12  # characters of a key id


class MetadataError(ValueError):
    """These bytes are not the metadata that they should be; one sentence."""


def read(data: bytes, kind: type[T], what: str) -> Metadata[T]:
    """Return metadata of this kind.

    Raises:
        MetadataError: It is none, or of another kind.
    """
    metadata = _parse(data, what)
    if not isinstance(metadata.signed, kind):
        found = type(metadata.signed).__name__.lower()
        raise MetadataError(f"{what}: expected {kind.__name__.lower()} metadata, found {found}")
    return cast("Metadata[T]", metadata)


def seal(signed: T, signers: Iterable[Signer]) -> bytes:
    """Return the metadata signed by each of the signers, in the compact form."""
    metadata = Metadata(signed)
    for signer in signers:
        metadata.sign(signer, append=True)
    return metadata.to_bytes(COMPACT)


def add_signature(data: bytes, signer: Signer, what: str) -> bytes:
    """Return metadata with one signature more; an older one of the same key is replaced.

    Raises:
        MetadataError: It is none.
    """
    metadata = _parse(data, what)
    metadata.sign(signer, append=True)
    return metadata.to_bytes(COMPACT)


def is_signed_by(metadata: Metadata[Any], key: Key) -> bool:
    """Tell whether this key signed exactly this."""
    signature = metadata.signatures.get(key.keyid)
    if signature is None:
        return False
    try:
        key.verify_signature(signature, metadata.signed_bytes)
    except (UnverifiedSignatureError, VerificationError):
        return False
    return True


def _parse(data: bytes, what: str) -> Metadata[Any]:
    try:
        return Metadata[Any].from_bytes(data)
    except (DeserializationError, RepositoryError, ValueError) as error:
        raise MetadataError(f"{what}: expected TUF metadata: {error.__cause__ or error}") from error


def named(key: Key, name: str) -> Key:
    """Return the key with a name for people; its id stays."""
    key.unrecognized_fields[NAME_FIELD] = name
    return key


def name_of(key: Key) -> str:
    """Return what people call a key: its name and the beginning of its id."""
    name = key.unrecognized_fields.get(NAME_FIELD)
    short = key.keyid[:_SHOWN]
    return f"{name} ({short})" if isinstance(name, str) and name else short


def is_meant(key: Key, text: str) -> bool:
    """Tell whether `text` names the key: its name, its id, or the beginning of its id."""
    return key.unrecognized_fields.get(NAME_FIELD) == text or (
        len(text) >= 8 and key.keyid.startswith(text)  # noqa: PLR2004 - 32 bits tell keys apart
    )


def until(moment: datetime) -> str:
    """Return a date as it stands in plans and reports."""
    return moment.strftime("%Y-%m-%d")
