"""Seals of audit records: what a key can and cannot make."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sprat_proto.audit_seal import EPOCH, SealKey, epoch_of, first_key

SEED = bytes(range(32))
LEAF = hashlib.sha256(b"leaf").digest()


def test_64_records_share_a_key_from_the_first_position_on() -> None:
    assert [epoch_of(seq) for seq in (1, 64, 65, 128, 129)] == [0, 0, 1, 1, 2]
    keys = {first_key(SEED).at(seq).key for seq in range(1, 4 * EPOCH + 1)}
    assert len(keys) == 4


@given(st.integers(1, 1000), st.integers(0, 1000))
def test_a_key_leads_to_all_later_ones_and_to_none_before(seq: int, more: int) -> None:
    key = first_key(SEED).at(seq)
    assert key.at(seq + more) == first_key(SEED).at(seq + more)
    assert key.epoch == epoch_of(seq)
    if key.epoch:
        with pytest.raises(ValueError, match="epoch"):
            key.at(key.epoch * EPOCH)


@given(st.binary(min_size=32, max_size=32), st.integers(0, 31), st.integers(1, 255))
def test_a_seal_is_of_one_record_and_one_key(leaf: bytes, at: int, change: int) -> None:
    key = first_key(SEED)
    seal = key.seal(leaf)
    changed = bytearray(leaf)
    changed[at] ^= change
    assert key.is_seal(leaf, seal)
    assert not key.is_seal(bytes(changed), seal)
    assert not key.at(EPOCH + 1).is_seal(leaf, seal)
    assert not key.is_seal(leaf, seal[:31])
    assert not key.is_seal(leaf, b"")


def test_the_bytes_are_a_format() -> None:
    first = first_key(SEED)
    assert first.key == hashlib.sha256(b"sprat/v1 audit seed\0" + SEED).digest()
    second = hashlib.sha256(b"sprat/v1 audit ratchet\0" + first.key).digest()
    assert first.at(65) == SealKey(1, second)


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_seed_has_32_bytes(size: int) -> None:
    with pytest.raises(ValueError, match="32"):
        first_key(bytes(size))
