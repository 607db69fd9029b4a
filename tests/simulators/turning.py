"""How a rollout and its groups go from state to state: alike in every book of the simulators.

A book keeps rows in its own way, and tells here what is unfinished of them. States are moved by the
tables of `rollout.phases` only, and only from where the decision was made.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Generic, TypeAlias, TypeVar

from sprat_controller.rollout import facts as decided
from sprat_controller.rollout.facts import Tally
from sprat_controller.rollout.phases import GROUP, ROLLOUT, GroupEvent, RolloutEvent, apply
from sprat_controller.rollout.strategy import AbortAction, Extent
from sprat_proto.states import GroupState, RolloutState

Turn: TypeAlias = (
    decided.StartRollout
    | decided.HoldBack
    | decided.RunRollout
    | decided.FinishRollout
    | decided.StopRollout
    | decided.EndRollback
    | decided.StartGroup
    | decided.SoakGroup
    | decided.FinishGroup
    | decided.FailGate
)
TURNS: Final = (
    decided.StartRollout,
    decided.HoldBack,
    decided.RunRollout,
    decided.FinishRollout,
    decided.StopRollout,
    decided.EndRollback,
    decided.StartGroup,
    decided.SoakGroup,
    decided.FinishGroup,
    decided.FailGate,
)
# Groups whose executions may be given out.
OPEN: Final = (GroupState.RUNNING, GroupState.SOAKING, GroupState.FINISHED)
# Rollouts that end whatever is unfinished in them.
ENDING: Final = (
    RolloutState.STOPPING,
    RolloutState.ROLLING_BACK,
    RolloutState.APPROVAL_DENIED,
)
# From where each moves the rollout, and how.
_OF_ROLLOUTS: Final[Mapping[type[Turn], tuple[RolloutState, RolloutEvent]]] = {
    decided.StartRollout: (RolloutState.SCHEDULED, RolloutEvent.START),
    decided.HoldBack: (RolloutState.SCHEDULED, RolloutEvent.HOLD_BACK),
    decided.RunRollout: (RolloutState.STARTING, RolloutEvent.STARTED),
    decided.FailGate: (RolloutState.RUNNING, RolloutEvent.PAUSE),
    decided.FinishRollout: (RolloutState.RUNNING, RolloutEvent.FINISH),
    decided.StopRollout: (RolloutState.STOPPING, RolloutEvent.STOPPED),
    decided.EndRollback: (RolloutState.ROLLING_BACK, RolloutEvent.ROLLED_BACK),
}
# Those that wait until nothing is unfinished.
_ENDS: Final = (decided.FinishRollout, decided.StopRollout, decided.EndRollback)
_OF_GROUPS: Final[Mapping[type[Turn], GroupEvent]] = {
    decided.StartGroup: GroupEvent.START,
    decided.SoakGroup: GroupEvent.SOAK,
    decided.FinishGroup: GroupEvent.FINISH,
}
_ABORTS: Final[Mapping[AbortAction, RolloutEvent]] = {
    AbortAction.PAUSE: RolloutEvent.PAUSE,
    AbortAction.CANCEL: RolloutEvent.STOP,
    AbortAction.ROLLBACK: RolloutEvent.ROLL_BACK,
}


@dataclass
class TurningGroup:
    """What every book keeps of a group."""

    state: GroupState = GroupState.SCHEDULED
    soak_until: datetime | None = None
    is_promoted: bool = False
    since: Tally = field(default_factory=Tally)
    goes_back: bool = False


@dataclass(frozen=True)
class Aborted:
    """Why the rollout was aborted, and when."""

    decision: decided.Abort
    at: datetime

    def said(self) -> str:
        """Return it in one line."""
        criterion = self.decision.criterion
        return (
            f"{self.decision.failures:,} of {self.decision.judged:,} ended as {criterion.failure}"
            f" in group {self.decision.group}: {criterion.action} of the {criterion.acts_on}"
        )


GroupT = TypeVar("GroupT", bound=TurningGroup)


class Turning(ABC, Generic[GroupT]):
    """A rollout's state, and those of its groups.

    Attributes:
        name: For messages.
        state, groups, abort: As they stand.
    """

    def __init__(self, name: str, groups: list[GroupT]) -> None:
        """Begin READY."""
        self.name = name
        self.state = RolloutState.READY
        self.groups = groups
        self.abort: Aborted | None = None

    @abstractmethod
    def tally(self, number: int) -> Tally:
        """Return how many executions of a group are where."""

    @abstractmethod
    def turned(self, now: datetime) -> None:
        """Take down that the rollout came into another state."""

    def turn(self, decision: Turn, now: datetime) -> bool:
        """Carry out what changes no execution, as far as the rows still allow it.

        Returns:
            Whether it did.
        """
        if isinstance(decision, decided.StartGroup | decided.SoakGroup | decided.FinishGroup):
            is_turned = self._turn_group(decision.number, _OF_GROUPS[type(decision)])
            if is_turned and isinstance(decision, decided.SoakGroup):
                self.groups[decision.number].soak_until = decision.until
            return is_turned
        if isinstance(decision, decided.EndRollback) and decision.group is not None:
            is_over = not self.tally(decision.group).unfinished
            return is_over and self._turn_group(decision.group, GroupEvent.ROLLED_BACK)
        before, event = _OF_ROLLOUTS[type(decision)]
        is_early = isinstance(decision, _ENDS) and self._is_unfinished()
        return not is_early and self._turn_rollout(before, event, now)

    def abort_by(self, decision: decided.Abort, now: datetime) -> None:
        """Do what a criterion that is met asks for; the rollout is RUNNING."""
        self.abort = Aborted(decision, now)
        action, group = decision.criterion.action, self.groups[decision.group]
        if decision.criterion.acts_on is Extent.GROUP and action is not AbortAction.PAUSE:
            self._turn_group(decision.group, GroupEvent.ABORT)
            group.goes_back = action is AbortAction.ROLLBACK
            action = AbortAction.PAUSE
        self._turn_rollout(RolloutState.RUNNING, _ABORTS[action], now)

    def move_by_person(self, event: RolloutEvent, now: datetime) -> None:
        """Move the rollout as a person does; resumed, what failed so far counts no more.

        Raises:
            ConflictError: Its state does not allow that.
        """
        after = apply(ROLLOUT, self.state, event, self.name, "rollout_state")
        if event is RolloutEvent.RESUME and self.abort is not None:
            self.abort = None
            for number, group in enumerate(self.groups):
                group.since = self.tally(number)
        self.state = after
        self.turned(now)

    def _turn_rollout(self, before: RolloutState, event: RolloutEvent, now: datetime) -> bool:
        if self.state is not before:
            return False
        self.state = apply(ROLLOUT, self.state, event, self.name, "rollout_state")
        self.turned(now)
        return True

    def _is_unfinished(self) -> bool:
        return any(self.tally(number).unfinished for number in range(len(self.groups)))

    def _turn_group(self, number: int, event: GroupEvent) -> bool:
        group = self.groups[number]
        is_running = self.state is RolloutState.RUNNING or event is GroupEvent.ROLLED_BACK
        if not is_running or event not in GROUP.get(group.state, {}):
            return False
        group.state = apply(GROUP, group.state, event, f"{self.name} {number}", "group_state")
        return True
