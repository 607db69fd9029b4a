from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sprat_controller.rollout.facts import Verdict
from sprat_controller.rollout.gates import judgement
from sprat_controller.rollout.gates.judgement import Finding, Health, Metric
from sprat_controller.rollout.gates.measures import NOTHING, ClassFacts, Measures, Sample
from sprat_controller.rollout.gates.rules import judge
from sprat_controller.rollout.strategy import Gate

GATE: Final = Gate(min_devices=3)
# Nothing but what the test asks for.
SILENT: Final = Gate(
    min_decode=None,
    max_ttft_p95=None,
    max_memory=None,
    max_more_errors=None,
    max_score_loss=None,
    max_crashes=None,
    min_devices=3,
)
WELL: Final = Measures(
    decode_milli_tps=20_000,
    ttft_p95_ms=300,
    requests=100,
    errors=0,
    peak_bytes=900,
    declared_bytes=1000,
    prompts=4,
    score_permille=1000,
    probed_decode_milli_tps=21_000,
    probed_ttft_ms=200,
)


def but(one: Measures = WELL, **changed: int) -> Measures:
    return msgspec.structs.replace(one, **changed)


def only(**asked: int) -> Gate:
    return msgspec.structs.replace(SILENT, **asked)


def facts(*candidates: Measures, before: Measures = WELL, **more: Any) -> ClassFacts:
    """Make a class whose devices all told something, and ran `before`."""
    told = [Sample(one, before) for one in candidates]
    return replace(ClassFacts(len(told), told), **more)


def finding(gate: Gate, of_class: ClassFacts, metric: Metric) -> Finding:
    [judged] = judge(gate, {"pi5": of_class}).classes
    [found] = [one for one in judged.findings if one.metric is metric]
    return found


def health(gate: Gate, of_class: ClassFacts) -> Health:
    [judged] = judge(gate, {"pi5": of_class}).classes
    return judged.health


def test_a_class_that_measures_as_before_is_healthy_in_all() -> None:
    found = judge(GATE, {"pi5": facts(WELL, WELL, WELL)})
    assert found.verdict is Verdict.PASS
    [of_class] = found.classes
    asked = {one.metric for one in of_class.findings}
    assert asked == set(Metric) - {Metric.REQUESTS}
    assert {one.health for one in of_class.findings} == {Health.HEALTHY}
    assert found.said() == "pi5: healthy (3 devices)"


@pytest.mark.parametrize(
    ("gate", "worst_good", "best_bad", "metric"),
    [
        (
            only(min_decode=900),
            {"decode_milli_tps": 18_000},
            {"decode_milli_tps": 17_999},
            "decode",
        ),
        (only(max_ttft_p95=1200), {"ttft_p95_ms": 360}, {"ttft_p95_ms": 361}, "ttft_p95"),
        (only(max_memory=1000), {"peak_bytes": 1000}, {"peak_bytes": 1001}, "memory"),
        (only(max_more_errors=10), {"errors": 1}, {"errors": 2}, "errors"),
        (only(max_score_loss=20), {"score_permille": 980}, {"score_permille": 979}, "score"),
    ],
)
def test_each_metric_has_its_own_bound(
    gate: Gate, worst_good: dict[str, int], best_bad: dict[str, int], metric: str
) -> None:
    good, bad = but(WELL, **worst_good), but(WELL, **best_bad)
    assert finding(gate, facts(good, good, good), Metric(metric)).health is Health.HEALTHY
    found = judge(gate, {"pi5": facts(bad, bad, bad)})
    assert found.verdict is Verdict.FAIL
    assert found.named(Health.FAILED) == ("pi5",)
    [one] = found.classes[0].findings
    assert (one.metric, one.health, one.devices, one.needed) == (
        metric,
        Health.FAILED,
        3,
        2 if metric == "errors" else 3,
    )
    assert "pi5: failed (expected" in found.said()


