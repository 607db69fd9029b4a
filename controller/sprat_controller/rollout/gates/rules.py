"""What a group's devices measured, held against what their hardware class measured before. Pure.

- A class is judged by its own numbers alone: its devices in the group with the candidate, against
  the same devices, or others of the class, with what they ran before.
- Each device is set against itself where it measured before, so that how devices of a class differ
  says nothing; else against the median of the class. Like is compared with like: real requests with
  real requests, a probe with a probe.
- Decode rate, TTFT, memory and score are medians over devices: more than half of the devices beyond
  the bound fail a class, fewer than half do not, exactly half is undecided.
- Errors are the mean over devices of their shares of failed requests, without the best and the
  worst device: one broken device cannot fail a class, a third of them does. Fewer than
  `LEAST_ERRORS` errors fail nothing.
- Crashes are counted over all devices, but for those of the one device that had most.
- So no single device fails or passes a class in which there are more: of exactly two that disagree
  nothing follows. One device alone speaks for its class only where the group has no other.
- What is undecided, or measured by too few, is insufficient: it holds, and never passes. Nothing
  that is worse turns a failure into anything else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median_low
from typing import Final

import msgspec

from sprat_controller.rollout.facts import Verdict
from sprat_controller.rollout.gates.judgement import (
    ClassJudgement,
    Finding,
    Health,
    Judgement,
    Metric,
)
from sprat_controller.rollout.gates.measures import NOTHING, ClassFacts, Measures
from sprat_controller.rollout.strategy import Gate

LEAST_ERRORS: Final = 3  # failed requests of a class that may mean something
_MILLE: Final = 1000
_PPM: Final = 1_000_000
_PAIR: Final = 2
_OF_REQUESTS: Final = frozenset({Metric.DECODE, Metric.TTFT_P95, Metric.ERRORS})


def judge(gate: Gate, classes: Mapping[str, ClassFacts]) -> Judgement:
    """Return what the gate says of a group.

    One failed class fails the group, else one that is insufficient holds it. A group in which no
    device counts passes: nothing was brought to any.

    Args:
        gate: What is asked.
        classes: By hardware class; those of no device are left out.
    """
    found = tuple(
        _judge_class(gate, name, facts) for name, facts in sorted(classes.items()) if facts.devices
    )
    verdicts = {
        Health.FAILED: Verdict.FAIL,
        Health.INSUFFICIENT: Verdict.HOLD,
        Health.HEALTHY: Verdict.PASS,
    }
    return Judgement(verdicts[_worst(one.health for one in found)], found)


def _judge_class(gate: Gate, name: str, facts: ClassFacts) -> ClassJudgement:
    judged = (
        _requests(gate, facts),
        _decode(gate, facts),
        _ttft(gate, facts),
        _errors(gate, facts),
        _memory(gate, facts),
        _score(gate, facts),
        _crashes(gate, facts),
    )
    findings = _held_back(tuple(one for one in judged if one is not None))
    return ClassJudgement(name, _worst(one.health for one in findings), facts.devices, findings)


def _held_back(findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """Let too few requests fail nothing that requests are behind."""
    if all(one.metric is not Metric.REQUESTS or one.health is Health.HEALTHY for one in findings):
        return findings
    return tuple(
        msgspec.structs.replace(one, health=Health.INSUFFICIENT)
        if one.metric in _OF_REQUESTS and one.health is Health.FAILED
        else one
        for one in findings
    )


def _worst(healths: Iterable[Health]) -> Health:
    return max(healths, key=list(Health).index, default=Health.HEALTHY)


def _needed(gate: Gate, devices: int) -> int:
    """Return how many devices must tell; one alone speaks only where there is no other."""
    return min(max(gate.min_devices, _PAIR), devices)


# Medians over devices


@dataclass(frozen=True)
class _Value:
    """Of one device: what is held against the bound, what was found, what it was compared with."""

    measured: int
    found: int
    baseline: int


_Read = Callable[[Measures], int]


def _decode(gate: Gate, facts: ClassFacts) -> Finding | None:
    if gate.min_decode is None:
        return None
    reads: list[_Read] = [lambda one: one.decode_milli_tps]
    if not gate.min_requests:
        reads.append(lambda one: one.probed_decode_milli_tps)
    values = _against_before(gate, facts, reads)
    return _by_median(Metric.DECODE, gate, facts, values, gate.min_decode, is_least=True)


def _ttft(gate: Gate, facts: ClassFacts) -> Finding | None:
    if gate.max_ttft_p95 is None:
        return None
    reads: list[_Read] = [lambda one: one.ttft_p95_ms]
    if not gate.min_requests:
        reads.append(lambda one: one.probed_ttft_ms)
    values = _against_before(gate, facts, reads)
    return _by_median(Metric.TTFT_P95, gate, facts, values, gate.max_ttft_p95)


def _memory(gate: Gate, facts: ClassFacts) -> Finding | None:
    if gate.max_memory is None:
        return None
    candidates = [one.candidate for one in facts.told]
    values = [
        _Value(
            # Rounded up: a byte too many is too many.
            -(-one.peak_bytes * _MILLE // one.declared_bytes),
            one.peak_bytes,
            one.declared_bytes,
        )
        for one in candidates
        if one.peak_bytes and one.declared_bytes
    ]
    return _by_median(Metric.MEMORY, gate, facts, values, gate.max_memory)


def _score(gate: Gate, facts: ClassFacts) -> Finding | None:
    """Judge the probe's score; where nothing was scored before, every loss from full counts."""
    if gate.max_score_loss is None or not facts.is_scored:
        return None
    before = [one.score_permille for one in _all_before(facts) if one.prompts]
    of_class = median_low(before) if before else _MILLE
    values: list[_Value] = []
    for one in facts.told:
        if one.candidate.prompts:
            baseline = one.before.score_permille if one.before.prompts else of_class
            found = one.candidate.score_permille
            values.append(_Value(max(0, baseline - found), found, baseline))
    return _by_median(Metric.SCORE, gate, facts, values, gate.max_score_loss)


