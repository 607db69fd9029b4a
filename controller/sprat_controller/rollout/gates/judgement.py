"""What a gate says: its verdict, and what was found of each class, metric by metric. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

import msgspec
from msgspec import Struct

from sprat_controller.rollout.facts import Verdict


class Health(StrEnum):
    """What is known of a hardware class, or of one metric of it."""

    HEALTHY = "HEALTHY"
    INSUFFICIENT = "INSUFFICIENT"
    FAILED = "FAILED"


class Metric(StrEnum):
    """What a gate may ask for."""

    DECODE = "decode"
    TTFT_P95 = "ttft_p95"
    MEMORY = "memory"
    ERRORS = "errors"
    SCORE = "score"
    CRASHES = "crashes"
    REQUESTS = "requests"  # that there were enough of them


class Finding(Struct, frozen=True, omit_defaults=True):
    """One metric of one class.

    `measured` is what is held against `bound`: thousandths of the baseline for decode and TTFT, of
    what was declared for memory; thousandths of requests, or of the score, more or less than the
    baseline for errors and score; a count for crashes and requests. `found` and `baseline` are in
    the metric's own unit: thousandths of a token a second, milliseconds, bytes, thousandths.
    """

    metric: Metric
    health: Health
    measured: int | None = None
    bound: int | None = None
    found: int | None = None
    baseline: int | None = None
    devices: int = 0  # behind `measured`
    needed: int = 0


class ClassJudgement(Struct, frozen=True, omit_defaults=True):
    """A hardware class by name (empty: hardware not told), and what was found, metric by metric."""

    hardware_class: str
    health: Health
    devices: int
    findings: tuple[Finding, ...] = ()

    def said(self) -> str:
        """Return one sentence: what failed, or what is missing."""
        name = self.hardware_class or "unknown hardware"
        parts = [_phrase(one) for one in self.findings if one.health is self.health]
        if self.health is Health.HEALTHY:
            return f"{name}: healthy ({self.devices} devices)"
        return f"{name}: {self.health.lower()} ({'; '.join(parts)})"


class Judgement(Struct, frozen=True, omit_defaults=True):
    """What a gate says: its verdict, and each class by name in order."""

    verdict: Verdict
    classes: tuple[ClassJudgement, ...] = ()

    def named(self, health: Health) -> tuple[str, ...]:
        """Return the classes of which this is known."""
        return tuple(one.hardware_class for one in self.classes if one.health is health)

    def said(self) -> str:
        """Return all classes in one line, those first that decide."""
        order = list(Health)[::-1]
        ranked = sorted(self.classes, key=lambda one: order.index(one.health))
        return "; ".join(one.said() for one in ranked) or "no device counts"

    def as_json(self) -> dict[str, Any]:
        """Return it as it is stored with the group and answered."""
        return msgspec.to_builtins(self)


def from_json(stored: Mapping[str, Any]) -> Judgement:
    """Return what `as_json` gave.

    Raises:
        msgspec.ValidationError: It is none.
    """
    return msgspec.convert(stored, Judgement)


def _phrase(one: Finding) -> str:
    """Return what was found of a metric, what was expected, and of how many devices."""
    by = f"by {one.devices} of at least {one.needed} devices"
    match one.metric:
        case Metric.REQUESTS:
            return f"expected at least {one.bound} requests, found {one.measured}"
        case Metric.CRASHES:
            apart = f" ({one.found} with those of the worst device)"
            return f"expected at most {one.bound} crashes, found {one.measured}{apart}, {by}"
        case Metric.ERRORS:
            most = f"at most {one.bound} more of 1000 requests to fail than {one.baseline or 0}"
            return f"expected {most}, found {one.found}, {by}"
        case _ if one.measured is None:
            return f"no device measured its {_NAMES[one.metric]} and has a baseline for it"
        case Metric.SCORE:
            most = f"at most {one.bound} of 1000 less than {one.baseline}"
            return f"expected a score of {most}, found {one.found}, {by}"
        case _:
            least = "least" if one.metric is Metric.DECODE else "most"
            of = "what was declared" if one.metric is Metric.MEMORY else "the baseline"
            percent = f"{(one.bound or 0) / 10:g} % of {of}, found {one.measured / 10:g} %"
            found = f"{_natural(one, one.found)} to {_natural(one, one.baseline)}"
            return f"expected a {_NAMES[one.metric]} of at {least} {percent} ({found}), {by}"


_NAMES: Final[Mapping[Metric, str]] = {
    Metric.DECODE: "decode rate",
    Metric.TTFT_P95: "TTFT p95",
    Metric.MEMORY: "memory peak",
    Metric.SCORE: "probe score",
}


def _natural(one: Finding, value: int | None) -> str:
    number = value or 0
    match one.metric:
        case Metric.DECODE:
            return f"{number / 1000:.1f} tokens/s"
        case Metric.TTFT_P95:
            return f"{number} ms"
        case _:
            return f"{number / (1 << 20):.1f} MiB"
