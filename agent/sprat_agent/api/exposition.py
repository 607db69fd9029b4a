"""The agent's figures in Prometheus's text format; imported by the first scrape only.

Names have the prefix `sprat_`, base units and no colons; labels are bounded: aliases, releases and
codes of ours, never what a client sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from sprat_agent import __version__
from sprat_agent.api import genai
from sprat_agent.api.recorder import Histogram, Kind, Recorder
from sprat_agent.runtime.served import Status

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
_MODEL: Final = genai.label(genai.REQUEST_MODEL)
_OPERATION: Final = genai.label(genai.OPERATION_NAME)
_ERROR: Final = genai.label(genai.ERROR_TYPE)
_TOKEN: Final = genai.label(genai.TOKEN_TYPE)


def render(statuses: Sequence[Status], recorder: Recorder) -> bytes:
    """Return everything, as it is now."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Now([*_device(), *_models(statuses), *_requests(recorder)]))
    return generate_latest(registry)


class _Now(Collector):
    """Metrics that were collected already."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = tuple(metrics)

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def _device() -> Iterator[Metric]:
    build = GaugeMetricFamily("sprat_build_info", "The agent's version.", labels=["version"])
    build.add_metric([__version__], 1)
    yield build


def _models(statuses: Sequence[Status]) -> Iterator[Metric]:
    labels = [_MODEL, "release", "variant"]
    loaded = GaugeMetricFamily(
        "sprat_model_loaded", "Whether the committed model of an alias is in memory.", labels=labels
    )
    able = GaugeMetricFamily(
        "sprat_model_can_answer", "Whether an alias answers requests now.", labels=[_MODEL]
    )
    queued = GaugeMetricFamily(
        "sprat_requests_queued", "Requests that wait for a model.", labels=[_MODEL]
    )
    for one in statuses:
        if one.committed:
            names = [one.alias, f"{one.committed.model}@{one.committed.release}"]
            loaded.add_metric([*names, one.committed.variant], one.worker_pid is not None)
        able.add_metric([one.alias], one.can_answer)
        queued.add_metric([one.alias], one.queued)
    yield from (loaded, able, queued)


def _requests(recorder: Recorder) -> Iterator[Metric]:
    requests = CounterMetricFamily(
        "sprat_requests", "Requests by how they ended.", labels=[_MODEL, _OPERATION, _ERROR]
    )
    for (kind, code), count in recorder.requests.items():
        requests.add_metric([kind.model, kind.operation, code], count)
    rejected = CounterMetricFamily(
        "sprat_requests_rejected", "Requests that no model took.", labels=["reason"]
    )
    for reason, count in recorder.rejected.items():
        rejected.add_metric([reason], count)
    tokens = CounterMetricFamily(
        "sprat_tokens",
        "Tokens of answered requests; those of type cached are among the input.",
        labels=[_MODEL, _TOKEN],
    )
    for (model, kind), count in recorder.tokens.items():
        tokens.add_metric([model, kind], count)
    running = GaugeMetricFamily(
        "sprat_requests_running", "Requests that are being answered.", labels=[_MODEL]
    )
    for model, count in recorder.running.items():
        running.add_metric([model], count)
    yield from (requests, rejected, tokens, running)
    times = recorder.times.items()
    yield _histogram(
        "sprat_request_duration_seconds",
        genai.REQUEST_DURATION,
        ((kind, one.duration) for kind, one in times),
    )
    yield _histogram(
        "sprat_time_to_first_token_seconds",
        genai.TIME_TO_FIRST_TOKEN,
        ((kind, one.first_token) for kind, one in times),
    )
    yield _histogram(
        "sprat_time_per_output_token_seconds",
        genai.TIME_PER_OUTPUT_TOKEN,
        ((kind, one.per_token) for kind, one in times),
    )


def _histogram(
    name: str, convention: str, found: Iterable[tuple[Kind, Histogram]]
) -> HistogramMetricFamily:
    family = HistogramMetricFamily(name, f"{convention} of answers.", labels=[_MODEL, _OPERATION])
    for kind, one in found:
        bounds = [*map(str, one.bounds), "+Inf"]
        buckets = list(zip(bounds, accumulate(one.counts), strict=True))
        family.add_metric([kind.model, kind.operation], buckets, one.sum)
    return family
