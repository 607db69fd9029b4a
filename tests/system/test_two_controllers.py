"""Two controllers, one PostgreSQL, real streams: nothing fires twice, one death is no matter."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Generator
from typing import Any, Final

import pytest
from processes import wait_for
from simulators.fleet import MODEL
from simulators.postgres import Cluster
from simulators.replicas import Replicas
from simulators.wire_devices import WireDevice, WireFleet, enrol
from sprat_proto.merkle import Frontier, leaf_hash

DEVICES: Final = 24
RULES: Final = 6
ROUNDS: Final = 3


@pytest.fixture(scope="module")
def replicas(tmp_path_factory: pytest.TempPathFactory, cluster: Cluster) -> Generator[Replicas]:
    made = Replicas(tmp_path_factory.mktemp("replicas"), cluster)
    try:
        made.open()
        made.fleet.push("1.0.0", "This is the first release.")
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def devices(replicas: Replicas, tmp_path_factory: pytest.TempPathFactory) -> Generator[WireFleet]:
    """Half of the devices at each controller; each knows both."""
    identities = enrol(replicas.first, tmp_path_factory.mktemp("devices"), DEVICES)
    at = replicas.grpc()
    fleet = WireFleet(
        WireDevice(identity, at if number % 2 else at[::-1])
        for number, identity in enumerate(identities)
    )
    fleet.start()
    try:
        replicas.fleet.wait_online(sorted(fleet.devices))
        yield fleet
    finally:
        fleet.stop()


def test_nothing_fires_twice(replicas: Replicas, devices: WireFleet) -> None:
    rollouts = [replicas.start_rollout(f"calm-{number}") for number in range(3)]
    seen: set[str] = set()

    def finished() -> bool:
        seen.update(held.owner for held in replicas.held())
        return replicas.are_finished(rollouts)

    wait_for("three rollouts to finish", finished, timeout_s=60)
    check_each_once(replicas, devices, rollouts)
    assert {held.split("/")[1] for held in seen} == {
        str(one.pid) for one in (replicas.first, replicas.second)
    }, "only one of the two worked"


def test_when_one_is_killed_at_work_the_other_goes_on(
    replicas: Replicas, devices: WireFleet
) -> None:
    rollouts = [replicas.start_rollout(f"killed-{number}") for number in range(3)]
    with replicas.frozen_at_work() as (controller, held):
        controller.kill()
        replicas.wait_taken_over(held)
    wait_for("the rollouts to finish", lambda: replicas.are_finished(rollouts), timeout_s=60)
    controller.start()
    check_each_once(replicas, devices, rollouts)


def test_one_that_was_frozen_does_nothing_that_it_had_decided(
    replicas: Replicas, devices: WireFleet
) -> None:
    rollouts = [replicas.start_rollout(f"frozen-{number}") for number in range(3)]
    with replicas.frozen_at_work() as (controller, held):
        replicas.wait_taken_over(held)
        # What it had decided is done by the other before it wakes up.
        wait_for("the other to rest", lambda: not replicas.held(), timeout_s=30)
    wait_for("the rollouts to finish", lambda: replicas.are_finished(rollouts), timeout_s=120)
    assert controller.is_running
    check_each_once(replicas, devices, rollouts)


def test_recurring_rollouts_fire_once_though_one_is_killed(
    replicas: Replicas, devices: WireFleet
) -> None:
    """Make every rule due at once, again and again, and kill one of the two meanwhile."""
    replicas.fleet.sprat("channels", "put", f"{MODEL}@1.0.0", "stable", "-o", "json")
    rules = [a_rule(replicas, f"recurring-{number}") for number in range(RULES)]
    make_due(replicas, rules, 1)
    rollouts = [
        str(one)
        for (one,) in replicas.rows(
            "SELECT rollout_id FROM occurrence WHERE recurrence_id = ANY(%s)", rules
        )
    ]
    wait_for("them to finish", lambda: replicas.are_finished(rollouts), timeout_s=120)
    make_due(replicas, rules, 2, replicas.second.kill)
    replicas.second.start()
    make_due(replicas, rules, 3)
    assert decided(replicas, rules) == RULES * ROUNDS
    check_each_once(replicas, devices, rollouts)
    tags = Counter(
        (one["tag"], one["subject"])
        for one in whole_audit(replicas)
        if one["subject"].startswith("recurrence/") and one["tag"].startswith("schedule:")
    )
    for rule in rules:
        assert tags["schedule:recurrence:created-rollout", f"recurrence/{rule}"] == 1
        assert tags["schedule:recurrence:skipped", f"recurrence/{rule}"] == ROUNDS - 1


def a_rule(replicas: Replicas, alias: str) -> str:
    added = replicas.fleet.sprat(
        *("rollout", "recurring", "add", MODEL, "--channel", "stable", "--alias", alias),
        *("--context", "256", "--every", "0 0 1 1 *;Europe/Berlin", "-o", "json"),
    )
    return str(added["id"])


def make_due(
    replicas: Replicas, rules: list[str], times: int, then: Callable[[], object] = lambda: None
) -> None:
    """Make all rules due now, do something, and wait until each was decided so many times."""
    replicas.rows(
        "UPDATE recurrence SET due_at = timezone('UTC', now()) WHERE id = ANY(%s) RETURNING id",
        rules,
    )
    then()
    wait_for(
        "every rule to be decided",
        lambda: decided(replicas, rules) >= RULES * times,
        timeout_s=60,
    )


def decided(replicas: Replicas, rules: list[str]) -> int:
    """Return how many moments of the rules were decided."""
    query = "SELECT count(*) FROM occurrence WHERE recurrence_id = ANY(%s)"
    ((count,),) = replicas.rows(query, rules)
    return int(count)


def check_each_once(replicas: Replicas, devices: WireFleet, rollouts: list[str]) -> None:
    """Check in the audit log and on the devices that each was given out once, and ended once."""
    records = whole_audit(replicas)
    moves = [one["detail"] for one in records if one["subject"].startswith("execution/")]
    mine = [one for one in moves if one.get("rollout") in rollouts]
    given = Counter((one["rollout"], one["device"]) for one in mine if one["to"] == "IN_PROGRESS")
    ended = Counter((one["rollout"], one["device"]) for one in mine if one["to"] == "SUCCEEDED")
    everyone = {(rollout, device) for rollout in rollouts for device in devices.devices}
    assert given == dict.fromkeys(everyone, 1)
    assert ended == dict.fromkeys(everyone, 1)
    versions = Counter(
        (one["subject"], one["detail"]["version"])
        for one in records
        if one["tag"] == "planner:assignment:issued"
    )
    assert versions
    assert set(versions.values()) == {1}
    assert set(devices.runs().values()) == {1}


def whole_audit(replicas: Replicas) -> list[dict[str, Any]]:
    """Return every record of the controllers' common log, its tree followed from the start."""
    tree, records = Frontier(), list[dict[str, Any]]()
    rows = replicas.rows("SELECT seq, body, hash FROM audit_record ORDER BY seq")
    for expected, (seq, body, hash_) in enumerate(rows, start=1):
        assert seq == expected
        assert leaf_hash(body).hex() == hash_
        tree.append(leaf_hash(body))
        records.append(json.loads(body))
    # Nobody writes any more: what the last append left is the tree of all of them.
    assert replicas.rows("SELECT size, frontier FROM audit_head") == [(tree.size, bytes(tree))]
    return records
