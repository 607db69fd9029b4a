"""Families of Prometheus metrics; imported by the first scrape only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from sprat_agent.api.recorder import Histogram


def gauge(name: str, help_text: str, labels: Sequence[str] = ()) -> GaugeMetricFamily:
    """Return a family without samples yet."""
    return GaugeMetricFamily(name, help_text, labels=labels)


def counter(name: str, help_text: str, labels: Sequence[str] = ()) -> CounterMetricFamily:
    """Return a family without samples yet; `_total` is appended to its name."""
    return CounterMetricFamily(name, help_text, labels=labels)


def histogram(
    name: str,
    help_text: str,
    labels: Sequence[str],
    found: Iterable[tuple[Sequence[str], Histogram]],
) -> HistogramMetricFamily:
    """Return a family with one histogram for each set of labels' values."""
    family = HistogramMetricFamily(name, help_text, labels=labels)
    for values, one in found:
        bounds = [*map(str, one.bounds), "+Inf"]
        buckets = list(zip(bounds, accumulate(one.counts), strict=True))
        family.add_metric(values, buckets, one.sum)
    return family
