"""An abort criterion that rolls back, over real streams: nothing starts after it, all return."""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from processes import Controller, wait_for
from simulators.fleet import ALIAS, MODEL, Fleet
from simulators.wire_devices import WireDevice, WireFleet, enrol
from sprat_agent.identity.identity import Identity
from sprat_proto.states import ExecutionState

DEVICES = 24
AT_ONCE = 4
LEAST = 3  # failures that abort, if they are a fifth of what ended
DECIDED_S = 5.0
GOOD, BAD = "1.0.0", "2.0.0"


class Counted(WireDevice):
    """Counts the models whose bytes it would have to fetch; not all can run the second release.

    A real agent fetches what it does not hold, and holds what it has committed. The first that is
    given the second release is not done with it before it is told otherwise, and every third after
    that cannot run it.
    """

    def __init__(self, identity: Identity, addresses: list[str], given: list[str]) -> None:
        super().__init__(identity, addresses)
        self.held: set[str] = set()
        self.fetches: list[str] = []
        self._given = given  # who was given the second release, in order; of all the same list

    def finish(self, state: ExecutionState = ExecutionState.SUCCEEDED) -> None:
        """Fetch what is assigned and not held, then end."""
        wanted = self.under_way()
        missing = {one.digest for one in wanted} - self.held
        self.fetches += missing
        self.held |= missing
        if any(one.release == BAD for one in wanted):
            if self.id not in self._given:
                self._given.append(self.id)
            place = self._given.index(self.id)
            if place == 0:
                return
            state = ExecutionState.FAILED if place % 3 == 0 else state
        super().finish(state)


@pytest.mark.timeout(900)
def test_after_an_abort_nothing_starts_and_all_return_to_what_they_hold(tmp_path: Path) -> None:
    with a_fleet(tmp_path) as (fleet, wire, order):
        before = fleet.wait_finished(start(fleet, GOOD))
        assert {one["state"] for one in before.values()} == {"SUCCEEDED"}
        rollout = start(fleet, BAD, "--abort", f"failed>20%/{LEAST}:rollback")
        wait_for(
            "the rollout to be taken back",
            lambda: fleet.state(rollout) == "ROLLED_BACK",
            alive=fleet.controller,
        )
        executions, records = fleet.executions(rollout), audit(fleet)
        devices = [one for one in wire.devices.values() if isinstance(one, Counted)]
        wait_for(
            "all devices to run the first release",
            lambda: all(runs(one) == fleet.digests[GOOD] for one in devices),
            timeout_s=30,
        )
    moves = [one for one in records if one["detail"].get("rollout") == rollout]
    aborted = next(one for one in records if is_abort(one, rollout))
    failed = [one for one in moves if one["detail"].get("to") == "FAILED"]
    # It is decided at once, and nothing is given out for the first time after it.
    needed = next(n for n in range(LEAST, len(failed) + 1) if is_enough(moves, failed[n - 1], n))
    assert seconds(failed[needed - 1], aborted) <= DECIDED_S
    after = [one for one in moves if one["seq"] > aborted["seq"]]
    assert not [one for one in after if one["detail"].get("from") == "QUEUED" and is_start(one)]
    # Some had succeeded: they were taken back, and some were never asked.
    ends = {str(one["state"]) for one in executions.values()}
    assert ends == {"ROLLED_BACK", "FAILED", "CANCELED"}
    # The slow one was under way all the time, and ended with the others.
    slow = order[0]
    assert executions[slow]["state"] == "CANCELED"
    # Who was given it is in the audit log; what was taken back before it was heard is canceled.
    given = {str(one["detail"]["device"]) for one in moves if is_start(one)}
    canceled = {device for device, one in executions.items() if one["state"] == "CANCELED"}
    assert set(order) <= given <= set(order) | canceled
    # Each release was fetched once by whoever heard of it: none was fetched to go back.
    good, bad = fleet.digests[GOOD], fleet.digests[BAD]
    for device in devices:
        assert device.fetches == ([good, bad] if device.id in order else [good])


def is_enough(moves: list[dict[str, Any]], failure: dict[str, Any], count: int) -> bool:
    """Tell whether by this failure so many were a fifth of what had ended."""
    ended = [
        one
        for one in moves
        if one["seq"] <= failure["seq"] and one["detail"].get("to") in ("SUCCEEDED", "FAILED")
    ]
    return count * 100 >= 20 * len(ended)


def is_abort(record: dict[str, Any], rollout: str) -> bool:
    return record["tag"] == "planner:rollout:aborted" and record["subject"] == f"rollout/{rollout}"


def is_start(record: dict[str, Any]) -> bool:
    return record["detail"].get("to") == "IN_PROGRESS"


def seconds(earlier: dict[str, Any], later: dict[str, Any]) -> float:
    """Return how long after one record the other was written."""
    at = [datetime.fromisoformat(str(one["ts"])) for one in (earlier, later)]
    return (at[1] - at[0]).total_seconds()


def runs(device: WireDevice) -> str:
    return device.committed[ALIAS].digest


def start(fleet: Fleet, release: str, *options: str) -> str:
    """Start a rollout to the whole fleet, few devices at a time."""
    started = fleet.sprat(
        *("rollout", "start", f"{MODEL}@{release}", "--alias", ALIAS, "--context", "256"),
        *("--max-in-progress", str(AT_ONCE), *options, "--yes", "-o", "json"),
    )
    return str(started["id"])


@contextmanager
def a_fleet(folder: Path) -> Generator[tuple[Fleet, WireFleet, list[str]]]:
    """Yield a controller, devices online, and who of them was given the second release."""
    fleet, given = Fleet(folder), list[str]()
    try:
        fleet.open()
        fleet.push(GOOD, "This is the first release.")
        fleet.push(BAD, "This is the second release.")
        at = [_grpc(fleet.controller)]
        identities = enrol(fleet.controller, folder / "d", DEVICES)
        devices = [Counted(one, at, given) for one in identities]
        wire = WireFleet(devices)
        wire.start()
        try:
            fleet.wait_online(sorted(wire.devices))
            yield fleet, wire, given
        finally:
            wire.stop()
    finally:
        fleet.close()


def audit(fleet: Fleet) -> list[dict[str, Any]]:
    """Return the controller's whole audit log, oldest first, each with its place in it."""
    shown = fleet.sprat("audit", "list", "--limit", "100000", "-o", "json")
    return [item["body"] | {"seq": item["seq"]} for item in shown["items"]]


def _grpc(controller: Controller) -> str:
    return str(json.loads(controller.ready_file.read_text())["grpc"])
