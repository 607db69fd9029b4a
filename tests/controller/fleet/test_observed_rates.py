"""What devices were seen to do: kept within limits, and used for their whole class."""

from __future__ import annotations

from collections.abc import Generator
from statistics import median_low
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulators.controlled import ALIAS, SimDevice, World
from sprat_controller.fleet import inventory, observed_rates
from sprat_controller.fleet.observed_rates import MOST_OF_DEVICE, Told, medians
from sprat_controller.link.told_rates import MOST_MILLI_TPS
from sprat_controller.rollout.requests import PlanRequest
from sprat_controller.store.tables import DesiredModel, ObservedRate
from sprat_proto.audit_events import Tag
from sprat_proto.policy import FitPolicy
from sprat_proto.rates import Basis
from sprat_proto.v1 import link_pb2
from sqlmodel import select

SEEN: dict[str, int] = {"decode_milli_tps": 9000, "prefill_milli_tps": 90_000, "rate_samples": 5}


@pytest.fixture
def world() -> Generator[World]:
    made = World()
    made.publish("1.0.0")
    yield made
    made.close()


def running(world: World, name: str) -> SimDevice:
    """Return a device that was brought q8_0."""
    device = world.join(name)
    world.create()
    world.run_due()
    device.sync()
    world.run_due()
    return device


def tell(device: SimDevice, **seen: int) -> None:
    """Say what runs, and how fast it was seen to answer."""
    beat = device.a_heartbeat()
    for name, number in seen.items():
        setattr(beat.running[0], name, number)
    device.say(heartbeat=beat)


def kept(world: World) -> list[ObservedRate]:
    with world.database.reading() as session:
        found = list(session.exec(select(ObservedRate)).all())
        session.expunge_all()
        return found


def rates(world: World) -> list[tuple[str, int, int, int]]:
    return [
        (one.device_id, one.decode_milli_tps, one.prefill_milli_tps, one.samples)
        for one in kept(world)
    ]


def test_the_newest_rates_of_a_device_are_kept(world: World) -> None:
    device = running(world, "a")
    tell(device)
    assert rates(world) == []
    tell(device, **SEEN)
    assert rates(world) == [("a", 9000, 90_000, 5)]
    assert kept(world)[0].hardware_class == world.device("a").hardware_class
    tell(device, **{**SEEN, "decode_milli_tps": 8000, "rate_samples": 6})
    assert rates(world) == [("a", 8000, 90_000, 6)]


def test_rows_stay_quiet_and_nothing_is_forgotten_at_a_restart(world: World) -> None:
    device = running(world, "a")
    tell(device, **SEEN)
    world.wait(seconds=60)
    tell(device, **{**SEEN, "decode_milli_tps": 9100, "rate_samples": 6})
    tell(device)
    tell(device, prefill_milli_tps=80_000, rate_samples=1)
    assert rates(world) == [("a", 9000, 80_000, 1)]


@pytest.mark.parametrize(
    ("seen", "found"),
    [
        ({"rate_samples": 3}, "expected a rate above 0 after 3 answers, found none"),
        ({"decode_milli_tps": 5}, "expected medians of 1 to 1048576 answers, found 0"),
        ({**SEEN, "rate_samples": 1 << 31}, "found 2147483648"),
        (
            {**SEEN, "decode_milli_tps": MOST_MILLI_TPS + 1},
            "expected at most 1000000 tokens a second, found 1000000",
        ),
        ({**SEEN, "prefill_milli_tps": (1 << 64) - 1}, "found 18446744073709551"),
    ],
)
def test_what_cannot_be_is_refused_with_a_sentence(
    world: World, seen: dict[str, int], found: str
) -> None:
    device = running(world, "a")
    tell(device, **seen)
    assert rates(world) == []
    (record,) = world.audited(Tag.DEVICE_MESSAGE_REFUSED)
    assert record["detail"]["found"].startswith(f"rates of q8_0 under {ALIAS}: ")
    assert found in record["detail"]["found"]
    assert world.device("a").running  # all else that it said is taken in


def test_of_what_the_device_was_not_given_nothing_is_kept(world: World) -> None:
    device = running(world, "a")
    beat = device.a_heartbeat()
    beat.running[0].digest = "e" * 64
    for name, number in SEEN.items():
        setattr(beat.running[0], name, number)
    device.say(heartbeat=beat)
    assert rates(world) == []


