"""The metrics that devices tell of their models, taken in within limits. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sprat_proto.manifest import is_model_name
from sprat_proto.v1 import link_pb2

from sprat_controller.fleet.observed_metrics import Told
from sprat_controller.link import inbound
from sprat_controller.link.told_rates import MOST_MILLI_TPS

MOST: Final = 2 * inbound.MAX_ALIASES  # a committed model and a candidate for each alias
MOST_MS: Final = 1 << 30


def metrics_of(wire: Sequence[link_pb2.ModelMetrics]) -> tuple[list[Told], list[str]]:
    """Return what is told of each variant, and a sentence for each thing that is refused."""
    if len(wire) > MOST:
        return [], [f"metrics: expected at most {MOST} models, found {len(wire)}"]
    told: dict[str, Told] = {}
    refused: list[str] = []
    for one in wire:
        why = _why_not(one)
        if why:
            refused.append(f"metrics of {inbound.clip(one.digest, 12)}: {why}")
        else:
            told.setdefault(one.digest, _told(one))
    return list(told.values()), refused


def _told(one: link_pb2.ModelMetrics) -> Told:
    return Told(
        digest=one.digest,
        alias=one.alias,
        window_s=one.window_s,
        requests=one.requests,
        errors=one.errors,
        decode_milli_tps=one.decode_milli_tps,
        ttft_p95_ms=one.ttft_p95_ms,
        peak_bytes=one.peak_bytes,
        declared_bytes=one.declared_bytes,
        crashes=one.crashes,
    )


def _why_not(one: link_pb2.ModelMetrics) -> str:
    counts = (one.window_s, one.requests, one.peak_bytes, one.declared_bytes)
    if not (inbound.is_digest(one.digest) and is_model_name(one.alias)):
        return "expected an alias and a digest of 64 hex digits"
    if max(counts) > inbound.MAX_COUNT or one.crashes > MOST_MS:
        return f"expected counts of at most {inbound.MAX_COUNT}, found {max(counts)}"
    if one.errors > one.requests:
        return f"expected at most as many errors as {one.requests} requests, found {one.errors}"
    if one.decode_milli_tps > MOST_MILLI_TPS:
        most = MOST_MILLI_TPS // 1000
        return f"expected at most {most} tokens a second, found {one.decode_milli_tps // 1000}"
    if one.ttft_p95_ms > MOST_MS:
        return f"expected a TTFT of at most {MOST_MS} ms, found {one.ttft_p95_ms}"
    return ""
