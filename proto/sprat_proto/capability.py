"""What an agent or controller understands: one integer, a dated line for each version of it.

A side that meets a lower number than it needs says so and goes on with what both understand; a
number is never reused and a line never edited.

1 (2026-11-23): link v1; manifest schema 1; assignment schema 1; hash-chained audit.
2 (2026-11-25): assignments in director metadata; manifest schema 2, released by the image
   repository; assignment schema 2; identity keys and renewal. Nothing of 1 is understood any more.
3 (2026-11-26): an assigned model and a rollout's specification may say how it is served.
4 (2026-11-26): manifest schema 3 (facts by tensor type, evaluation, policy); an assigned model and
   a rollout's specification may have a policy of fit; devices tell measured rates. Manifests of
   schema 2 are understood no more.
5 (2026-11-26): a manifest's activation may have a proof (score, perplexity, bounds, soak), weights
   of golden prompts and answers by schema; reports carry what the probe measured; an assigned
   model and a rollout's specification may have windows.
6 (2026-11-26): heartbeats tell metrics of each model, and the newest report that was written.
7 (2026-11-26): a rollout's specification may bind the rollout's whole strategy by its digest.
8 (2026-11-26): a device's audit log is a Merkle log: sealed records, signed checkpoints, roots
   acknowledged. Chained audit of before is understood no more; devices enrol anew.
"""

from typing import Final

CAPABILITY: Final = 8
# Agents below this refuse a plan in which `assignment.ServingTerms` say anything.
SERVING_TERMS: Final = 3
# And below this one in which `policy.FitPolicy` says anything.
FIT_POLICY: Final = 4
# And below this one cannot read every manifest: see `manifest.Activation.needs`.
PROBES: Final = 5
# And below this one refuse a plan in which `assignment.Windows` say anything.
WINDOWS: Final = 5
# And where approvals are enforced by the device, below this one refuse a plan whose approval has
# `approval.RolloutSpec.strategy_sha256`.
SIGNED_STRATEGY: Final = 7
