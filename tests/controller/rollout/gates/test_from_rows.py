"""What gates judge by comes out of the rows as devices told it, class by class."""

from __future__ import annotations

import random
from typing import Any, Final

import pytest
from simulators.controlled import ALIAS, BIG, SimDevice, World, a_profile
from sprat_controller.rollout.facts import Verdict
from sprat_controller.rollout.gates import from_rows, judgement
from sprat_controller.rollout.gates.judgement import Health, Judgement
from sprat_controller.rollout.gates.measures import ClassFacts, Measures
from sprat_controller.rollout.requests import Target
from sprat_controller.rollout.strategy import Gate
from sprat_controller.store.tables import RolloutGroup
from sprat_proto.states import ExecutionState
from sprat_proto.v1 import link_pb2
from sqlmodel import col, select

# Kinds of hardware by their name and cores, and what a device of it decodes, in thousandths of a
# token a second.
CLASSES: Final = {"pi5": (4, 8_000), "n100": (6, 14_000), "orin": (8, 30_000), "rk": (10, 5_000)}
DEVICES: Final = 12  # of each in the group
OTHERS: Final = 6  # of each outside it


@pytest.fixture
def two(world: World) -> World:
    world.publish("2.0.0", counter=2)
    return world


def join(world: World, name: str, cores: int = 4, **labels: str) -> SimDevice:
    world.enrol(name, **labels)
    device = SimDevice(world, name, BIG)
    device.hello()
    device.say(
        hello=link_pb2.Hello(capability=6, profile=a_profile(BIG, cores=cores), newest_report_seq=0)
    )
    return device


def tell(device: SimDevice, **said: int) -> None:
    """Tell metrics of what the device runs."""
    beat = device.a_heartbeat()
    for one in beat.running:
        metrics: dict[str, Any] = {"window_s": 60, **said}
        beat.metrics.append(link_pb2.ModelMetrics(alias=one.alias, digest=one.digest, **metrics))
    device.say(heartbeat=beat)


def bring(world: World, release: str, devices: list[SimDevice], **labels: str) -> str:
    view = world.create(release, target=Target(labels))
    world.run_due()
    for device in devices:
        device.sync()
    world.run_due()
    return view.id


def facts(world: World, rollout_id: str) -> dict[str, ClassFacts]:
    with world.database.reading() as session:
        return from_rows.of_group(session, rollout_id, 0)


def judged(world: World, rollout_id: str, gate: Gate) -> Judgement:
    with world.database.reading() as session:
        return from_rows.judge(session, rollout_id, 0, gate)


def test_a_device_is_set_against_itself_and_its_class(two: World) -> None:
    inside, outside = join(two, "a", site="lyon"), join(two, "b")
    bring(two, "1.0.0", [inside, outside])
    said = {"requests": 40, "errors": 1, "peak_bytes": 900, "declared_bytes": 1000}
    tell(inside, decode_milli_tps=9000, ttft_p95_ms=300, **said)
    tell(outside, decode_milli_tps=8000)
    two.wait(minutes=1)
    rollout = bring(two, "2.0.0", [inside], site="lyon")
    (counted,) = facts(two, rollout).values()
    assert (counted.devices, counted.told) == (1, ())
    tell(inside, decode_milli_tps=7000, requests=3, crashes=2)
    [(name, found)] = facts(two, rollout).items()
    assert name == two.device("a").hardware_class
    [sample] = found.told
    assert sample.candidate == Measures(decode_milli_tps=7000, requests=3)
    assert sample.before == Measures(
        decode_milli_tps=9000,
        ttft_p95_ms=300,
        requests=40,
        errors=1,
        peak_bytes=900,
        declared_bytes=1000,
    )
    assert (found.others, found.others_in_all) == ([Measures(decode_milli_tps=8000)], 1)
    assert (found.crashes, found.most_crashes, found.is_scored) == (2, 2, False)


def test_what_was_told_of_the_candidate_before_it_was_given_out_does_not_count(two: World) -> None:
    device = join(two, "a")
    bring(two, "1.0.0", [device])  # else it were too old for this device, after the next
    bring(two, "2.0.0", [device])
    tell(device, decode_milli_tps=1, crashes=2)
    bring(two, "1.0.0", [device])
    tell(device, decode_milli_tps=9000)
    two.wait(minutes=1)
    rollout = bring(two, "2.0.0", [device])
    (found,) = facts(two, rollout).values()
    assert (found.devices, found.told, found.crashes) == (1, (), 0)