def _against_before(gate: Gate, facts: ClassFacts, reads: Iterable[_Read]) -> list[_Value]:
    """Return each device's measure in thousandths of its baseline, by the first way that has one.

    Of a device that has no baseline, and whose class has none either, nothing is returned.
    """
    ways = [(read, _of_class(gate, facts, read)) for read in reads]
    values: list[_Value] = []
    for one in facts.told:
        for read, of_class in ways:
            found, baseline = read(one.candidate), read(one.before) or of_class
            if found and baseline:
                values.append(_Value(found * _MILLE // baseline, found, baseline))
                break
    return values


def _of_class(gate: Gate, facts: ClassFacts, read: _Read) -> int:
    """Return the median of what the class measured before; 0: too few devices say."""
    found = [read(one) for one in _all_before(facts) if read(one)]
    here = sum(one.before != NOTHING for one in facts.told)
    in_all = max(facts.others_in_all, len(facts.others)) + here
    return median_low(found) if found and len(found) >= _needed(gate, in_all) else 0


def _all_before(facts: ClassFacts) -> list[Measures]:
    return [*facts.others, *(one.before for one in facts.told)]


def _by_median(
    metric: Metric,
    gate: Gate,
    facts: ClassFacts,
    values: Sequence[_Value],
    bound: int,
    *,
    is_least: bool = False,
) -> Finding:
    """Judge by the middle device, or by both of an even number: they must agree."""
    needed = _needed(gate, facts.devices)
    if not values:
        return Finding(metric, Health.INSUFFICIENT, bound=bound, needed=needed)
    measured = sorted(one.measured for one in values)
    middle = measured[(len(measured) - 1) // 2], measured[len(measured) // 2]
    beyond = [one < bound if is_least else one > bound for one in middle]
    if len(values) < needed or any(beyond) != all(beyond):
        health = Health.INSUFFICIENT
    else:
        health = Health.FAILED if all(beyond) else Health.HEALTHY
    return Finding(
        metric,
        health,
        measured=middle[0] if is_least else middle[1],
        bound=bound,
        found=median_low(one.found for one in values),
        baseline=median_low(one.baseline for one in values),
        devices=len(values),
        needed=needed,
    )


# Counts


def _requests(gate: Gate, facts: ClassFacts) -> Finding | None:
    if not gate.min_requests:
        return None
    requests = [one.candidate.requests for one in facts.told]
    is_enough = sum(requests) >= gate.min_requests
    return Finding(
        Metric.REQUESTS,
        Health.HEALTHY if is_enough else Health.INSUFFICIENT,
        measured=sum(requests),
        bound=gate.min_requests,
        devices=sum(1 for one in requests if one),
    )


def _errors(gate: Gate, facts: ClassFacts) -> Finding | None:
    """Judge failed requests; where none is asked for and none came, none failed."""
    if gate.max_more_errors is None:
        return None
    asked = [one.candidate for one in facts.told if one.candidate.requests]
    before = [_ppm(one) for one in _all_before(facts) if one.requests]
    rates, baseline = [_ppm(one) for one in asked], _mean_of_middle(before)
    measured, bound = _mean_of_middle(rates), baseline + gate.max_more_errors * _MILLE
    needed = _needed(gate, facts.devices) if gate.min_requests else min(_PAIR, facts.devices)
    if len(rates) == _PAIR and min(rates) <= bound < max(rates):
        health = Health.INSUFFICIENT
    elif measured > bound:
        is_sure = (
            len(rates) >= needed and before and sum(one.errors for one in asked) >= LEAST_ERRORS
        )
        health = Health.FAILED if is_sure else Health.INSUFFICIENT
    else:
        is_sure = len(rates) >= needed or not gate.min_requests
        health = Health.HEALTHY if is_sure else Health.INSUFFICIENT
    return Finding(
        Metric.ERRORS,
        health,
        measured=round((measured - baseline) / _MILLE),
        bound=gate.max_more_errors,
        found=round(measured / _MILLE),
        baseline=round(baseline / _MILLE) if before else None,
        devices=len(rates),
        needed=needed,
    )


def _ppm(one: Measures) -> int:
    return min(one.errors, one.requests) * _PPM // one.requests


def _mean_of_middle(rates: Sequence[int]) -> int:
    """Return the mean without the lowest and the highest, if that leaves any; of none 0."""
    middle = sorted(rates)[1:-1] if len(rates) > _PAIR else rates
    return sum(middle) // len(middle) if middle else 0


def _crashes(gate: Gate, facts: ClassFacts) -> Finding | None:
    if gate.max_crashes is None:
        return None
    is_alone = facts.devices == 1
    counted = facts.crashes if is_alone else facts.crashes - facts.most_crashes
    needed = _needed(gate, facts.devices)
    if counted > gate.max_crashes:
        health = Health.FAILED
    elif (facts.devices == _PAIR and facts.crashes > gate.max_crashes) or len(facts.told) < needed:
        health = Health.INSUFFICIENT
    else:
        health = Health.HEALTHY
    return Finding(
        Metric.CRASHES,
        health,
        measured=counted,
        bound=gate.max_crashes,
        found=facts.crashes,
        devices=len(facts.told),
        needed=needed,
    )
