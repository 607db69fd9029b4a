from __future__ import annotations

import hashlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulators.controlled import BIG, MIB, MODEL, SMALL, TINY, WEIGHTS, World, a_manifest
from sprat_controller.rollout import fetching
from sprat_controller.rollout.fetching import Cost
from sprat_controller.rollout.requests import PlanRequest
from sprat_controller.rollout.strategy import Group, Pace, Strategy
from sprat_controller.store.tables import Release, Variant
from sprat_proto import manifest
from sprat_proto.manifest import Activation, Adapter, Manifest


def variant(*files: tuple[str, int], soak_s: int = 0) -> Manifest:
    made = a_manifest("q4_0", 100, model=MODEL, release="1.0.0", counter=1)
    shard = made.shards[0]
    shards = [msgspec.structs.replace(shard, sha256=one, size=size) for one, size in files]
    return msgspec.structs.replace(made, shards=shards, activation=Activation(soak_s=soak_s))


def publish(world: World, release: str, made: Manifest) -> None:
    """Keep a second release of one variant."""
    made = msgspec.structs.replace(made, release=release, release_counter=2)
    body = manifest.encode(made)
    with world.database.transaction() as session:
        session.add(
            Release(
                model=MODEL,
                release=release,
                counter=2,
                created_at=world.now,
                pushed_by="token:ann",
            )
        )
        session.flush()
        session.add(
            Variant(
                digest=hashlib.sha256(body).hexdigest(),
                model=MODEL,
                release=release,
                variant=made.variant,
                manifest=body,
                publisher="ann",
            )
        )


def costs(world: World, release: str, bandwidth: int = 0) -> dict[str, Cost]:
    lines = world.service.plan(PlanRequest(MODEL, release, "assistant", context=256))
    with world.database.reading() as session:
        return fetching.of_plan(session, lines, bandwidth)


@pytest.mark.parametrize(("bandwidth", "expected"), [(0, None), (50, 61), (49, 62), (1, 110)])
def test_only_files_that_the_device_does_not_hold_are_fetched(
    bandwidth: int, expected: int | None
) -> None:
    wanted = variant(("a", 100), ("b", 50), ("c", 100), soak_s=60)
    held = [variant(("a", 100)), variant(("c", 100), ("z", 9))]
    assert fetching.of_variant(wanted, held, bandwidth) == Cost(50, expected)


def test_a_plan_says_what_each_device_spends(world: World) -> None:
    for name, budget in (("big", BIG), ("small", SMALL), ("tiny", TINY)):
        world.join(name, budget)
    found = costs(world, "1.0.0")
    assert found["tiny"] == Cost(None, None)
    assert found["big"].fetch_bytes is not None
    assert found["small"].fetch_bytes is not None
    assert found["big"].fetch_bytes > found["small"].fetch_bytes > 0
    assert found["big"].expected_s is None
    known = costs(world, "1.0.0", bandwidth=1 << 20)["big"]
    assert known.expected_s == -(-found["big"].fetch_bytes // (1 << 20))


def test_an_update_costs_what_changed_since_what_runs(world: World) -> None:
    device = world.join("runs", BIG)
    world.create()
    world.run_due()
    device.sync()
    world.join("bare", BIG)
    old = a_manifest("q8_0", WEIGHTS["q8_0"], model=MODEL, release="1.0.0", counter=1)
    whole = old.shards[0].size
    pieces = ["9" * 64] * 3
    lora = Adapter("polite", "8" * 64, size=3 * MIB, pieces=pieces)
    publish(world, "1.1.0", msgspec.structs.replace(old, adapters=[lora]))
    found = costs(world, "1.1.0", bandwidth=MIB)
    assert found["runs"] == Cost(3 * MIB, 3)
    assert found["bare"] == Cost(whole + 3 * MIB, -(-whole // MIB) + 3)


def test_a_device_that_runs_it_spends_nothing(world: World) -> None:
    device = world.join("big", BIG)
    world.create()
    world.run_due()
    device.sync()
    assert costs(world, "1.0.0")["big"] == Cost(None, None)


def test_a_plan_says_when_each_device_is_done_by_its_groups_and_pace(world: World) -> None:
    for number in range(4):
        world.join(f"d{number}", BIG)
    request = PlanRequest(MODEL, "1.0.0", "assistant", context=256)
    groups = (Group(devices=1, soak_s=1000), Group())
    strategy = Strategy(groups=groups, pace=Pace(max_in_progress=2))
    lines = world.service.plan(request, strategy)
    with world.database.reading() as session:
        found = fetching.of_rollout(session, lines, request, strategy, MIB)
    took = found["d0"].expected_s
    assert took
    ends = sorted(cost.end_s or 0 for cost in found.values())
    second = took + 1000 + took
    assert ends == [took, second, second, second + took]


files = st.lists(st.tuples(st.sampled_from("abcdef"), st.just(7)), min_size=1, max_size=6)


@given(files, st.lists(files, max_size=3))
def test_the_bytes_to_fetch_are_never_more_than_the_variant_and_none_if_all_is_there(
    wanted: list[tuple[str, int]], others: list[list[tuple[str, int]]]
) -> None:
    whole = variant(*wanted)
    held = [variant(*one) for one in others]
    found = fetching.of_variant(whole, held, 0).fetch_bytes
    assert found is not None
    assert 0 <= found <= 7 * len({name for name, _ in wanted})
    assert fetching.of_variant(whole, [*held, whole], 0) == Cost(0, 0)