def test_who_got_nothing_or_is_not_judged_is_in_no_class(two: World) -> None:
    devices = [join(two, name) for name in "abcd"]
    bring(two, "1.0.0", devices)
    view = two.create("2.0.0", max_in_progress=3)
    two.run_due()
    succeeds, fails, goes_on, _ = devices
    succeeds.sync()
    fails.sync(ExecutionState.FAILED)
    goes_on.heartbeat()
    with two.database.reading() as session:
        found = from_rows.of_group(session, view.id, 0)
    # One succeeded, one is under way, and one waits for its turn.
    assert [one.devices for one in found.values()] == [3]


def test_those_that_come_first_do_not_speak_for_all(two: World) -> None:
    devices = [join(two, name) for name in "abc"]
    bring(two, "1.0.0", devices)
    for device in devices:
        tell(device, decode_milli_tps=9000)
    two.wait(minutes=1)
    view = two.create("2.0.0", max_in_progress=2)
    two.run_due()
    devices[0].sync()
    tell(devices[0], decode_milli_tps=1000)
    slow = Gate(
        max_ttft_p95=None, max_memory=None, max_more_errors=None, max_crashes=None, min_devices=1
    )
    found = judged(two, view.id, slow)
    assert (found.verdict, found.classes[0].devices) == (Verdict.HOLD, 3)
    devices[1].sync()
    tell(devices[1], decode_milli_tps=1000)
    assert judged(two, view.id, slow).verdict is Verdict.FAIL


def test_what_a_gate_says_is_kept_with_its_group(two: World) -> None:
    device = join(two, "a")
    bring(two, "1.0.0", [device])
    rollout = bring(two, "2.0.0", [device])
    tell(device)
    with two.database.transaction() as session:
        found = from_rows.rejudge(session, rollout, {0: CRASHES_ONLY})[0]
    with two.database.reading() as session:
        of_rollout = select(RolloutGroup).where(col(RolloutGroup.rollout_id) == rollout)
        (group,) = session.exec(of_rollout).all()
        assert judgement.from_json(group.verdict or {}) == found
    assert found.verdict is Verdict.PASS


def test_a_silent_fallback_counts_as_a_crash_of_what_should_run(two: World) -> None:
    device = join(two, "a")
    bring(two, "1.0.0", [device])
    former = device.committed[ALIAS]
    rollout = bring(two, "2.0.0", [device])
    assert judged(two, rollout, CRASHES_ONLY).verdict is Verdict.HOLD
    tell(device)
    assert judged(two, rollout, CRASHES_ONLY).verdict is Verdict.PASS
    device.committed[ALIAS] = former
    device.heartbeat()
    found = judged(two, rollout, CRASHES_ONLY)
    assert found.verdict is Verdict.FAIL
    assert "expected at most 0 crashes, found 1" in found.said()


CRASHES_ONLY: Final = Gate(
    min_decode=None, max_ttft_p95=None, max_memory=None, max_more_errors=None
)


def test_a_planted_slowdown_is_caught_in_its_class_and_the_others_are_healthy(two: World) -> None:
    """Metrics come in by heartbeats; one of four hardware classes got 20 % slower."""
    dice = random.Random(11)  # noqa: S311 - noise
    rates: dict[str, float] = {}
    inside: list[SimDevice] = []
    outside: list[SimDevice] = []
    for name, (cores, typical) in CLASSES.items():
        for number in range(DEVICES + OTHERS):
            is_inside = number < DEVICES
            labels = {"wave": "canary"} if is_inside else {}
            device = join(two, f"{name}-{number}", cores, **labels)
            (inside if is_inside else outside).append(device)
            rates[device.id] = typical * dice.lognormvariate(0, 0.1)
    bring(two, "1.0.0", [*inside, *outside])

    def told(device: SimDevice, slowdown: float) -> None:
        rate = rates[device.id] * slowdown
        tell(
            device,
            requests=200,
            errors=dice.randint(0, 1),
            decode_milli_tps=round(rate * dice.lognormvariate(0, 0.03)),
            ttft_p95_ms=round(6_000_000 / rate * dice.lognormvariate(0, 0.03)),
            peak_bytes=900,
            declared_bytes=1000,
        )

    for device in [*inside, *outside]:
        told(device, 1)
    two.wait(minutes=5)
    rollout = bring(two, "2.0.0", inside, wave="canary")
    assert judged(two, rollout, Gate()).verdict is Verdict.HOLD
    for device in inside:
        told(device, 0.8 if device.id.startswith("orin-") else 1)
    found = judged(two, rollout, Gate())
    of = {name: two.device(f"{name}-0").hardware_class for name in CLASSES}
    assert found.verdict is Verdict.FAIL
    assert found.named(Health.FAILED) == (of["orin"],)
    assert set(found.named(Health.HEALTHY)) == {of[name] for name in ("pi5", "n100", "rk")}
