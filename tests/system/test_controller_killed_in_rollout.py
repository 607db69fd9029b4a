"""kill -9 of the controller at drawn points of one rollout: nothing lost, doubled or stuck."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from processes import Controller, wait_for
from simulators.fleet import ALIAS, MODEL, Fleet
from simulators.wire_devices import WireDevice, WireFleet, enrol

SEED = 6
# Few at a time, so that a kill meets some that are done, some under way and many queued.
AT_ONCE = 4
# The kills are spread over all groups, and meet what starts and ends them.
GROUPS = "1,10%,50%,rest"


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("devices", "kills"), [(40, 5), pytest.param(200, 50, marks=pytest.mark.full)]
)
def test_a_rollout_survives_kills_at_any_point(tmp_path: Path, devices: int, kills: int) -> None:
    with a_fleet(tmp_path, devices) as (fleet, wire):
        rollout = start(fleet)
        # A point is how many devices have carried their work out; what the controller knows of
        # it then, and what it is writing, differs each time.
        points = sorted(random.Random(SEED).sample(range(devices), kills))  # noqa: S311 - replayed
        for point in points:
            wait_for(
                f"{point} devices to do their work (seed {SEED})",
                lambda point=point: len(wire.runs()) >= point,
                timeout_s=60,
                alive=fleet.controller,
            )
            fleet.controller.kill()
            fleet.controller.start()
        executions = fleet.wait_finished(rollout, timeout_s=120)
        told = assigned(fleet, rollout)
    # None lost or stuck: every device has its execution, and each came to its good end.
    assert {device: one["state"] for device, one in executions.items()} == dict.fromkeys(
        wire.devices, "SUCCEEDED"
    )
    # None doubled: each was given out once, and carried out once, by the device that it was for.
    assert told == dict.fromkeys(wire.devices, 1)
    assert wire.runs() == {str(one["id"]): 1 for one in executions.values()}
    for device_id, device in wire.devices.items():
        assert set(device.runs) == {executions[device_id]["id"]}
        assert device.committed[ALIAS].digest == fleet.digests["1.0.0"]


@contextmanager
def a_fleet(folder: Path, count: int) -> Generator[tuple[Fleet, WireFleet]]:
    """Yield a controller and so many devices online, over real streams."""
    fleet = Fleet(folder)
    try:
        fleet.open()
        fleet.push("1.0.0", "This is the first release.")
        identities = enrol(fleet.controller, folder / "devices", count)
        wire = WireFleet(WireDevice(one, [_grpc(fleet.controller)]) for one in identities)
        wire.start()
        try:
            fleet.wait_online(sorted(wire.devices))
            yield fleet, wire
        finally:
            wire.stop()
    finally:
        fleet.close()


def start(fleet: Fleet) -> str:
    """Start a rollout to the whole fleet in groups, few devices at a time."""
    started = fleet.sprat(
        *("rollout", "start", f"{MODEL}@1.0.0", "--alias", ALIAS, "--context", "256"),
        *("--groups", GROUPS, "--max-in-progress", str(AT_ONCE), "--yes", "-o", "json"),
    )
    return str(started["id"])


def assigned(fleet: Fleet, rollout: str) -> Counter[str]:
    """Return how often each device was given the rollout's work, by the audit log."""
    moves = [one["detail"] for one in audit(fleet) if one["subject"].startswith("execution/")]
    return Counter(
        str(one["device"])
        for one in moves
        if one.get("rollout") == rollout and one.get("to") == "IN_PROGRESS"
    )


def audit(fleet: Fleet) -> list[dict[str, Any]]:
    """Return the controller's whole audit log, oldest first."""
    shown = fleet.sprat("audit", "list", "--limit", "100000", "-o", "json")
    return [item["body"] for item in shown["items"]]


def _grpc(controller: Controller) -> str:
    return str(json.loads(controller.ready_file.read_text())["grpc"])
