"""Figures of trust: what a plan weighs, takes to issue, and takes a device to check."""

from __future__ import annotations

import gc
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
from figure import Figure
from simulators.signed import release
from simulators.signing_desk import Desk, assigned, targets
from simulators.trusting import WorldRemote, judge, trusting
from simulators.tuf_world import TufWorld
from sprat_agent.registry.device_trust import DeviceTrust
from sprat_agent.registry.judge import Judge
from sprat_agent.state import State
from sprat_controller.fleet.rate import Rate
from sprat_controller.signer.client import SignerClient
from sprat_controller.signer.keys import tuf_signer
from sprat_controller.signer.limits import PLAN, Limits
from sprat_controller.signer.plan import make_plan
from sprat_controller.signer.port import FullSigner, Signer
from sprat_controller.signer.server import SignerServer
from sprat_proto.assignment import AssignedModel
from sprat_proto.v1 import link_pb2

# The check in this thread is what is measured, not how a thread is had for it.
# pyright: reportPrivateUsage=false

PLAN_BYTES_BOUND: Final = 2000
PLAN_ISSUE_BOUND_MS: Final = 0.5
DEVICE_CHECK_BOUND_MS: Final = 10.0
MILLION_BOUND_S: Final = 500.0
DEVICES: Final = 1_000_000
PLANS: Final = 1000
CHECKS: Final = 200
WARM_UP: Final = 20
_MS: Final = 1e3


@dataclass(frozen=True)
class Took:
    """What many calls took, each: medians, and what nine of ten stay below; milliseconds."""

    wall_ms: float
    cpu_ms: float
    p90_ms: float


def figures() -> Iterator[Figure]:
    """Yield the figures of this area, each as it is measured."""
    with tempfile.TemporaryDirectory(prefix="sprat-bench-") as folder:
        yield from plans(Path(folder))
    with tempfile.TemporaryDirectory(prefix="sprat-bench-") as folder:
        yield device_check(Path(folder))


