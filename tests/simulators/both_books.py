"""One story told to both books: the reference of the property tests, and that of the database.

A `Trial` is a controller with its devices. What it is asked to decide may be carried out at any
later time, and again: a test puts between deciding and doing whatever it wants.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol

from sprat_agent.sync.phases import Event
from sprat_controller.rollout import planner
from sprat_controller.rollout.facts import Decision
from sprat_controller.rollout.phases import RolloutEvent
from sprat_controller.rollout.requests import Target
from sprat_controller.rollout.strategy import ALL_AT_ONCE, Strategy
from sprat_controller.store.tables import Device
from sprat_proto.audit_events import Tag
from sprat_proto.states import ExecutionState, GroupState, ReasonCode, RolloutState, Step
from sqlmodel import select

from simulators.controlled import ALIAS, BIG, OPERATOR, SimDevice, World
from simulators.small_book import SmallBook, SmallFleet, run
from simulators.small_device import SmallDevice

BEGIN = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
SUCCEEDED = ExecutionState.SUCCEEDED
_ROUNDS = 4  # of settling: what one rollout frees another may take
_MOST = 100  # things that a device does before it is idle
# Where an execution is that is to end so.
_FAILS_AT = {
    ExecutionState.FAILED: Step.DOWNLOADING,
    ExecutionState.ROLLED_BACK: Step.SOAKING,
}


class Trial(Protocol):
    """A controller with its devices; rollouts bring 1.0.0, 2.0.0 and so on, in order."""

    def join(self, name: str, site: str = "") -> None:
        """Enrol a device."""
        ...

    def create(self, strategy: Strategy = ALL_AT_ONCE, *, to: Sequence[str] = ()) -> str:
        """Start a rollout of the next release, to all devices or to these; return its id."""
        ...

    def run_of(self, rollout: str, device: str) -> str:
        """Return the id of an execution."""
        ...

    def decide(self, rollout: str) -> list[Decision]:
        """Return what the planner wants now."""
        ...

    def carry_out(self, rollout: str, *decisions: Decision) -> None:
        """Carry out what was decided, now or long ago."""
        ...

    def settle(self) -> None:
        """Bring every rollout as far as it goes."""
        ...

    def person(self, rollout: str, event: RolloutEvent) -> None:
        """Have a person pause, resume, stop or roll back."""
        ...

    def retry_failed(self, rollout: str) -> None:
        """Have a person try again what failed."""
        ...

    def hear(self, device: str) -> None:
        """Let a device hear what it shall run, and begin it."""
        ...

    def lose(self, device: str) -> None:
        """Hear of a device no more."""
        ...

    def work(
        self, device: str, end: ExecutionState = SUCCEEDED, code: ReasonCode | None = None
    ) -> None:
        """Let a device hear, bring what is under way to this end, and tell."""
        ...

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        ...

    def state(self, rollout: str) -> RolloutState:
        """Return where a rollout is."""
        ...

    def groups(self, rollout: str) -> list[GroupState]:
        """Return where its groups are."""
        ...

    def states(self, rollout: str) -> dict[str, ExecutionState]:
        """Return where its executions are, by device."""
        ...

    def running(self, device: str) -> str | None:
        """Return the release that a device has committed; None: none."""
        ...

    def starts(self, rollout: str) -> Counter[str]:
        """Return how often each device was given the rollout's work."""
        ...


