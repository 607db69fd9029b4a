"""A device of one alias, as far as rollouts see it: the agent's own phase table, nothing else.

It does what `sprat_agent.sync.plan` says (what is superseded ends first, one thing at a time, an
execution that ended is never run again); what each phase comes to is the caller's to say.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sprat_agent.sync import phases
from sprat_agent.sync.phases import Event, Phase
from sprat_proto.states import ExecutionState, ReasonCode, Step

# While these last, a candidate may answer under the alias.
ACTIVE = frozenset({Step.ACTIVATING, Step.SOAKING, Step.COMMITTING})


@dataclass(frozen=True)
class Wanted:
    """What an alias is to stand for: a release, by an execution."""

    name: str
    release: str


@dataclass
class Task:
    """An execution on the device."""

    wanted: Wanted
    phase: Phase = ExecutionState.QUEUED
    code: ReasonCode | None = None  # why it failed, as it is told until its end


@dataclass(frozen=True)
class Report:
    """What a device says of an execution; kept until it is acknowledged."""

    seq: int
    name: str
    state: ExecutionState
    step: Step | None
    code: ReasonCode | None
    running: str | None


@dataclass
class SmallDevice:
    """A device.

    Attributes:
        name, site: Which, and its label.
        version, wanted: Of the newest assignment that it heard.
        tasks: All that it knows of, in order.
        active: The release that it committed; None: none.
        before: What was committed before that.
        outbox: Reports that are not acknowledged.
        said: The number of the last report.
    """

    name: str
    site: str = ""
    version: int = 0
    wanted: Wanted | None = None
    tasks: list[Task] = field(default_factory=list[Task])
    active: str | None = None
    before: str | None = None
    outbox: list[Report] = field(default_factory=list[Report])
    said: int = 0

    def hear(self, version: int, wanted: Wanted | None) -> None:
        """Take an assignment, unless a newer one is known."""
        if version > self.version:
            self.version, self.wanted = version, wanted

    def act(self, event: Event = Event.DONE, code: ReasonCode | None = None) -> bool:
        """Do the next thing; tell whether there was anything.

        Args:
            event: What the phase under way comes to; one that it cannot come to is DONE.
            code: Why, if not DONE.
        """
        unfinished = [one for one in self.tasks if not phases.is_final(one.phase)]
        for task in unfinished:
            if task.wanted != self.wanted and phases.takes(task.phase, Event.SUPERSEDED):
                self._turn(task, Event.SUPERSEDED, None)
                return True
        for task in unfinished:
            if phases.is_under_way(task.phase):
                likely = event if phases.takes(task.phase, event) else Event.DONE
                self._turn(task, likely, code if likely is not Event.DONE else None)
                return True
        return self._begin(unfinished)

    def _begin(self, unfinished: list[Task]) -> bool:
        if self.wanted is None and self.active is not None:
            self.active, self.before = None, None
            return True
        if self.wanted is None:
            return False
        if self.wanted.name not in {task.wanted.name for task in self.tasks}:
            self.tasks.append(Task(self.wanted))
            return True
        for task in unfinished:
            is_there = task.wanted.release == self.active
            self._turn(task, Event.ALREADY_COMMITTED if is_there else Event.DONE, None)
            return True
        return False

    def fall_back(self) -> None:
        """Run what was committed before, without a word: what is committed crashes too often."""
        self.active = self.before

    def candidates(self) -> list[Task]:
        """Return the executions whose candidate may answer under the alias now."""
        return [task for task in self.tasks if task.phase in ACTIVE]

    def is_idle(self) -> bool:
        """Tell whether nothing is left to do or to say."""
        is_known = self.wanted is None or any(one.wanted == self.wanted for one in self.tasks)
        is_over = all(phases.is_final(one.phase) for one in self.tasks)
        is_forgotten = self.wanted is not None or self.active is None
        return is_known and is_over and is_forgotten and not self.outbox

    def _turn(self, task: Task, event: Event, code: ReasonCode | None) -> None:
        was = task.phase
        task.phase = phases.after(was, event)
        task.code = code or task.code
        if was is Step.COMMITTING and event is Event.DONE:
            self.before, self.active = self.active, task.wanted.release
        state, step = phases.state_of(task.phase)
        self.said += 1
        self.outbox.append(Report(self.said, task.wanted.name, state, step, task.code, self.active))