def plans(folder: Path) -> Iterator[Figure]:
    """Plans of one model: their size, and what it takes to issue them."""
    # Its own rate would stop the signer within this many.
    limits = Limits(rates={PLAN: Rate(burst=DEVICES, per_s=DEVICES)})
    desk = Desk(folder, limits)
    wanted = assigned()
    plan = desk.core.issue_plan(wanted, targets(wanted))
    parts = {"targets": plan.targets, "snapshot": plan.snapshot, "timestamp": plan.timestamp}
    yield Figure(
        "plan_bytes",
        sum(map(len, parts.values())),
        "B",
        PLAN_BYTES_BOUND,
        detail={name: len(data) for name, data in parts.items()},
    )
    # A journal that still grows is half as fast; it has its size after 1,000 pages.
    first, issued = issuing(desk.core, PLANS // 4, "first"), issuing(desk.core, PLANS, "gw")
    yield Figure(
        "plan_issue",
        issued.wall_ms,
        "ms",
        PLAN_ISSUE_BOUND_MS,
        detail={
            "cpu_ms": round(issued.cpu_ms, 3),
            "p90_ms": round(issued.p90_ms, 3),
            "in_a_new_journal_ms": round(first.wall_ms, 3),
            "signing_alone_ms": round(signing_alone(desk).wall_ms, 3),
            "fsync_alone_ms": round(fsync_alone(folder).wall_ms, 3),
            "through_the_socket_ms": round(through_the_socket(desk.core, folder).wall_ms, 3),
            "plans": PLANS,
        },
    )
    rate = Limits().rates[PLAN]
    yield Figure(
        "director_1m_devices",
        issued.wall_ms / _MS * DEVICES,
        "s",
        MILLION_BOUND_S,
        detail={
            "computed": "one million times plan_issue's median, one thread",
            "cpu_s": round(issued.cpu_ms / _MS * DEVICES),
            # Plans live for seven days, so in the long run two a second are due.
            "at_the_signers_own_rate_s": round((DEVICES - rate.burst) / rate.per_s),
        },
    )
    desk.records.close()


def issuing(signer: Signer, count: int, name: str) -> Took:
    """Issue plans, each for another device."""
    wanted = [assigned(device_id=f"{name}-{number:07d}") for number in range(count)]
    stated = targets(wanted[0])
    return took([lambda one=one: signer.issue_plan(one, stated) for one in wanted])


def signing_alone(desk: Desk) -> Took:
    """Make and sign the metadata, with nothing remembered of it."""
    wanted, signer = assigned(), tuf_signer(desk.keys.director)
    stated = targets(wanted)
    return took([lambda: make_plan(wanted, stated, 1, desk.now, signer)] * PLANS)


def fsync_alone(folder: Path) -> Took:
    """Write one page of a journal to this disk: no durable record takes less."""
    with (folder / "page").open("wb", buffering=0) as file:

        def write() -> None:
            file.write(bytes(4096))
            os.fdatasync(file.fileno())

        return took([write] * PLANS)


def through_the_socket(core: FullSigner, folder: Path) -> Took:
    """Ask as the controller does, of a signer that is a thread of this process."""
    server = SignerServer(core, folder / "signer.sock", frozenset({os.getuid()}))
    server.bind()
    thread = threading.Thread(target=server.serve)
    thread.start()
    client = SignerClient(folder / "signer.sock")
    try:
        return issuing(client, PLANS, "far")
    finally:
        client.close()
        server.stop()
        thread.join()


def device_check(folder: Path) -> Figure:
    """The whole check of both repositories: a new plan, kept, and its variant permitted."""
    device = Device(folder)
    messages = [device.plan() for _ in range(WARM_UP + CHECKS)]
    for one in messages[:WARM_UP]:
        device.obey(one)
    whole = took([lambda one=one: device.obey(one) for one in messages[WARM_UP:]])
    director = took(
        [lambda one=one: device.keep(one) for one in [device.plan() for _ in range(CHECKS)]]
    )
    image = took([device.permit] * CHECKS)
    device.state.close()
    return Figure(
        "device_check",
        whole.wall_ms,
        "ms",
        DEVICE_CHECK_BOUND_MS,
        detail={
            "cpu_ms": round(whole.cpu_ms, 3),
            "p90_ms": round(whole.p90_ms, 3),
            "director_ms": round(director.wall_ms, 3),
            "image_ms": round(image.wall_ms, 3),
            "checks": CHECKS,
            **import_cost(),
        },
    )


class Device:
    """A device on a real disk; the image repository is asked in memory and does not change."""

    def __init__(self, folder: Path) -> None:
        self.world = TufWorld()
        one = release()
        self.world.image.publish(one.manifest)
        self.state = State(folder)
        self.trust: DeviceTrust = trusting(self.world, self.state, folder, WorldRemote(self.world))
        self.judge: Judge = judge(self.trust)
        self.wanted: AssignedModel = one.wanted("e")
        self.version = 0

    def plan(self) -> link_pb2.Assignment:
        """Return the director's next plan."""
        self.version += 1
        return self.world.plan("gw-1", self.version, [self.wanted])

    def keep(self, message: link_pb2.Assignment) -> None:
        """Check a plan and keep it."""
        plan = self.trust.director.check(message)
        with self.state.transaction() as connection:
            self.trust.director.keep(connection, plan)

    def permit(self) -> None:
        """Have the image repository's word on what is assigned."""
        self.judge._permit_blocking(self.wanted)

    def obey(self, message: link_pb2.Assignment) -> None:
        """Do both."""
        self.keep(message)
        self.permit()


_IMPORT: Final = """
import json, sys, time
def rss():
    return next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith("VmRSS:"))
# What an agent has loaded anyway.
import cryptography.x509, json, logging, tempfile, msgspec, sqlite3, asyncio, ssl, google.protobuf
before, began = rss(), time.perf_counter()
import tuf.ngclient
took = time.perf_counter() - began
print(json.dumps({"tuf_import_ms": round(took * 1e3, 1), "tuf_rss_kib": rss() - before}))
"""


def import_cost() -> dict[str, object]:
    """Time and memory of importing python-tuf beside what an agent imports anyway."""
    ended = subprocess.run(
        [sys.executable, "-c", _IMPORT], check=True, capture_output=True, text=True
    )
    return msgspec.json.decode(ended.stdout, type=dict[str, object])


def took(calls: Iterable[Callable[[], object]]) -> Took:
    """Run each call once, one after the other."""
    wall: list[float] = []
    cpu: list[float] = []
    gc.collect()
    for call in calls:
        begin, begin_cpu = time.perf_counter(), time.process_time()
        call()
        cpu.append(time.process_time() - begin_cpu)
        wall.append(time.perf_counter() - begin)
    return Took(
        statistics.median(wall) * _MS,
        statistics.median(cpu) * _MS,
        statistics.quantiles(wall, n=10)[-1] * _MS,
    )