def test_simulated_devices_have_no_rates(world: World) -> None:
    device = running(world, "a")
    profile = link_pb2.HardwareProfile(
        arch="x86_64", cores=4, memory_bytes=1 << 40, memory_budget_bytes=1 << 40, simulated=True
    )
    device.say(hello=link_pb2.Hello(profile=profile, next_report_seq=1, next_audit_seq=1))
    tell(device, **SEEN)
    assert rates(world) == []


def test_a_device_has_only_so_many_rows(world: World) -> None:
    device = running(world, "a")
    wanted = [world.publish(f"2.{number}.0", counter=2 + number)["q8_0"] for number in range(40)]
    for digest in wanted:
        world.wait(seconds=60)
        with world.database.transaction() as session:
            row = session.get_one(DesiredModel, ("a", ALIAS))
            row.digest = digest
            session.flush()
            observed_rates.keep(session, "a", [Told(digest, 5000, 0, 1)], world.now)
    assert {one.digest for one in kept(world)} == set(wanted[-MOST_OF_DEVICE:])
    assert device.committed


def test_what_one_device_was_seen_to_do_counts_for_its_class(world: World) -> None:
    device = running(world, "a")
    world.join("b")
    tell(device, **SEEN)
    slow = FitPolicy(min_decode_milli_tps=9001)
    fast = FitPolicy(min_decode_milli_tps=9000)
    for policy, code, variant in ((slow, "TOO_SLOW", None), (fast, None, "q8_0")):
        request = PlanRequest("talk", "1.0.0", ALIAS, context=256, policy=policy)
        line = next(one for one in world.service.plan(request) if one.device_id == "b")
        verdict = next(one for one in line.verdicts if one.variant == "q8_0")
        assert (verdict.code, verdict.rates.basis) == (code, Basis.OBSERVED)
        assert verdict.rates.prefill_milli_tps == SEEN["prefill_milli_tps"]
        assert line.variant == variant


def test_a_device_is_shown_beside_its_class_without_those_that_were_removed(world: World) -> None:
    for name, decode in (("a", 9000), ("b", 7000), ("c", 1)):
        tell(running(world, name), **{**SEEN, "decode_milli_tps": decode})
    world.remove("c")
    with world.database.reading() as session:
        (one,) = inventory.show(session, "b")["observed"]
    assert (one["model"], one["release"], one["variant"]) == ("talk", "1.0.0", "q8_0")
    assert (one["decode_milli_tps"], one["samples"]) == (7000, 5)
    assert (one["class_decode_milli_tps"], one["class_devices"]) == (7000, 2)


def test_a_class_of_other_hardware_learns_nothing(world: World) -> None:
    tell(running(world, "a"), **SEEN)
    other = world.join("b", budget=900 << 20)
    with world.database.reading() as session:
        found = observed_rates.of_release(session, "talk", "1.0.0")
    assert list(found) == [world.device("a").hardware_class]
    assert world.device(other.id).hardware_class not in found


# What is pure

some_rates = st.integers(1, MOST_MILLI_TPS)


@given(honest=st.lists(some_rates, min_size=2, max_size=30), lie=some_rates)
def test_one_that_lies_moves_a_class_no_further_than_its_honest_devices(
    honest: list[int], lie: int
) -> None:
    rows = [("class", "d", rate, rate) for rate in (*honest, lie)]
    found = medians(rows)["class"]["d"]
    assert found.devices == len(honest) + 1
    assert min(honest) <= found.rates.decode_milli_tps <= max(honest)
    assert min(honest) <= found.rates.prefill_milli_tps <= max(honest)


rows_ = st.tuples(
    st.sampled_from("xy"), st.sampled_from("de"), st.just(0) | some_rates, st.just(0) | some_rates
)


@given(st.lists(rows_, max_size=30))
def test_medians_are_of_what_was_seen_in_any_order(rows: list[Any]) -> None:
    found = medians(rows)
    assert found == medians(rows[::-1])
    for of_class in "xy":
        for digest in "de":
            mine = [row for row in rows if row[:2] == (of_class, digest)]
            decode = [row[2] for row in mine if row[2]]
            one = found.get(of_class, {}).get(digest)
            assert (one is None) == (not decode)
            if one is not None:
                assert one.rates.decode_milli_tps == median_low(decode)
                assert one.devices == len(decode)
