"""The executions of one rollout as columns, and what is counted of them as they change.

A row is an execution, in order of position. Every change of state is looked up in the controller's
own table; what is derived of a row (its cell of the tally, whether it may start) is worked out anew
for the rows that change, never for all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

import numpy as np
from sprat_controller.rollout.facts import Tally
from sprat_controller.rollout.phases import EXECUTION, ExecutionEvent, apply
from sprat_proto.states import ExecutionState, ReasonCode, Step

from simulators.world.draws import Ints

NEVER: Final = np.iinfo(np.int64).max
STATES: Final = tuple(ExecutionState)
CODES: Final = tuple(ReasonCode)
STEPS: Final = tuple(Step)
NOTHING: Final = -1  # no reason, no step
_CELLS: Final = tuple(one.name for one in dataclasses.fields(Tally))


def state_number(state: ExecutionState) -> int:
    """Return how a state stands in a column."""
    return STATES.index(state)


def code_number(code: ReasonCode) -> int:
    """Return how a reason stands in a column."""
    return CODES.index(code)


def step_number(step: Step) -> int:
    """Return how a step stands in a column."""
    return STEPS.index(step)


QUEUED: Final = state_number(ExecutionState.QUEUED)
IN_PROGRESS: Final = state_number(ExecutionState.IN_PROGRESS)
SUCCEEDED: Final = state_number(ExecutionState.SUCCEEDED)
_OFFLINE: Final = code_number(ReasonCode.OFFLINE)
_IS_FINAL: Final = np.array([one.is_final for one in STATES])
# Ended, or waiting, without the proof that what it was given runs: see `rollout.unavailable`.
_LEAVES_BEHIND: Final = np.array(
    [
        one in (ExecutionState.FAILED, ExecutionState.TIMED_OUT, ExecutionState.ROLLED_BACK)
        for one in STATES
    ]
)
_LEAVES_BEHIND_IF_STARTED: Final = np.array(
    [one in (ExecutionState.QUEUED, ExecutionState.CANCELED) for one in STATES]
)


def _cell(state: ExecutionState, *, excused: bool, reverting: bool, offline: bool) -> str:
    """Return the field of a Tally in which an execution is counted."""
    match state:
        case ExecutionState.IN_PROGRESS if reverting:
            return "reverting"
        case ExecutionState.QUEUED | ExecutionState.IN_PROGRESS if excused:
            return "excused"
        case ExecutionState.ROLLED_BACK if reverting:
            return "taken_back"
        case ExecutionState.TIMED_OUT if offline:
            return "canceled"
        case _:
            return state.lower()


_FLAGS: Final = [
    (excused, reverting, offline)
    for excused in (False, True)
    for reverting in (False, True)
    for offline in (False, True)
]
# By state, then by the three flags as bits.
_CELL_OF: Final = np.array(
    [
        _CELLS.index(_cell(state, excused=excused, reverting=reverting, offline=offline))
        for state in STATES
        for excused, reverting, offline in _FLAGS
    ]
)
_IMPOSSIBLE: Final = -1
_NEXT: Final = {
    event: np.array(
        [
            state_number(EXECUTION[state][event]) if event in EXECUTION[state] else _IMPOSSIBLE
            for state in STATES
        ]
    )
    for event in ExecutionEvent
}


class Columns:
    """One row for each execution; times are milliseconds, NEVER where there is none.

    Attributes:
        group: Number of its group.
        site: Number of its device's site.
        state, reason, step: Numbers into STATES, CODES and STEPS.
        number: How often it was given out, on the way forward or back; 0: never yet.
        penalty_ms: Until when its device is in the penalty box.
        is_ready: QUEUED, and nothing about itself or its device holds it.
    """

    def __init__(
        self, group: Ints, site: Ints, groups: int, sites: int, *, joiners: int = 0
    ) -> None:
        """Queue all of them, with place for so many that join later.

        Args:
            group: Of each.
            site: Of each.
            groups: How many there are.
            sites: How many there are.
            joiners: The most that `append` may add.
        """
        self.count, self._groups, self._sites = len(group), groups, sites
        # Columns never move: others follow them.
        count = len(group) + joiners
        self.group = np.concatenate([group, np.zeros(joiners, dtype=np.int64)])
        self.site = np.concatenate([site, np.zeros(joiners, dtype=np.int64)])
        self.state = np.full(count, QUEUED, dtype=np.int64)
        self.reason = np.full(count, NOTHING, dtype=np.int64)
        self.step = np.full(count, NOTHING, dtype=np.int64)
        self.number = np.zeros(count, dtype=np.int64)
        self.tries = np.zeros(count, dtype=np.int64)
        self.started_ms = np.full(count, NEVER, dtype=np.int64)
        self.step_since_ms = np.full(count, NEVER, dtype=np.int64)
        self.told_ms = np.full(count, NEVER, dtype=np.int64)
        self.deadline_ms = np.full(count, NEVER, dtype=np.int64)
        self.deadline_code = np.full(count, NOTHING, dtype=np.int64)
        self.retry_ms = np.full(count, NEVER, dtype=np.int64)
        self.penalty_ms = np.full(count, NEVER, dtype=np.int64)
        self.lost_ms = np.full(count, NEVER, dtype=np.int64)
        self.silent_ms = np.full(count, NEVER, dtype=np.int64)
        self.excused_ms = np.full(count, NEVER, dtype=np.int64)
        self.is_excused = np.zeros(count, dtype=np.bool_)
        self.is_reverting = np.zeros(count, dtype=np.bool_)
        self.is_removed = np.zeros(count, dtype=np.bool_)
        self.is_ready = np.zeros(count, dtype=np.bool_)
        self._tally = np.zeros((groups, len(_CELLS)), dtype=np.int64)
        self._ready = np.zeros(groups, dtype=np.int64)
        self._working = np.zeros(sites, dtype=np.int64)
        self._in_progress = np.zeros(1, dtype=np.int64)
        everyone = np.arange(self.count, dtype=np.int64)
        self._derive(everyone)
        self._count(everyone, 1)

    def append(self, group: Ints, site: Ints) -> Ints:
        """Queue more, at the end; return their rows.

        Raises:
            ValueError: There is no place for so many.
        """
        rows = np.arange(self.count, self.count + len(group), dtype=np.int64)
        if self.count + len(group) > len(self.state):
            raise ValueError(f"there is place for {len(self.state)} executions, not for more")
        self.group[rows], self.site[rows] = group, site
        self.count += len(group)
        self._derive(rows)
        self._count(rows, 1)
        return rows

    @contextmanager
    def changing(self, rows: Ints) -> Generator[None]:
        """Keep what is counted right while the rows' columns are written; each row once."""
        if not len(rows):
            yield
            return
        self._count(rows, -1)
        yield
        self._derive(rows)
        self._count(rows, 1)

    def move(self, rows: Ints, event: ExecutionEvent) -> None:
        """Let this happen to rows; within `changing`.

        Raises:
            ConflictError: The table does not allow it in the state of one of them.
        """
        before = self.state[rows]
        after = _NEXT[event][before]
        if (after == _IMPOSSIBLE).any():
            row = int(np.argmax(after == _IMPOSSIBLE))
            subject = f"execution {rows[row]}"
            apply(EXECUTION, STATES[int(before[row])], event, subject, "execution_state")
        self.state[rows] = after
        if event is not ExecutionEvent.PROGRESS:
            self.step[rows] = NOTHING
            self.step_since_ms[rows] = NEVER
            self.told_ms[rows] = NEVER
            self.deadline_ms[rows] = NEVER
            self.deadline_code[rows] = NOTHING
            ended = rows[_IS_FINAL[after]]
            self.silent_ms[ended] = NEVER
            self.retry_ms[ended] = NEVER

    def is_final(self, rows: Ints) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Return which of them are in a final state."""
        return _IS_FINAL[self.state[rows]]

    def tally(self, group: int) -> Tally:
        """Return where the executions of a group are."""
        return Tally(**dict(zip(_CELLS, self._tally[group].tolist(), strict=True)))

    def ready(self, group: int) -> int:
        """Return how many of a group may start, as far as it is theirs."""
        return int(self._ready[group])

    def in_progress(self) -> int:
        """Return how many are IN_PROGRESS."""
        return int(self._in_progress.sum())

    def working(self) -> Ints:
        """Return how many devices of the fleet have one IN_PROGRESS, by site."""
        return self._working

    def sizes(self) -> list[int]:
        """Return how many executions each group has."""
        return self._tally.sum(axis=1).tolist()

    def left_behind(self) -> Ints:
        """Return by site how many devices are offline after what ended badly there."""
        gone = self.lost_ms[: self.count] != NEVER
        if not gone.any():
            return np.zeros(self._sites, dtype=np.int64)
        left = gone & self._leaves_behind()
        return np.bincount(self._used(self.site)[left], minlength=self._sites)

    def is_down(self, rows: Ints) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Return whether the devices of rows that are QUEUED count as down already."""
        return (self.lost_ms[rows] != NEVER) & (self.number[rows] > 0) & ~self.is_removed[rows]

    def states(self) -> dict[str, int]:
        """Return how many executions are in which state."""
        found = np.bincount(self._used(self.state), minlength=len(STATES)).tolist()
        return {state.value: count for state, count in zip(STATES, found, strict=True) if count}

    def reasons(self) -> dict[str, int]:
        """Return for how many executions that did not succeed there is which reason."""
        state = self._used(self.state)
        why = self._used(self.reason)[_IS_FINAL[state] & (state != SUCCEEDED)]
        found = np.bincount(why[why != NOTHING], minlength=len(CODES)).tolist()
        return {code.value: count for code, count in zip(CODES, found, strict=True) if count}

    def check(self) -> None:
        """Count everything anew, and hold it against what was kept.

        Raises:
            AssertionError: They differ.
        """
        counters = self._tally, self._ready, self._working, self._in_progress
        kept = [one.copy() for one in counters]
        for one in counters:
            one[...] = 0
        everyone = np.arange(self.count, dtype=np.int64)
        self._derive(everyone)
        self._count(everyone, 1)
        for before, now in zip(kept, counters, strict=True):
            np.testing.assert_array_equal(before, now)

    def _leaves_behind(self) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        state = self._used(self.state)
        if_started = _LEAVES_BEHIND_IF_STARTED[state] & (self.number[: self.count] > 0)
        return (_LEAVES_BEHIND[state] | if_started) & ~self.is_removed[: self.count]

    def _used(self, column: Ints) -> Ints:
        return column[: self.count]

    def _cells(self, rows: Ints) -> Ints:
        flags = self.is_excused[rows] * 4 + self.is_reverting[rows] * 2
        flags += self.reason[rows] == _OFFLINE
        return _CELL_OF[self.state[rows] * len(_FLAGS) + flags]

    def _derive(self, rows: Ints) -> None:
        held = (self.retry_ms[rows] != NEVER) | (self.penalty_ms[rows] != NEVER)
        held |= self.is_excused[rows] | self.is_removed[rows]
        self.is_ready[rows] = (self.state[rows] == QUEUED) & ~held

    def _count(self, rows: Ints, sign: int) -> None:
        group = self.group[rows]
        places = group * len(_CELLS) + self._cells(rows)
        found = np.bincount(places, minlength=self._tally.size)
        self._tally += sign * found.reshape(self._tally.shape)
        self._ready += sign * np.bincount(group[self.is_ready[rows]], minlength=self._groups)
        at_work = rows[self.state[rows] == IN_PROGRESS]
        self._in_progress += sign * len(at_work)
        there = self.site[at_work[~self.is_removed[at_work]]]
        self._working += sign * np.bincount(there, minlength=self._sites)