class SmallTrial:
    """With the reference book, and devices that go by the agent's own table."""

    def __init__(self) -> None:
        """Begin with nobody."""
        self.fleet = SmallFleet(BEGIN)

    def join(self, name: str, site: str = "") -> None:
        self.fleet.add(name, site)

    def create(self, strategy: Strategy = ALL_AT_ONCE, *, to: Sequence[str] = ()) -> str:
        number = len(self.fleet.books) + 1
        book = SmallBook(
            self.fleet, f"r{number}", f"{number}.0.0", strategy, list(to or self.fleet.rows)
        )
        book.person(RolloutEvent.START)
        return book.id

    def run_of(self, rollout: str, device: str) -> str:
        (found,) = (one.id for one in self._book(rollout).runs.values() if one.device == device)
        return found

    def decide(self, rollout: str) -> list[Decision]:
        return planner.decide(self._book(rollout).read(self.fleet.now), self.fleet.now)

    def carry_out(self, rollout: str, *decisions: Decision) -> None:
        for decision in decisions:
            self._book(rollout).carry_out(decision, self.fleet.now)

    def settle(self) -> None:
        for _ in range(_ROUNDS):
            for book in self.fleet.books:
                run(book, self.fleet.now)

    def person(self, rollout: str, event: RolloutEvent) -> None:
        assert self._book(rollout).person(event)

    def retry_failed(self, rollout: str) -> None:
        self._book(rollout).retry_failed()

    def hear(self, device: str) -> None:
        self.fleet.hear(device)
        known = self.fleet.rows[device].device
        while not any(one.wanted == known.wanted for one in known.tasks) and known.act():
            pass

    def lose(self, device: str) -> None:
        self.fleet.lose(device)

    def work(
        self, device: str, end: ExecutionState = SUCCEEDED, code: ReasonCode | None = None
    ) -> None:
        known = self.fleet.rows[device].device
        self.fleet.hear(device)
        for _ in range(_MOST):
            fails = _is_at(known, _FAILS_AT.get(end))
            is_busy = known.act(Event.FAILED if fails else Event.DONE, code if fails else None)
            for report in list(known.outbox):
                self.fleet.take_in(device, report)
            if not is_busy:
                break
        self.fleet.hear(device)

    def wait(self, seconds: float) -> None:
        self.fleet.now += timedelta(seconds=seconds)

    def state(self, rollout: str) -> RolloutState:
        return self._book(rollout).state

    def groups(self, rollout: str) -> list[GroupState]:
        return [one.state for one in self._book(rollout).groups]

    def states(self, rollout: str) -> dict[str, ExecutionState]:
        return {one.device: one.state for one in self._book(rollout).runs.values()}

    def running(self, device: str) -> str | None:
        return self.fleet.rows[device].device.active

    def starts(self, rollout: str) -> Counter[str]:
        runs = self._book(rollout).runs
        return Counter(
            runs[entry.run].device
            for entry in self.fleet.journal
            if entry.what == "assign" and entry.rollout == rollout and entry.run
        )

    def _book(self, rollout: str) -> SmallBook:
        return next(book for book in self.fleet.books if book.id == rollout)


class SqlTrial:
    """With the book of the database, and devices that speak with its conversation."""

    def __init__(self, world: World) -> None:
        """Use the world's database."""
        self.world = world
        self.devices: dict[str, SimDevice] = {}
        self._rollouts = 0

    def join(self, name: str, site: str = "") -> None:
        self.devices[name] = self.world.join(name, BIG, **({"site": site} if site else {}))

    def create(self, strategy: Strategy = ALL_AT_ONCE, *, to: Sequence[str] = ()) -> str:
        self._rollouts += 1
        release = f"{self._rollouts}.0.0"
        self.world.publish(release, counter=self._rollouts)
        self.world.wait(seconds=0.001)
        view = self.world.create(release, strategy=strategy, target=Target(devices=tuple(to)))
        return view.id

    def run_of(self, rollout: str, device: str) -> str:
        found = self.world.service.executions(rollout)
        return next(one.id for one in found if one.device_id == device)

    def decide(self, rollout: str) -> list[Decision]:
        with self.world.book(rollout) as book:
            facts = book.read(self.world.now)
            assert facts is not None
            return planner.decide(facts, self.world.now)

    def carry_out(self, rollout: str, *decisions: Decision) -> None:
        for decision in decisions:
            with self.world.book(rollout) as book:
                book.carry_out(decision, self.world.now)

    def settle(self) -> None:
        for _ in range(_ROUNDS):
            self.world.run_due()

    def person(self, rollout: str, event: RolloutEvent) -> None:
        getattr(self.world.service, event.value.replace("-", "_"))(rollout, OPERATOR)

    def retry_failed(self, rollout: str) -> None:
        self.world.service.retry_failed(rollout, OPERATOR)

    def hear(self, device: str) -> None:
        self.devices[device].heartbeat()

    def lose(self, device: str) -> None:
        with self.world.database.transaction() as session:
            row = session.exec(select(Device).where(Device.id == device)).one()
            row.online = False

    def work(
        self, device: str, end: ExecutionState = SUCCEEDED, code: ReasonCode | None = None
    ) -> None:
        known = self.devices[device]
        if code is not None:
            known.complaint = code.value
        known.sync(end)
        known.sync()  # what it was told by the answers: the way back

    def wait(self, seconds: float) -> None:
        self.world.wait(seconds=seconds)

    def state(self, rollout: str) -> RolloutState:
        return RolloutState(self.world.state(rollout))

    def groups(self, rollout: str) -> list[GroupState]:
        return [one.state for one in self.world.service.get(rollout).groups]

    def states(self, rollout: str) -> dict[str, ExecutionState]:
        return self.world.states(rollout)

    def running(self, device: str) -> str | None:
        found = self.devices[device].committed.get(ALIAS)
        return found.release if found else None

    def starts(self, rollout: str) -> Counter[str]:
        moves = [one["detail"] for one in self.world.audited(Tag.EXECUTION_DECIDED)]
        return Counter(
            str(one["device"])
            for one in moves
            if one["rollout"] == rollout and (one["from"], one["to"]) == ("QUEUED", "IN_PROGRESS")
        )


def _is_at(device: SmallDevice, step: Step | None) -> bool:
    """Tell whether what the device is to run is at this step."""
    return any(one.phase is step and one.wanted == device.wanted for one in device.tasks)
