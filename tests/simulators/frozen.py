"""A rollout's frozen specification, and the manifest that it brings, at a controller in memory."""

from __future__ import annotations

from typing import Any

import msgspec
from sprat_proto import approval, canonical, manifest
from sprat_proto.approval import RolloutSpec

from simulators.controlled import a_manifest
from simulators.operator_api import OperatorApi

MANIFEST = manifest.encode(a_manifest("q4_0", 100, model="talk", release="1.0.0", counter=1))
SPEC = RolloutSpec(
    schema=1,
    rollout_id="r-1",
    alias="assistant",
    digests=[canonical.sha256_hex(MANIFEST)],
    groups=["lyon", "oslo"],
    context=2048,
    max_in_progress=0,
    run_until=0,
    requested_by="carol",
    requester_key_id="",
    not_after=1_795_000_000,
)


def freeze(api: OperatorApi, rollout_id: str, **changes: Any) -> bytes:
    """Have the rollout wait for the approval of a specification, and return its bytes."""
    spec = msgspec.structs.replace(SPEC, rollout_id=rollout_id, **changes)
    api.blobs[canonical.sha256_hex(MANIFEST)] = MANIFEST
    api.specs[rollout_id] = approval.encode(spec).decode()
    return approval.encode(spec)
