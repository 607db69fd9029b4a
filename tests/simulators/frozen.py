"""What people sign: a rollout's frozen specification, a group's statement, and their manifest."""

from __future__ import annotations

from typing import Any

import msgspec
from sprat_controller.rollout import signed_strategy, timing
from sprat_controller.rollout.strategy import ALL_AT_ONCE, Strategy
from sprat_proto import approval, bundle, canonical, manifest, signing
from sprat_proto.approval import RolloutSpec
from sprat_proto.assignment import AssignedModel, Policy, spelled_windows
from sprat_proto.bundle import OfflineStatement

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
STATEMENT = OfflineStatement(
    schema=1,
    group="lyon",
    counter=7,
    issued=1_790_000_000,
    not_after=1_790_086_400,
    models=[
        AssignedModel(
            alias="assistant",
            publisher="ann",
            model="talk",
            release="1.0.0",
            variant="q4_0",
            digest=SPEC.digests[0],
            size=len(MANIFEST),
            execution_id="offline-7-assistant",
            rollout_id="offline-7",
        )
    ],
    policy=Policy(),
)
DRAFT = signing.unsigned(bundle.encode_statement(STATEMENT), bundle.STATEMENT_TYPE)


def freeze(
    api: OperatorApi, rollout_id: str, strategy: Strategy = ALL_AT_ONCE, **changes: Any
) -> bytes:
    """Have the rollout wait for the approval of a specification, and return its bytes."""
    spec = msgspec.structs.replace(
        SPEC,
        rollout_id=rollout_id,
        max_in_progress=strategy.pace.max_in_progress,
        windows=spelled_windows(timing.windows_of(strategy)),
        strategy_sha256=signed_strategy.digest_of(strategy),
        **changes,
    )
    api.strategies[rollout_id] = signed_strategy.document(strategy).decode()
    api.blobs[canonical.sha256_hex(MANIFEST)] = MANIFEST
    for release in api.models.get("talk", []):
        release["variants"] = [{"variant": "q4_0", "digest": SPEC.digests[0]}]
    api.specs[rollout_id] = approval.encode(spec).decode()
    return approval.encode(spec)
