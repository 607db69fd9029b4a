"""Figures of the device in Prometheus's format: budget, loads, proofs, what waits for the link."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from prometheus_client.core import Metric

from sprat_agent.api import genai
from sprat_agent.api.device import DeviceFigures
from sprat_agent.api.families import counter, gauge, histogram

_MODEL: Final = genai.label(genai.REQUEST_MODEL)


def metrics(device: DeviceFigures) -> Iterator[Metric]:
    """Yield them; what this device cannot tell has no samples."""
    budget = gauge("sprat_memory_budget_bytes", "What all models may take together.")
    budget.add_metric([], device.memory_budget_bytes)
    age = gauge(
        "sprat_sync_age_seconds", "Since the controller last said anything, or the agent's start."
    )
    age.add_metric([], device.sync_age_s)
    throttle = gauge(
        "sprat_thermal_throttle_ratio", "How far the kernel slows a processor for its heat, 0 to 1."
    )
    if device.throttle_ratio is not None:
        throttle.add_metric([], device.throttle_ratio)
    yield from (budget, age, throttle)
    yield from _outbox(device)
    yield from _tallied(device)


def _outbox(device: DeviceFigures) -> Iterator[Metric]:
    records = gauge(
        "sprat_outbox_records", "Records that the controller has not acknowledged.", ["kind"]
    )
    sizes = gauge("sprat_outbox_bytes", "Bytes of these records.", ["kind"])
    for kind, kept in device.kept.items():
        records.add_metric([kind], kept.records)
        sizes.add_metric([kind], kept.size_bytes)
    yield from (records, sizes)


def _tallied(device: DeviceFigures) -> Iterator[Metric]:
    tally = device.tally
    yield histogram(
        "sprat_model_load_seconds",
        "From the decision to load a model until it can answer.",
        [_MODEL],
        (([alias], one) for alias, one in tally.loads.items()),
    )
    failures = counter(
        "sprat_verify_failures", "Files that were not what was signed, by when.", ["stage"]
    )
    for stage, count in tally.verify_failures.items():
        failures.add_metric([stage], count)
    crashes = counter("sprat_worker_crashes", "Workers that died with their model.", [_MODEL])
    for alias, count in tally.crashes.items():
        crashes.add_metric([alias], count)
    yield from (failures, crashes)
