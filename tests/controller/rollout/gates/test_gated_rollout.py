"""A rollout whose first group has a gate: what devices measure decides whether it goes on."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Final

import pytest
from simulators.controlled import ALIAS, BIG, SimDevice, World, a_profile
from sprat_controller.rollout.gates import judgement
from sprat_controller.rollout.gates.judgement import Health, Judgement
from sprat_controller.rollout.strategy import Gate, Group, Strategy
from sprat_controller.store.tables import Execution, RolloutGroup
from sprat_proto.audit_events import Tag
from sprat_proto.capability import CAPABILITY
from sprat_proto.states import GroupState, RolloutState
from sprat_proto.v1 import link_pb2
from sqlmodel import col, select

# What each kind of hardware decodes, in thousandths of a token a second, by its cores.
CLASSES: Final = {4: 8_000, 6: 14_000, 8: 30_000, 10: 5_000}
SLOW: Final = 8
OF_CLASS: Final = 16
CANARY: Final = Strategy(
    groups=(Group(name="canary", devices=2 * OF_CLASS, soak_s=600, gate=Gate()), Group(name="rest"))
)


class Fleet:
    """Devices of four kinds, which tell what they measure as agents do."""

    def __init__(self, world: World, seed: int) -> None:
        self._dice = random.Random(seed)  # noqa: S311 - noise
        self.world = world
        self.devices: dict[str, SimDevice] = {}
        self.cores: dict[str, int] = {}
        self._rates: dict[str, float] = {}
        self.classes: dict[int, str] = {}
        for cores, typical in CLASSES.items():
            for number in range(OF_CLASS):
                self._join(f"c{cores}-{number}", cores, typical)

    def _join(self, name: str, cores: int, typical: int) -> None:
        self.world.enrol(name)
        device = self.devices[name] = SimDevice(self.world, name, BIG)
        profile = a_profile(BIG, cores=cores)
        device.say(hello=link_pb2.Hello(capability=CAPABILITY, profile=profile))
        self.cores[name] = cores
        self._rates[name] = typical * self._dice.lognormvariate(0, 0.15)
        self.classes[cores] = self.world.device(name).hardware_class or ""

    def tell(self, names: Iterable[str], slow: int = 0) -> None:
        """Tell metrics of what runs; kinds of `slow` cores are 20 % slower than they were."""
        for name in names:
            device = self.devices[name]
            rate = self._rates[name] * (0.8 if self.cores[name] == slow else 1)
            beat = device.a_heartbeat()
            beat.metrics.append(
                link_pb2.ModelMetrics(
                    alias=ALIAS,
                    digest=device.committed[ALIAS].digest,
                    window_s=600,
                    requests=200,
                    errors=self._dice.randint(0, 1),
                    decode_milli_tps=round(rate * self._dice.lognormvariate(0, 0.03)),
                    ttft_p95_ms=round(6e6 / rate * self._dice.lognormvariate(0, 0.03)),
                    peak_bytes=900,
                    declared_bytes=1000,
                )
            )
            device.say(heartbeat=beat)

    def everywhere(self, release: str) -> None:
        self.world.create(release)
        self.world.run_due()
        for device in self.devices.values():
            device.sync()
        self.world.run_due()

    def started(self, rollout_id: str) -> list[str]:
        """Return the devices that were given something, in order."""
        with self.world.database.reading() as session:
            of = select(Execution.device_id).where(
                col(Execution.rollout_id) == rollout_id, col(Execution.started_at).is_not(None)
            )
            return sorted(session.exec(of).all())

    def canary(self) -> str:
        """Bring 2.0.0 to the first group, and let it soak."""
        view = self.world.create("2.0.0", strategy=CANARY)
        self.world.run_due()
        for name in self.started(view.id):
            self.devices[name].sync()
        self.world.run_due()
        return view.id


def groups(world: World, rollout_id: str) -> list[tuple[GroupState, Judgement | None]]:
    with world.database.reading() as session:
        of = select(RolloutGroup).where(col(RolloutGroup.rollout_id) == rollout_id)
        rows = session.exec(of.order_by(col(RolloutGroup.number))).all()
        return [
            (GroupState(one.state), judgement.from_json(one.verdict) if one.verdict else None)
            for one in rows
        ]


@pytest.fixture
def fleet(world: World) -> Fleet:
    world.publish("2.0.0", counter=2)
    made = Fleet(world, seed=5)
    made.everywhere("1.0.0")
    made.tell(made.devices)
    world.wait(minutes=5)
    return made


def test_a_slowdown_in_one_class_stops_the_rollout_in_its_first_group(fleet: Fleet) -> None:
    world = fleet.world
    rollout = fleet.canary()
    first = fleet.started(rollout)
    assert len(first) == 2 * OF_CLASS
    fleet.tell(first, slow=SLOW)
    world.wait(minutes=11)
    world.run_due()
    assert world.state(rollout) == RolloutState.PAUSED
    (state, judged), (rest, _) = groups(world, rollout)
    assert (state, rest) == (GroupState.SOAKING, GroupState.SCHEDULED)
    assert judged is not None
    assert judged.named(Health.FAILED) == (fleet.classes[SLOW],)
    others = {fleet.classes[cores] for cores in CLASSES if cores != SLOW}
    assert set(judged.named(Health.HEALTHY)) == others
    assert fleet.started(rollout) == first
    (record,) = world.audited(Tag.ROLLOUT_ABORTED)
    assert f"{fleet.classes[SLOW]}: failed (expected a decode rate" in str(record["detail"])


def test_where_all_measure_as_before_the_next_group_starts(fleet: Fleet) -> None:
    world = fleet.world
    rollout = fleet.canary()
    first = fleet.started(rollout)
    world.wait(minutes=11)
    world.run_due()
    # It soaked, and nobody has told anything: it waits.
    assert world.state(rollout) == RolloutState.RUNNING
    (state, judged), _ = groups(world, rollout)
    assert state is GroupState.SOAKING
    assert judged is not None
    assert set(judged.named(Health.INSUFFICIENT)) == set(fleet.classes.values())
    assert fleet.started(rollout) == first
    fleet.tell(first)
    world.wait(minutes=1)
    world.run_due()
    assert [one for one, _ in groups(world, rollout)] == [GroupState.FINISHED, GroupState.RUNNING]
    assert len(fleet.started(rollout)) == len(fleet.devices)
