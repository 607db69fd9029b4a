"""Canonical JSON for what is hashed or signed: integers and strings only, keys sorted, UTF-8.

For this subset the bytes agree with RFC 8785. Floats are refused by the types (`msgspec.Struct`
fields are int, str, bool and containers of them): they do not survive every language unchanged.
"""

from __future__ import annotations

import hashlib
from typing import TypeVar

import msgspec

T = TypeVar("T")

# Deterministic order is what makes the bytes canonical.
_encoder = msgspec.json.Encoder(order="sorted")


class NotCanonicalError(ValueError):
    """The bytes do not hold the expected structure, or not in its one canonical form."""


def encode(value: object) -> bytes:
    """Return the canonical bytes of a struct, mapping, list, string, integer or boolean."""
    return _encoder.encode(value)


def decode(data: bytes, kind: type[T], what: str) -> T:
    """Read `kind` from canonical bytes.

    Args:
        data: The bytes as they were hashed or signed.
        kind: A `msgspec.Struct` type.
        what: What the bytes are, for the error.

    Raises:
        NotCanonicalError: Wrong structure, an unknown field, or another spelling of the same value.
    """
    try:
        value = msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise NotCanonicalError(f"{what}: {error}") from error
    if encode(value) != data:
        raise NotCanonicalError(
            f"{what}: expected canonical JSON (sorted keys, no spaces), found another spelling"
        )
    return value


def sha256_hex(data: bytes) -> str:
    """Return the lower-case hex SHA-256 of `data`."""
    return hashlib.sha256(data).hexdigest()
