"""Devices that run something else without a word, over real streams: one heartbeat shows it."""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from processes import wait_for
from simulators.fleet import ALIAS, MODEL, Fleet
from simulators.wire_devices import WireDevice, WireFleet, enrol
from sprat_proto.v1.link_pb2 import ControllerMessage

DEVICES, FALLEN = 20, 5
RELEASE = "1.0.0"


class Falling(WireDevice):
    """Once it is to, it answers with something else, and says so in one single heartbeat."""

    falls_to = ""  # a digest
    hellos = 0
    beats_since = 0

    def hello(self, **fields: Any) -> list[ControllerMessage]:
        """Say what runs in a new stream; counted, for it would tell of a fallback too."""
        self.hellos += 1
        return super().hello(**fields)

    def heartbeat(self) -> list[ControllerMessage]:
        """Be silent after the heartbeat that shows it."""
        if self.beats_since:
            return []
        if self.falls_to:
            committed = self.committed[ALIAS]
            self.committed[ALIAS] = structs.replace(committed, digest=self.falls_to)
            self.beats_since = 1
        return super().heartbeat()


@pytest.mark.timeout(900)
def test_one_heartbeat_of_a_device_that_fell_back_is_enough(tmp_path: Path) -> None:
    with a_fleet(tmp_path) as (fleet, wire, other):
        devices = {one.id: one for one in wire.devices.values() if isinstance(one, Falling)}
        rollout = roll_out(fleet)
        hellos = {name: one.hellos for name, one in devices.items()}
        fallen = sorted(devices)[:FALLEN]
        for name in fallen:
            devices[name].falls_to = other
        wait_for(
            "the controller to have noticed each of them",
            lambda: len(noticed(fleet)) >= FALLEN,
            timeout_s=30,
            alive=fleet.controller,
        )
        records, executions = noticed(fleet), fleet.executions(rollout)
        assert {name: one.hellos for name, one in devices.items()} == hellos
        assert {name for name, one in devices.items() if one.beats_since} == set(fallen)
    # Each once, with what it had proved and what it runs; nobody else.
    went = {"alias": ALIAS, "expected": fleet.digests[RELEASE], "found": other}
    assert records == [(f"device/{name}", went) for name in fallen]
    # It is the device's own way back, and not what the rollout took back.
    ended = {name: (one["state"], code_of(one)) for name, one in executions.items()}
    back = dict.fromkeys(fallen, ("ROLLED_BACK", "REVERTED"))
    assert ended == {**dict.fromkeys(devices, ("SUCCEEDED", "")), **back}


def code_of(execution: dict[str, Any]) -> str:
    reason: dict[str, Any] = execution["reason"] or {}
    return str(reason.get("code", ""))


def noticed(fleet: Fleet) -> list[tuple[str, dict[str, Any]]]:
    """Return which devices fell back by the controller's audit log, and from what to what."""
    shown = fleet.sprat("audit", "list", "--limit", "100000", "-o", "json")
    found = [one["body"] for one in shown["items"]]
    return sorted(
        (str(one["subject"]), one["detail"])
        for one in found
        if one["tag"] == "device:model:fell-back"
    )


def roll_out(fleet: Fleet) -> str:
    """Bring the release to the whole fleet, and wait until all run it."""
    started = fleet.sprat(
        *("rollout", "start", f"{MODEL}@{RELEASE}", "--alias", ALIAS, "--context", "256"),
        *("--yes", "-o", "json"),
    )
    executions = fleet.wait_finished(str(started["id"]), timeout_s=60)
    assert {one["state"] for one in executions.values()} == {"SUCCEEDED"}
    return str(started["id"])


@contextmanager
def a_fleet(folder: Path) -> Generator[tuple[Fleet, WireFleet, str]]:
    """Yield a controller, devices online over real streams, and the digest of another variant."""
    fleet = Fleet(folder)
    try:
        fleet.open()
        pushed = fleet.push(RELEASE, "This is the first release.", variants="q8_0,q4_0")
        at = str(json.loads(fleet.controller.ready_file.read_text())["grpc"])
        identities = enrol(fleet.controller, folder / "d", DEVICES)
        wire = WireFleet(Falling(one, [at]) for one in identities)
        wire.start()
        try:
            fleet.wait_online(sorted(wire.devices))
            given = fleet.digests[RELEASE]
            (other,) = {one["digest"] for one in pushed["variants"]} - {given}
            yield fleet, wire, str(other)
        finally:
            wire.stop()
    finally:
        fleet.close()
