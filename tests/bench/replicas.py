"""How long a fleet waits when one of two controllers is killed at work.

Both are real processes over one PostgreSQL, with devices on real streams. The one that holds a
rollout is killed with `kill -9`; what is timed is until the other has claimed that rollout.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from figure import Figure
from processes import wait_for
from simulators import postgres
from simulators.replicas import Replicas
from simulators.wire_devices import WireDevice, WireFleet, enrol
from sprat_controller.schedule import leases

BOUND_S: Final = 2.0
DEVICES: Final = 24
KILLS: Final = 9


def figures() -> Iterator[Figure]:
    """Kill whoever is at work, and start it again."""
    with (
        tempfile.TemporaryDirectory(prefix="sprat-bench-") as folder,
        postgres.running() as cluster,
    ):
        replicas = Replicas(Path(folder), cluster)
        try:
            replicas.open()
            replicas.fleet.push("1.0.0", "This is the first release.")
            took_s = _take_overs(replicas, Path(folder))
        finally:
            replicas.close()
    detail: dict[str, object] = {
        "lease_s": leases.LENGTH.total_seconds(),
        "worst": round(max(took_s), 2),
        "kills": len(took_s),
    }
    yield Figure("take_over_median", statistics.median(took_s), "s", BOUND_S, detail=detail)


def _take_overs(replicas: Replicas, folder: Path) -> list[float]:
    identities = enrol(replicas.first, folder / "devices", DEVICES)
    fleet = WireFleet(WireDevice(identity, replicas.grpc()) for identity in identities)
    fleet.start()
    took_s: list[float] = []
    try:
        replicas.fleet.wait_online(sorted(fleet.devices))
        for number in range(KILLS):
            rollouts = [replicas.start_rollout(f"killed-{number}")]
            with replicas.frozen_at_work() as (controller, held):
                controller.kill()
                took_s.append(replicas.wait_taken_over(held))
            wait_for("it to finish", lambda started=rollouts: replicas.are_finished(started))
            controller.start()
            replicas.fleet.wait_online(sorted(fleet.devices))
    finally:
        fleet.stop()
    return took_s
