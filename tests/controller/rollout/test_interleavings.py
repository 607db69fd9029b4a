"""Whatever happens in whatever order, each device ends with exactly one final execution.

Messages are lost, repeated and reordered; the controller is killed before any statement; people
pause, resume, stop, remove devices and start newer rollouts meanwhile.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from simulators.controlled import ALIAS, KilledError, SimDevice, World
from sprat_controller.errors import ConflictError
from sprat_controller.rollout.strategy import (
    AbortAction,
    AbortCriterion,
    Deadlines,
    Extent,
    Group,
    Retries,
    Strategy,
)
from sprat_controller.store.tables import DesiredModel
from sprat_proto.states import DeviceState, ExecutionState, GroupState, RolloutState
from sqlmodel import select

NAMES = ("a", "b", "c")
RELEASES = ("1.0.0", "2.0.0", "3.0.0")
MAX_ROLLOUTS = 4
END_STATES = {RolloutState.FINISHED, RolloutState.STOPPED, RolloutState.ROLLED_BACK}
names = st.sampled_from(NAMES)
# Kills come early or not at all; a run of the runner for three devices has about 60 statements.
kills = st.none() | st.integers(0, 70)


class Interleavings(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.devices: dict[str, SimDevice] = {}
        self.limits: dict[str, int] = {}
        self.sizes: dict[str, int] = {}
        self.removed: set[str] = set()
        self.final: dict[str, ExecutionState] = {}

    @initialize()
    def fleet(self) -> None:
        for counter, release in enumerate(RELEASES, 1):
            self.world.publish(release, counter=counter)
        self.devices = {name: self.world.join(name) for name in NAMES}

    def teardown(self) -> None:
        try:
            if self.devices:
                self.let_all_end()
                self.everything_ended_once()
        finally:
            self.world.close()

    @contextlib.contextmanager
    def perhaps_killed(self, statement: int | None) -> Any:
        if statement is None:
            yield
            return
        with contextlib.suppress(KilledError), self.world.killed_after(statement):
            yield

    @precondition(lambda self: len(self.limits) < MAX_ROLLOUTS)
    @rule(release=st.sampled_from(RELEASES), limit=st.integers(0, 2), kill=kills)
    def create(self, release: str, limit: int, kill: int | None) -> None:
        before = {view.id for view in self.world.service.list()}
        with self.perhaps_killed(kill), contextlib.suppress(ConflictError):
            self.world.create(release, max_in_progress=limit, execution_timeout_s=300)
        for view in self.world.service.list():
            if view.id not in before:
                self.limits[view.id] = limit
                self.sizes[view.id] = len(set(NAMES) - self.removed)

    @rule(kill=kills, push=st.booleans())
    def run_due(self, kill: int | None, push: bool) -> None:  # noqa: FBT001 - drawn
        with self.perhaps_killed(kill):
            self.world.run_due()
        pushed, self.world.pushed[:] = list(self.world.pushed), []
        for device_id, message in pushed if push else []:
            if device_id not in self.removed:
                self.devices[device_id].hear(message)

    @precondition(lambda self: self.limits)
    @rule(data=st.data(), what=st.sampled_from(["start", "pause", "resume", "resume", "stop"]))
    def operate(self, data: Any, what: str) -> None:
        rollout_id = data.draw(st.sampled_from(sorted(self.limits)))
        with contextlib.suppress(ConflictError):
            getattr(self.world.service, what)(rollout_id, "token:ann")

    @rule(name=names, kill=kills, heard=st.booleans())
    def heartbeat(self, name: str, kill: int | None, heard: bool) -> None:  # noqa: FBT001 - drawn
        device = self.devices[name]
        with self.perhaps_killed(kill):
            device.say(heard=heard, heartbeat=device.a_heartbeat())

    @rule(
        name=names,
        state=st.sampled_from(
            [
                *(ExecutionState.SUCCEEDED, ExecutionState.FAILED),
                *(ExecutionState.ROLLED_BACK, ExecutionState.REJECTED),
            ]
        ),
    )
    def work(self, name: str, state: ExecutionState) -> None:
        self.devices[name].finish(state)

    @rule(name=names, data=st.data(), kill=kills)
    def send_some_reports(self, name: str, data: Any, kill: int | None) -> None:
        """Any reports in any order, some twice, the answers perhaps lost."""
        device = self.devices[name]
        if not device.reports:
            return
        order = data.draw(st.lists(st.sampled_from(range(len(device.reports))), max_size=5))
        reports = list(device.reports)
        for index in order:
            with self.perhaps_killed(kill):
                device.say(heard=data.draw(st.booleans()), report=reports[index])

    @rule(name=names)
    def send_all_reports(self, name: str) -> None:
        self.devices[name].send_reports()

    @rule(seconds=st.sampled_from([1, 61, 301]))
    def time_passes(self, seconds: int) -> None:
        self.world.wait(seconds=seconds)

    @precondition(lambda self: not self.removed)
    @rule(name=names)
    def remove(self, name: str) -> None:
        self.removed.add(name)
        self.world.remove(name)

    @invariant()
    def no_more_than_the_limit_are_under_way(self) -> None:
        under_way = Counter(
            rollout.id
            for execution, rollout in self.world.executions()
            if execution.state == ExecutionState.IN_PROGRESS
        )
        assert all(under_way[name] <= limit for name, limit in self.limits.items() if limit)

    @invariant()
    def a_device_is_brought_one_way_at_a_time_under_an_alias(self) -> None:
        under_way = Counter(
            execution.device_id
            for execution, _ in self.world.executions()
            if execution.state == ExecutionState.IN_PROGRESS
        )
        assert all(count == 1 for count in under_way.values())

    @invariant()
    def what_is_desired_is_under_way_or_was_proved(self) -> None:
        good = {ExecutionState.IN_PROGRESS, ExecutionState.SUCCEEDED}
        proved = {
            (execution.device_id, execution.digest)
            for execution, _ in self.world.executions()
            if execution.state in good
        }
        with self.world.database.reading() as session:
            for row in session.exec(select(DesiredModel)):
                assert (row.device_id, row.digest) in proved

    @invariant()
    def a_final_state_never_changes(self) -> None:
        for execution, _ in self.world.executions():
            known = self.final.get(execution.id)
            assert known in (None, execution.state)
            if ExecutionState(execution.state).is_final:
                self.final[execution.id] = ExecutionState(execution.state)

    def let_all_end(self) -> None:
        """From here on nothing fails: everybody speaks, everything is resumed, time passes."""
        for rollout_id in self.limits:
            for what in ("start", "resume"):
                with contextlib.suppress(ConflictError):
                    getattr(self.world.service, what)(rollout_id, "token:ann")
        for _ in range(3 * MAX_ROLLOUTS * len(NAMES)):
            self.world.run_due()
            for name in sorted(set(NAMES) - self.removed):
                self.devices[name].sync()
            self.world.wait(seconds=61)
            if all(self.world.state(rollout_id) in END_STATES for rollout_id in self.limits):
                break
        for name in sorted(set(NAMES) - self.removed):
            self.devices[name].sync()

    def everything_ended_once(self) -> None:
        executions = self.world.executions()
        assert all(self.world.state(rollout_id) in END_STATES for rollout_id in self.limits)
        assert all(ExecutionState(execution.state).is_final for execution, _ in executions)
        assert Counter(rollout.id for _, rollout in executions) == self.sizes
        for name in sorted(set(NAMES) - self.removed):
            self.ended_as_assigned(self.devices[name])

    def ended_as_assigned(self, device: SimDevice) -> None:
        assert max(device.runs.values(), default=0) <= 1, "an execution ran twice"
        assert not device.reports, "a report was never acknowledged"
        with self.world.database.reading() as session:
            desired = {
                row.alias: row.digest
                for row in session.exec(select(DesiredModel))
                if row.device_id == device.id
            }
        running = {alias: one.digest for alias, one in device.committed.items()}
        assert running == desired
        state = self.world.device(device.id).state
        assert state == (DeviceState.IN_SYNC if device.assignment else DeviceState.REGISTERED)
        assert set(running) <= {ALIAS}


STRATEGIES = [
    Strategy(groups=(Group(devices=1), Group()), retries=Retries(attempts=1, base_s=30)),
    Strategy(
        groups=(Group(devices=1, soak_s=60), Group(percent=50, success_percent=50), Group()),
        abort=(AbortCriterion(percent=50, action=AbortAction.ROLLBACK),),
        deadlines=Deadlines(offline_grace_s=120),
    ),
    Strategy(
        abort=(AbortCriterion(percent=50, action=AbortAction.CANCEL, acts_on=Extent.GROUP),),
        groups=(Group(devices=2), Group()),
        priority=1,
    ),
    Strategy(
        abort=(AbortCriterion(percent=50, action=AbortAction.ROLLBACK, acts_on=Extent.GROUP),),
        groups=(Group(devices=2), Group()),
        retries=Retries(attempts=1, base_s=30, penalty_s=60),
    ),
]


class ByStrategies(Interleavings):
    """The same with groups, retries, aborts, silent devices, rollbacks and people who try again."""

    def __init__(self) -> None:
        super().__init__()
        self.ended: dict[str, RolloutState] = {}

    @precondition(lambda self: len(self.limits) < MAX_ROLLOUTS)
    @rule(
        release=st.sampled_from(RELEASES),
        limit=st.integers(0, 2),
        strategy=st.sampled_from(STRATEGIES),
        kill=kills,
    )
    def create_by(self, release: str, limit: int, strategy: Strategy, kill: int | None) -> None:
        before = {view.id for view in self.world.service.list()}
        with self.perhaps_killed(kill), contextlib.suppress(ConflictError):
            self.world.create(
                release, strategy=strategy, max_in_progress=limit, execution_timeout_s=900
            )
        for view in self.world.service.list():
            if view.id not in before:
                self.limits[view.id] = limit
                self.sizes[view.id] = len(set(NAMES) - self.removed)

    @precondition(lambda self: self.limits)
    @rule(data=st.data(), what=st.sampled_from(["promote", "retry_failed", "roll_back"]))
    def meddle(self, data: Any, what: str) -> None:
        rollout_id = data.draw(st.sampled_from(sorted(self.limits)))
        group = (0,) if what == "promote" else ()
        with contextlib.suppress(ConflictError):
            getattr(self.world.service, what)(rollout_id, *group, "token:ann")
            # What a person takes back or tries again may change once more.
            self.final.clear()

    @rule(name=names, complaint=st.sampled_from(["PROBE_FAILED", "DOWNLOAD_FAILED"]))
    def complains(self, name: str, complaint: str) -> None:
        self.devices[name].complaint = complaint

    @invariant()
    def no_more_than_the_limit_are_under_way(self) -> None:
        under_way = Counter(
            rollout.id
            for execution, rollout in self.world.executions()
            if execution.state == ExecutionState.IN_PROGRESS and not execution.is_reverting
        )
        assert all(under_way[name] <= limit for name, limit in self.limits.items() if limit)

    @invariant()
    def a_final_state_never_changes(self) -> None:
        """Not by what devices say; a rollback that an abort decides changes what succeeded."""
        for execution, _ in self.world.executions():
            known = self.final.get(execution.id)
            is_back = execution.is_reverting and known is ExecutionState.SUCCEEDED
            assert known in (None, execution.state) or is_back
            if ExecutionState(execution.state).is_final:
                self.final[execution.id] = ExecutionState(execution.state)

    @invariant()
    def nothing_is_under_way_in_a_group_that_did_not_start(self) -> None:
        started = {
            (view.id, group.number)
            for view in self.world.service.list()
            for group in view.groups
            if group.state not in (GroupState.CREATING, GroupState.SCHEDULED)
        }
        assert all(
            (rollout.id, execution.group_number) in started
            for execution, rollout in self.world.executions()
            if execution.state == ExecutionState.IN_PROGRESS
        )

    @invariant()
    def what_ended_stays_ended(self) -> None:
        for rollout_id in self.limits:
            state = RolloutState(self.world.state(rollout_id))
            assert self.ended.setdefault(rollout_id, state) == state or (
                self.ended[rollout_id] not in (RolloutState.STOPPED, RolloutState.ROLLED_BACK)
            )
            self.ended[rollout_id] = state

    def let_all_end(self) -> None:
        for _ in range(4):
            super().let_all_end()
            if all(self.world.state(one) in END_STATES for one in self.limits):
                return
            for rollout_id in self.limits:
                for number in range(len(self.world.service.get(rollout_id).groups)):
                    with contextlib.suppress(ConflictError):
                        self.world.service.promote(rollout_id, number, "token:ann")


SETTINGS = settings(
    max_examples=30,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestInterleavings = Interleavings.TestCase
TestInterleavings.settings = SETTINGS
TestByStrategies = ByStrategies.TestCase
TestByStrategies.settings = SETTINGS
