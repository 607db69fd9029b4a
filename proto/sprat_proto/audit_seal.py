"""Forward-secure seals of a device's audit records: the same on both sides. Pure.

A record's seal is HMAC-SHA256(key of its epoch, its leaf hash). `EPOCH` records share a key; the
next epoch's is the hash of it, and the device erases the old one. Who takes a device over has the
key of the present epoch: he can forge what is in it, and nothing before. Epochs follow the
positions and not the clock, so a clock that jumps opens nothing (systemd's issues 28885 and 28886
are about journald's, which follow the clock).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

EPOCH: Final = 64
KEY_BYTES: Final = 32
SEAL_BYTES: Final = 32
_FIRST: Final = b"sprat/v1 audit seed\0"
_RATCHET: Final = b"sprat/v1 audit ratchet\0"


@dataclass(frozen=True)
class SealKey:
    """The key of one epoch.

    Attributes:
        epoch: 0, 1, 2 … : of the records at the positions 64 n + 1 to 64 n + 64.
        key: 32 bytes.
    """

    epoch: int
    key: bytes

    def at(self, seq: int) -> SealKey:
        """Return the key for the record at a position, from 1.

        Raises:
            ValueError: The position is of an epoch before this one, whose key cannot be had.
        """
        wanted = epoch_of(seq)
        if wanted < self.epoch:
            raise ValueError(f"expected a record of epoch {self.epoch} or later, found {wanted}")
        *_, last = self._on_to(wanted)
        return last

    def seal(self, leaf_hash: bytes) -> bytes:
        """Return the seal of a record of this epoch."""
        return hmac.digest(self.key, leaf_hash, "sha256")

    def is_seal(self, leaf_hash: bytes, found: bytes) -> bool:
        """Tell whether it is the seal of this record."""
        return hmac.compare_digest(self.seal(leaf_hash), found)

    def _on_to(self, epoch: int) -> Iterator[SealKey]:
        one = self
        yield one
        while one.epoch < epoch:
            one = SealKey(one.epoch + 1, hashlib.sha256(_RATCHET + one.key).digest())
            yield one


def first_key(seed: bytes) -> SealKey:
    """Return the key of the first epoch.

    Raises:
        ValueError: The seed has not 32 bytes.
    """
    if len(seed) != KEY_BYTES:
        raise ValueError(f"expected a seed of {KEY_BYTES} bytes, found {len(seed)}")
    return SealKey(0, hashlib.sha256(_FIRST + seed).digest())


def epoch_of(seq: int) -> int:
    """Return the epoch of the record at a position, from 1."""
    return (seq - 1) // EPOCH
