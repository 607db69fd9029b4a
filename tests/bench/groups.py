"""What it costs to cut devices into the groups of a rollout, to create it, and to take it back.

Seconds are those of the processor: what else the machine does takes nothing of them.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence

from figure import Figure
from simulators.controlled import ALIAS, OPERATOR, SimDevice, World
from sprat_controller.rollout.grouping import Member, even, split
from sprat_controller.rollout.strategy import LADDER, Strategy
from sprat_controller.store.tables import Device, DeviceLabel
from sprat_proto.states import RolloutState
from sqlmodel import insert, select

DEVICES = 1_000_000
CLASSES = 12
SITES = 2_000
BOUND_S = 10.0
CREATED = 10_000
CREATE_BOUND_S = 5.0
ROLLED_BACK = 1_000


def figures() -> Iterator[Figure]:
    """Measure the ladder, as many groups as may be, a creation, and a rollback."""
    members = [
        Member(f"dev-{number:07d}", f"class-{number * 7 % CLASSES}", f"site-{number % SITES}")
        for number in range(DEVICES)
    ]
    for name, strategy in (("ladder", LADDER), ("100 groups", Strategy(groups=even(1)))):
        begun = time.process_time()
        placed = split(members, strategy, "qwen3-0.6b@1.3.0")
        took = time.process_time() - begun
        sizes = Counter(one.group for one in placed)
        detail: dict[str, object] = {
            "devices": len({one.device_id for one in placed}),
            "sizes": [sizes[number] for number in range(len(strategy.groups))][:5],
        }
        yield Figure(f"split_seconds {name}", took, "s", BOUND_S, detail=detail)
    yield _create()
    yield from _roll_back()


def _create() -> Figure:
    """Measure the whole creation of a ladder to 10,000 devices, in SQLite."""
    world = World()
    world.publish("1.0.0")
    world.join("like")
    fleet = [f"dev-{number:05d}" for number in range(CREATED)]
    with world.database.transaction() as session:
        like = session.exec(select(Device)).one().model_dump()
        devices = [
            {**like, "id": name, "hardware_class": f"class-{number * 7 % CLASSES}"}
            for number, name in enumerate(fleet)
        ]
        sites = [
            {"device_id": name, "key": "site", "value": f"site-{number % SITES}"}
            for number, name in enumerate(fleet)
        ]
        session.connection().execute(insert(Device), devices)
        session.connection().execute(insert(DeviceLabel), sites)
    begun = time.process_time()
    view = world.create(start=False, strategy=LADDER)
    took = time.process_time() - begun
    held = [group.devices for group in view.groups]
    detail: dict[str, object] = {"devices": sum(held), "sizes": held}
    return Figure("create_seconds 10,000 devices", took, "s", CREATE_BOUND_S, detail=detail)


def _roll_back() -> Iterator[Figure]:
    """Measure a rollback of 1,000 devices: none fetches a model, and how long it is decided."""
    world = World()
    world.publish("1.0.0")
    devices = [world.join(f"dev-{number:04d}") for number in range(ROLLED_BACK)]
    world.create()
    world.run_due()
    _sync(devices)
    world.run_due()
    world.publish("2.0.0", counter=2)
    world.wait(seconds=1)
    view = world.create("2.0.0")
    world.run_due()
    _sync(devices)
    world.run_due()
    fetched = sum(len(device.fetched) for device in devices)
    begun = time.process_time()
    world.service.roll_back(view.id, OPERATOR)
    world.run_due()
    took = time.process_time() - begun
    _sync(devices)
    world.run_due()
    if world.state(view.id) != RolloutState.ROLLED_BACK:
        raise RuntimeError(f"expected a rollout that is rolled back, found {world.state(view.id)}")
    back = sum(device.committed[ALIAS].release == "1.0.0" for device in devices)
    moved = sum(len(device.fetched) for device in devices) - fetched
    detail: dict[str, object] = {"devices_back": back, "seconds_to_decide": round(took, 2)}
    yield Figure("rollback_models_fetched 1,000 devices", moved, "models", 0, detail=detail)
    yield Figure("rollback_missing 1,000 devices", ROLLED_BACK - back, "devices", 0)


def _sync(devices: Sequence[SimDevice]) -> None:
    for device in devices:
        device.sync()