def test_what_is_not_asked_is_not_judged() -> None:
    broken = but(decode_milli_tps=1, ttft_p95_ms=10**6, errors=100, peak_bytes=10**6)
    assert judge(SILENT, {"pi5": facts(broken, crashes=9)}).verdict is Verdict.PASS


def test_each_device_is_set_against_itself_however_different_the_devices_are() -> None:
    rates = (5_000, 20_000, 90_000)
    told = [
        Sample(but(decode_milli_tps=rate * 8 // 10), but(decode_milli_tps=rate)) for rate in rates
    ]
    found = finding(only(min_decode=900), ClassFacts(3, told), Metric.DECODE)
    assert (found.health, found.measured) == (Health.FAILED, 800)


def test_a_device_without_a_past_is_set_against_its_class() -> None:
    told = [Sample(but(decode_milli_tps=16_000))] * 3
    gate = only(min_decode=900)
    alone = ClassFacts(3, told)
    assert health(gate, alone) is Health.INSUFFICIENT
    assert "has a baseline" in judge(gate, {"pi5": alone}).said()
    among = replace(alone, others=[WELL] * 3, others_in_all=50)
    found = finding(gate, among, Metric.DECODE)
    assert (found.health, found.measured, found.baseline) == (Health.FAILED, 800, 20_000)


def test_too_few_others_are_no_baseline() -> None:
    told = [Sample(WELL)] * 3
    gate = only(min_decode=900)
    assert health(gate, ClassFacts(3, told, [WELL] * 2, 50)) is Health.INSUFFICIENT
    assert health(gate, ClassFacts(3, told, [WELL] * 2, 2)) is Health.HEALTHY


def test_a_probe_is_compared_with_a_probe() -> None:
    probed = but(NOTHING, probed_decode_milli_tps=20_000, prompts=4, score_permille=1000)
    gate = only(min_decode=900)
    assert health(gate, facts(probed, probed, probed, before=WELL)) is Health.HEALTHY
    asked_only = but(NOTHING, decode_milli_tps=1)
    assert health(gate, facts(probed, probed, probed, before=asked_only)) is Health.INSUFFICIENT
    slower = but(probed, probed_decode_milli_tps=10_000)
    assert health(gate, facts(slower, slower, slower)) is Health.FAILED


def test_where_requests_are_asked_for_a_probe_is_not_enough() -> None:
    probed = but(WELL, decode_milli_tps=0, requests=0)
    gate = only(min_decode=900, min_requests=10)
    found = judge(gate, {"pi5": facts(probed, probed, probed)})
    assert found.verdict is Verdict.HOLD
    assert "expected at least 10 requests, found 0" in found.said()


def test_too_few_requests_fail_nothing() -> None:
    slow = but(decode_milli_tps=1000, requests=3)
    gate = only(min_decode=900, min_requests=10)
    assert health(gate, facts(slow, slow, slow)) is Health.INSUFFICIENT
    assert health(gate, facts(*[but(slow, requests=4)] * 3)) is Health.FAILED


def test_few_devices_hold_unless_the_group_has_no_more() -> None:
    gate = only(min_decode=900)
    told = [Sample(WELL, WELL)] * 2
    assert health(gate, ClassFacts(20, told)) is Health.INSUFFICIENT
    assert health(gate, ClassFacts(2, told)) is Health.HEALTHY
    assert health(gate, ClassFacts(1, told[:1])) is Health.HEALTHY
    assert judge(gate, {"pi5": ClassFacts(5)}).verdict is Verdict.HOLD
    # One alone speaks for none of many, whatever is asked.
    least = only(min_decode=900, min_devices=0)
    assert health(least, ClassFacts(20, told[:1])) is Health.INSUFFICIENT


def test_a_class_is_judged_by_its_own_numbers_alone() -> None:
    slow = but(decode_milli_tps=16_000)
    classes = {"pi5": facts(slow, slow, slow), "n100": facts(WELL, WELL, WELL), "x": ClassFacts(9)}
    found = judge(GATE, classes)
    assert found.verdict is Verdict.FAIL
    assert found.named(Health.FAILED) == ("pi5",)
    assert found.named(Health.HEALTHY) == ("n100",)
    assert found.named(Health.INSUFFICIENT) == ("x",)
    for name, of_class in classes.items():
        [alone] = judge(GATE, {name: of_class}).classes
        assert alone in found.classes


def test_a_group_without_devices_passes() -> None:
    assert judge(GATE, {}).verdict is Verdict.PASS
    assert judge(GATE, {"pi5": ClassFacts(0)}) == judge(GATE, {})
    assert judge(GATE, {}).said() == "no device counts"


def test_few_errors_fail_nothing_and_many_do() -> None:
    gate = only(max_more_errors=10)
    few = [but(requests=2, errors=1)] * 2
    assert health(gate, facts(*few)) is Health.INSUFFICIENT
    assert health(gate, facts(*few, *few)) is Health.FAILED
    assert health(gate, facts(*few, *few, before=NOTHING)) is Health.INSUFFICIENT


def test_errors_that_were_there_before_are_not_the_candidates() -> None:
    failing = but(errors=50)
    gate = only(max_more_errors=10)
    assert health(gate, facts(failing, failing, failing, before=failing)) is Health.HEALTHY
    assert health(gate, facts(failing, failing, failing)) is Health.FAILED


def test_where_no_request_came_none_failed_unless_requests_are_asked_for() -> None:
    quiet = but(requests=0)
    assert health(only(max_more_errors=10), facts(quiet, quiet, quiet)) is Health.HEALTHY
    asked = only(max_more_errors=10, min_requests=1)
    assert health(asked, facts(quiet, quiet, quiet)) is Health.INSUFFICIENT


def test_a_third_of_the_devices_broken_is_seen() -> None:
    broken = [but(errors=100)] * 3
    assert health(only(max_more_errors=10), facts(*broken, *[WELL] * 6)) is Health.FAILED


def test_crashes_are_counted_but_for_the_one_device_that_had_most() -> None:
    gate = only(max_crashes=0)
    many = facts(WELL, WELL, WELL)
    assert health(gate, replace(many, crashes=7, most_crashes=7)) is Health.HEALTHY
    assert health(gate, replace(many, crashes=8, most_crashes=7)) is Health.FAILED
    two = facts(WELL, WELL)
    assert health(gate, replace(two, crashes=7, most_crashes=7)) is Health.INSUFFICIENT
    assert health(gate, replace(two, crashes=8, most_crashes=7)) is Health.FAILED
    alone = facts(WELL)
    assert health(gate, replace(alone, crashes=1, most_crashes=1)) is Health.FAILED
    allowed = only(max_crashes=3)
    assert health(allowed, replace(alone, crashes=3, most_crashes=3)) is Health.HEALTHY


def test_a_loss_of_score_counts_from_full_where_nothing_was_scored_before() -> None:
    bad = but(score_permille=900)
    gate = only(max_score_loss=20)
    assert health(gate, facts(bad, bad, bad, before=NOTHING)) is Health.FAILED
    assert health(gate, facts(bad, bad, bad, before=bad)) is Health.HEALTHY
    unprobed = but(prompts=0, score_permille=0)
    silent = facts(unprobed, unprobed, unprobed)
    assert health(gate, silent) is Health.INSUFFICIENT
    assert health(gate, replace(silent, is_scored=False)) is Health.HEALTHY


def test_a_judgement_survives_json() -> None:
    slow = but(decode_milli_tps=16_000)
    found = judge(GATE, {"pi5": facts(slow, slow, slow), "": ClassFacts(3)})
    stored = json.loads(json.dumps(found.as_json()))
    assert judgement.from_json(stored) == found
    assert stored["verdict"] == "FAIL"
    assert found.said().startswith(
        "pi5: failed (expected a decode rate of at least 90 % of the baseline, found 80 %"
        " (16.0 tokens/s to 20.0 tokens/s), by 3 of at least 3 devices); unknown hardware: ins"
    )


# What holds for all


counts = st.integers(0, 30)
measures = st.builds(
    Measures,
    decode_milli_tps=counts,
    ttft_p95_ms=counts,
    requests=counts,
    errors=counts,
    peak_bytes=counts,
    declared_bytes=counts,
    prompts=st.integers(0, 2),
    score_permille=st.integers(950, 1000),
    probed_decode_milli_tps=counts,
    probed_ttft_ms=counts,
).map(lambda one: msgspec.structs.replace(one, errors=min(one.errors, one.requests)))
samples = st.builds(Sample, measures, measures)
bounds = st.none() | st.integers(0, 2000)
all_gates = st.builds(
    Gate,
    min_decode=bounds,
    max_ttft_p95=bounds,
    max_memory=bounds,
    max_more_errors=bounds,
    max_score_loss=st.none() | st.integers(0, 50),
    max_crashes=st.none() | st.integers(0, 3),
    min_devices=st.integers(0, 6),
    min_requests=st.sampled_from([0, 0, 10, 60]),
)


@st.composite
def classes(draw: st.DrawFn) -> ClassFacts:
    told = draw(st.lists(samples, max_size=7))
    others = draw(st.lists(measures, max_size=5))
    crashed = draw(st.lists(st.integers(0, 3), max_size=3))
    return ClassFacts(
        devices=len(told) + draw(st.integers(0, 2)),
        told=told,
        others=others,
        others_in_all=len(others) + draw(st.integers(0, 2)),
        crashes=sum(crashed),
        most_crashes=max(crashed, default=0),
        is_scored=draw(st.booleans()),
    )


fleets = st.dictionaries(st.sampled_from(["", "a", "b", "c"]), classes(), max_size=4)


@given(all_gates, fleets, st.randoms(use_true_random=False))
def test_the_order_of_devices_does_not_matter(
    gate: Gate, fleet: dict[str, ClassFacts], dice: random.Random
) -> None:
    def shuffled(told: Sequence[Any]) -> Sequence[Any]:
        return dice.sample(told, len(told))

    other = {
        name: replace(one, told=shuffled(one.told), others=shuffled(one.others))
        for name, one in fleet.items()
    }
    assert judge(gate, fleet) == judge(gate, dict(dice.sample(list(other.items()), len(other))))


@given(all_gates, fleets)
def test_the_verdict_follows_from_the_classes_and_each_from_its_own_facts(
    gate: Gate, fleet: dict[str, ClassFacts]
) -> None:
    found = judge(gate, fleet)
    expected = Verdict.PASS
    if found.named(Health.INSUFFICIENT):
        expected = Verdict.HOLD
    if found.named(Health.FAILED):
        expected = Verdict.FAIL
    assert found.verdict is expected
    for of_class in found.classes:
        name = of_class.hardware_class
        assert judge(gate, {name: fleet[name]}).classes == (of_class,)
        assert found.said()


@given(all_gates, fleets)
def test_what_too_few_measured_never_passes(gate: Gate, fleet: dict[str, ClassFacts]) -> None:
    for of_class in judge(gate, fleet).classes:
        for one in of_class.findings:
            if one.metric not in (Metric.ERRORS, Metric.REQUESTS) and one.devices < one.needed:
                assert one.health is not Health.HEALTHY
                assert one.health is Health.INSUFFICIENT or one.metric is Metric.CRASHES
            if one.metric is Metric.ERRORS and gate.min_requests and one.devices < one.needed:
                assert one.health is Health.INSUFFICIENT


def worse(one: Measures, step: int) -> Measures:
    """Make every figure worse or leave it; what was not measured stays so."""
    return msgspec.structs.replace(
        one,
        decode_milli_tps=one.decode_milli_tps and max(1, one.decode_milli_tps - step),
        probed_decode_milli_tps=one.probed_decode_milli_tps
        and max(1, one.probed_decode_milli_tps - step),
        ttft_p95_ms=one.ttft_p95_ms and one.ttft_p95_ms + step,
        probed_ttft_ms=one.probed_ttft_ms and one.probed_ttft_ms + step,
        peak_bytes=one.peak_bytes and one.peak_bytes + step,
        errors=min(one.requests, one.errors + step),
        score_permille=max(0, one.score_permille - step),
    )


@given(all_gates, classes(), st.data())
def test_worse_devices_never_turn_a_failure_into_anything_else(
    gate: Gate, of_class: ClassFacts, data: st.DataObject
) -> None:
    steps = data.draw(
        st.lists(st.integers(0, 40), min_size=len(of_class.told), max_size=len(of_class.told))
    )
    told = [
        Sample(worse(one.candidate, step), one.before)
        for one, step in zip(of_class.told, steps, strict=True)
    ]
    more = data.draw(st.integers(0, 3))  # crashes of any one device
    crashed = replace(
        of_class,
        told=told,
        crashes=of_class.crashes + more,
        most_crashes=data.draw(st.integers(of_class.most_crashes, of_class.most_crashes + more)),
    )
    if health_of(gate, of_class) is Health.FAILED:
        assert health_of(gate, crashed) is Health.FAILED
    if health_of(gate, crashed) is Health.HEALTHY:
        assert health_of(gate, of_class) is not Health.FAILED


@given(all_gates, classes(), st.integers(1, 3))
def test_more_devices_as_bad_as_the_worst_never_turn_a_failure_into_a_pass(
    gate: Gate, of_class: ClassFacts, more: int
) -> None:
    awful = Measures(
        decode_milli_tps=1,
        ttft_p95_ms=10**6,
        requests=10,
        errors=10,
        peak_bytes=10**6,
        declared_bytes=1,
        prompts=1,
        score_permille=0,
        probed_decode_milli_tps=1,
        probed_ttft_ms=10**6,
    )
    grown = replace(
        of_class,
        devices=of_class.devices + more,
        told=[*of_class.told, *[Sample(awful)] * more],
    )
    if health_of(gate, of_class) is Health.FAILED:
        assert health_of(gate, grown) is not Health.HEALTHY


@given(all_gates, st.integers(3, 8), samples)
def test_no_single_device_fails_a_class(gate: Gate, devices: int, odd: Sample) -> None:
    told = [Sample(WELL, WELL)] * (devices - 1)
    every = {
        "min_decode": 1000,
        "max_ttft_p95": 1000,
        "max_memory": 900,
    }  # each as the others just keep it
    strict = msgspec.structs.replace(
        gate, **{name: value for name, value in every.items() if getattr(gate, name) is not None}
    )
    of_class = ClassFacts(devices, [*told, Sample(odd.candidate, WELL)], crashes=9, most_crashes=9)
    assert health_of(strict, of_class) is not Health.FAILED


@given(st.integers(2, 8), measures)
def test_no_single_device_passes_a_class(devices: int, odd: Measures) -> None:
    bad = but(decode_milli_tps=1000, ttft_p95_ms=3000, errors=90, peak_bytes=2000, score_permille=0)
    for gate in (
        only(min_decode=900),
        only(max_ttft_p95=1200),
        only(max_memory=1000),
        only(max_more_errors=10),
        only(max_score_loss=20),
    ):
        of_class = facts(*[bad] * (devices - 1), odd)
        assert health_of(gate, of_class) is not Health.HEALTHY


def health_of(gate: Gate, of_class: ClassFacts) -> Health:
    found = judge(gate, {"a": of_class}).classes
    return found[0].health if found else Health.HEALTHY


# A planted slowdown

CLASSES: Final = ("pi5", "n100", "orin", "rk3588")
DEVICES: Final = 12  # of each class in the first group
SEEDS: Final = 1000


@dataclass(frozen=True)
class World:
    """How much measurements differ though nothing is wrong: logarithmic deviations."""

    spread: float  # among the devices of a class: boards, cooling, cards
    noise: float  # of a device's own median, from window to window
    drift: float  # of a whole class between then and now: the weather, the hour


QUIET: Final = World(spread=0.1, noise=0.03, drift=0.01)
ROUGH: Final = World(spread=0.25, noise=0.04, drift=0.02)


def measured_by(dice: random.Random, world: World, rate: float, slowdown: float) -> Measures:
    requests = dice.randint(20, 400)
    return Measures(
        decode_milli_tps=round(rate * slowdown * dice.lognormvariate(0, world.noise)),
        ttft_p95_ms=round(6_000_000 / rate / slowdown * dice.lognormvariate(0, world.noise)),
        requests=requests,
        errors=min(requests, int(dice.expovariate(1 / (0.006 * requests)))),
        peak_bytes=round(900 * dice.lognormvariate(0, 0.01)),
        declared_bytes=1000,
        prompts=8,
        score_permille=1000,
    )


def canary(seed: int, world: World, slow: str) -> dict[str, ClassFacts]:
    """Make a first group of four classes, of which the candidate slows down `slow` by 20 %."""
    dice = random.Random(seed)  # noqa: S311 - noise
    found: dict[str, ClassFacts] = {}
    for name, typical in zip(CLASSES, (8_000, 14_000, 30_000, 5_000), strict=True):
        slowdown = dice.lognormvariate(0, world.drift) * (0.8 if name == slow else 1)
        rates = [typical * dice.lognormvariate(0, world.spread) for _ in range(DEVICES + 40)]
        told = [
            # A fifth of the group has no past: those are set against their class.
            Sample(
                measured_by(dice, world, rate, slowdown),
                measured_by(dice, world, rate, 1) if dice.random() < 0.8 else NOTHING,
            )
            for rate in rates[:DEVICES]
        ]
        others = [measured_by(dice, world, rate, 1) for rate in rates[DEVICES:]]
        found[name] = ClassFacts(DEVICES, told, others, len(others))
    return found


@pytest.mark.parametrize(("world", "may_be_wrong"), [(QUIET, 0), (ROUGH, SEEDS // 100)])
def test_a_slowdown_of_a_fifth_in_one_of_four_classes_is_caught_and_the_others_are_healthy(
    world: World, may_be_wrong: int
) -> None:
    wrong: list[str] = []
    for seed in range(SEEDS):
        slow = CLASSES[seed % len(CLASSES)]
        found = judge(Gate(), canary(seed, world, slow))
        assert slow not in found.named(Health.HEALTHY), f"canary({seed}, {world}, {slow!r})"
        others = tuple(sorted(set(CLASSES) - {slow}))
        if (found.named(Health.FAILED), found.named(Health.HEALTHY)) != ((slow,), others):
            wrong.append(f"canary({seed}, {world}, {slow!r}): {found.said()}")
        else:
            assert found.verdict is Verdict.FAIL
            [of_class] = [one for one in found.classes if one.hardware_class == slow]
            assert "decode rate" in of_class.said()
    assert len(wrong) <= may_be_wrong, wrong[:3]


@pytest.mark.parametrize(("world", "may_be_wrong"), [(QUIET, 0), (ROUGH, SEEDS // 100)])
def test_where_nothing_is_slower_all_are_healthy(world: World, may_be_wrong: int) -> None:
    verdicts = Counter(judge(Gate(), canary(seed, world, slow="")).verdict for seed in range(SEEDS))
    assert verdicts[Verdict.PASS] >= SEEDS - may_be_wrong, verdicts
