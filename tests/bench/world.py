"""A million virtual devices under the real planner and runner, to the end of a rollout.

It is one process on one core. What the machine does beside it must not count, so the bound is on
the process's own time.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from figure import Figure
from simulators.world.failures import MIXES
from simulators.world.loop import Plan, World

DEVICES = 1_000_000
BOUND_S = 60.0


def figures() -> Iterator[Figure]:
    """Run a rough world by the ladder; its own watch ends it at whatever never may be."""
    began, clock = time.process_time(), time.perf_counter()
    report = World(Plan(seed=7, devices=DEVICES, failures=MIXES["rough"])).run()
    took_s = time.process_time() - began
    yield Figure(
        "world: 1,000,000 devices simulated to the end",
        took_s,
        "s of processor",
        BOUND_S,
        detail={
            "clock_s": round(time.perf_counter() - clock, 1),
            "state": report.state,
            "rounds": report.rounds,
            "starts": report.starts,
            "states": dict(report.states),
            "again_with": report.replay,
        },
    )
