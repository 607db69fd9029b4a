"""The agent's figures in Prometheus's text format; imported by the first scrape only.

Names have the prefix `sprat_`, base units and no colons; labels are bounded: aliases, releases and
codes of ours, never what a client sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from sprat_agent import __version__
from sprat_agent.api import exposed_device, exposed_models, genai
from sprat_agent.api.device import DeviceFigures
from sprat_agent.api.families import counter, gauge, histogram
from sprat_agent.api.recorder import Histogram, Kind, Recorder
from sprat_agent.runtime.served import Status

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
_MODEL: Final = genai.label(genai.REQUEST_MODEL)
_OPERATION: Final = genai.label(genai.OPERATION_NAME)
_ERROR: Final = genai.label(genai.ERROR_TYPE)
_TOKEN: Final = genai.label(genai.TOKEN_TYPE)


def render(statuses: Sequence[Status], recorder: Recorder, device: DeviceFigures | None) -> bytes:
    """Return everything, as it is now."""
    registry = CollectorRegistry(auto_describe=False)
    everything = [
        _build(),
        *(exposed_device.metrics(device) if device else ()),
        *exposed_models.metrics(statuses),
        *_requests(recorder),
        *_times(recorder),
    ]
    registry.register(_Now(everything))
    return generate_latest(registry)


class _Now(Collector):
    """Metrics that were collected already."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = tuple(metrics)

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def _build() -> Metric:
    build = gauge("sprat_build_info", "The agent's version.", ["version"])
    build.add_metric([__version__], 1)
    return build


def _requests(recorder: Recorder) -> Iterator[Metric]:
    requests = counter(
        "sprat_requests", "Requests by how they ended.", [_MODEL, _OPERATION, _ERROR]
    )
    for (kind, code), count in recorder.requests.items():
        requests.add_metric([kind.model, kind.operation, code], count)
    rejected = counter("sprat_requests_rejected", "Requests that no model took.", ["reason"])
    for reason, count in recorder.rejected.items():
        rejected.add_metric([reason], count)
    tokens = counter(
        "sprat_tokens",
        "Tokens of answered requests; those of type cached are among the input.",
        [_MODEL, _TOKEN],
    )
    for (model, kind), count in recorder.tokens.items():
        tokens.add_metric([model, kind], count)
    running = gauge("sprat_requests_running", "Requests that are being answered.", [_MODEL])
    for model, count in recorder.running.items():
        running.add_metric([model], count)
    yield from (requests, rejected, tokens, running)


def _times(recorder: Recorder) -> Iterator[Metric]:
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


def _histogram(name: str, convention: str, found: Iterable[tuple[Kind, Histogram]]) -> Metric:
    samples = (([kind.model, kind.operation], one) for kind, one in found)
    return histogram(name, f"{convention} of answers.", [_MODEL, _OPERATION], samples)
