"""What seals the audit log, on disk."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from sprat_agent.identity import audit_keys
from sprat_agent.identity.identity import IdentityError


def test_they_are_made_once_and_for_their_owner_only(tmp_path: Path) -> None:
    key, seed = audit_keys.open_or_create(tmp_path)
    again, same = audit_keys.open_or_create(tmp_path)
    assert audit_keys.public_pem(again) == audit_keys.public_pem(key)
    assert same == seed == audit_keys.read_seed(tmp_path)
    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_an_erased_seed_is_gone_and_a_second_time_changes_nothing(tmp_path: Path) -> None:
    _, seed = audit_keys.open_or_create(tmp_path)
    for _ in range(2):
        audit_keys.erase_seed(tmp_path)
        assert audit_keys.read_seed(tmp_path) is None
    assert not any(seed in path.read_bytes() for path in tmp_path.iterdir())
    assert audit_keys.open_key(tmp_path)


def test_what_is_no_key_or_no_seed_is_said(tmp_path: Path) -> None:
    with pytest.raises(IdentityError, match="enrol anew"):
        audit_keys.open_key(tmp_path)
    (tmp_path / "audit-seed").write_bytes(b"short")
    with pytest.raises(IdentityError, match="found 5"):
        audit_keys.read_seed(tmp_path)
    other = ec.generate_private_key(ec.SECP256R1())
    pem = other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "audit-key.pem").write_bytes(pem)
    with pytest.raises(IdentityError, match="Ed25519"):
        audit_keys.open_key(tmp_path)
