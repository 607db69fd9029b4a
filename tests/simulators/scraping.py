"""Figures as Prometheus reads them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from prometheus_client.parser import text_string_to_metric_families

Samples: TypeAlias = Mapping[tuple[object, ...], float]


def samples(text: str) -> Samples:
    """Return each sample by its name and its labels, in order."""
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def names(text: str) -> set[str]:
    """Return the names of all metrics that are declared, with samples or without."""
    return {
        f"{family.name}_total" if family.type == "counter" else family.name
        for family in text_string_to_metric_families(text)
    }
