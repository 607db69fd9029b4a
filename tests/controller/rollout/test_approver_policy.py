from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from sprat_controller.errors import ConflictError
from sprat_controller.registry.blobs import BlobStore
from sprat_controller.rollout import approver_policy
from sprat_controller.store.session import Database
from sprat_controller.store.tables import TrustMetadata
from sprat_proto import approval, trust
from sprat_proto.approval import Approver, ApproverPolicy, GroupPolicy
from sprat_proto.signing import SigningKey, generate_private_pem

KEY = SigningKey(generate_private_pem())


def policy(threshold: int) -> ApproverPolicy:
    group = GroupPolicy("lyon", "controller", threshold)
    return ApproverPolicy(schema=1, approvers=[Approver("ann", KEY.public_pem)], groups=[group])


def release(database: Database, version: int, data: bytes | None, role: str = "targets") -> None:
    """Publish top-level targets that name the policy."""
    targets = {}
    if data is not None:
        targets[trust.POLICY_PATH] = {"hashes": {"sha256": hashlib.sha256(data).hexdigest()}}
    with database.transaction() as session:
        session.add(
            TrustMetadata(
                repository=trust.IMAGE,
                role=role,
                version=version,
                data=json.dumps({"signed": {"targets": targets}}).encode(),
            )
        )


def store(blobs: BlobStore, data: bytes) -> bytes:
    upload = blobs.begin(hashlib.sha256(data).hexdigest(), len(data))
    upload.write(data)
    upload.finish()
    return data


def test_the_newest_targets_say_who_approves(database: Database, tmp_path: Path) -> None:
    blobs = BlobStore(tmp_path)
    read = approver_policy.published(blobs)
    with database.reading() as session:
        assert read(session) == approval.NOBODY
    release(database, 9, None)
    with database.reading() as session:
        assert read(session) == approval.NOBODY
    release(database, 10, store(blobs, approval.encode_policy(policy(3))))
    release(database, 2, store(blobs, approval.encode_policy(policy(2))))
    release(database, 11, b"of a publisher", role="pub-ann")
    with database.reading() as session:
        assert read(session) == policy(3)


@pytest.mark.parametrize("is_there", [True, False])
def test_a_policy_that_cannot_be_read_is_not_taken_for_none(
    database: Database, tmp_path: Path, *, is_there: bool
) -> None:
    blobs = BlobStore(tmp_path)
    data = b"no policy"
    release(database, 1, store(blobs, data) if is_there else data)
    with database.reading() as session, pytest.raises(ConflictError, match="publish it again"):
        approver_policy.published(blobs)(session)
