"""From a variant's manifest to what fit judges: the same on both sides. Pure."""

from __future__ import annotations

from sprat_proto.fit import Candidate
from sprat_proto.manifest import Manifest


def candidate_of(read: Manifest, digest: str) -> Candidate:
    """Return the variant that a manifest of this digest describes."""
    return Candidate(
        variant=read.variant,
        digest=digest,
        runtime=read.runtime,
        hardware_ids=tuple(read.hardware_ids),
        disk_needed=read.disk_needed,
        facts=read.facts,
        adapters_bytes=sum(one.size for one in read.adapters),
        evaluation=read.evaluation,
        policy=read.policy,
        needs=read.activation.needs,
    )
