"""What devices told of a release with their heartbeats, and what a gate judges of it.

It means what `rollout.gates.from_rows` reads out of a database's rows: which devices count, which
speak for their class, and against whom they are held. The judging is `rollout.gates.rules` itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np
from sprat_controller.rollout.gates.from_rows import MOST_OF_CLASS
from sprat_controller.rollout.gates.measures import ClassFacts, Measures, Sample
from sprat_proto.states import ExecutionState

from simulators.world.columns import IN_PROGRESS, QUEUED, SUCCEEDED, Columns, state_number
from simulators.world.draws import Bools, Ints

_NOBODY: Final = 0
# These brought nothing to their device, or are not judged.
_UNJUDGED: Final = tuple(
    state_number(one)
    for one in (ExecutionState.CANCELED, ExecutionState.REMOVED, ExecutionState.REJECTED)
)
# What devices measured, as columns by the names of `Measures`.
Told = Mapping[str, Ints]


class Measured:
    """By row: the newest that its device told of the release since it was given it."""

    def __init__(
        self,
        columns: Columns,
        device: Ints,
        hardware_class: Ints,
        classes: Sequence[str],
        before: Callable[[Ints], Told],
    ) -> None:
        """Know of nothing told yet.

        Args:
            columns: The executions.
            device: Of each row which.
            hardware_class: Of each device of the fleet: number of its class.
            classes: Names, by number.
            before: Returns what devices had told of what they ran before.
        """
        self._columns, self._device = columns, device
        self._class, self._names, self._before = hardware_class, classes, before
        count = len(columns.state)
        self._told = {name: np.zeros(count, dtype=np.int64) for name in Measures.__struct_fields__}
        self._number = np.full(count, _NOBODY, dtype=np.int64)
        self._crashes = np.zeros(count, dtype=np.int64)
        self._of_class = [np.flatnonzero(hardware_class == n) for n in range(len(classes))]

    def tell(self, rows: Ints, told: Told) -> None:
        """Devices of these rows tell what they measured with what they were given."""
        self._begin(rows)
        for name, values in told.items():
            self._told[name][rows] = values

    def crashed(self, rows: Ints) -> None:
        """What these devices were given crashed once, or they fell back from it."""
        self._begin(rows)
        self._crashes[rows] += 1

    def of_group(self, group: int) -> dict[str, ClassFacts]:
        """Return the facts of each hardware class of a group."""
        columns = self._columns
        rows = np.flatnonzero(columns.group[: columns.count] == group)
        counts, is_told = self._counts(rows)
        of_row = self._class[self._device[rows]]
        found: dict[str, ClassFacts] = {}
        for number, name in enumerate(self._names):
            counted = rows[counts & (of_row == number)]
            if not len(counted):
                continue
            lost = np.where(is_told[counts & (of_row == number)], self._crashes[counted], 0)
            found[name] = ClassFacts(
                devices=len(counted),
                told=self._samples(rows[is_told & (of_row == number)]),
                others=self._others(number, group),
                others_in_all=self._others_in_all(number, group),
                crashes=int(lost.sum()),
                most_crashes=int(lost.max()),
            )
        return found

    def _begin(self, rows: Ints) -> None:
        """Forget what was told of an older try."""
        number = self._columns.number[rows]
        older = rows[self._number[rows] != number]
        self._crashes[older] = 0
        for values in self._told.values():
            values[older] = 0
        self._number[rows] = number

    def _counts(self, rows: Ints) -> tuple[Bools, Bools]:
        """Return which count, and which of the judged told something."""
        columns = self._columns
        state, is_excused = columns.state[rows], columns.is_excused[rows]
        given = (columns.number[rows] > 0) & ~is_excused & ~columns.is_reverting[rows]
        given &= ~np.isin(state, _UNJUDGED)
        is_told = given & (self._number[rows] == columns.number[rows])
        is_proved = (state == SUCCEEDED) | (state == IN_PROGRESS)
        waits = (state == QUEUED) & ~is_excused
        return (given & (is_proved | is_told)) | waits, is_told

    def _samples(self, rows: Ints) -> list[Sample]:
        """Return what the first told, by the order of devices, which says nothing of them."""
        first = rows[np.argsort(self._device[rows], kind="stable")][:MOST_OF_CLASS]
        now = _measures({name: values[first] for name, values in self._told.items()}, len(first))
        before = _measures(self._before(self._device[first]), len(first))
        return [Sample(mine, was) for mine, was in zip(now, before, strict=True)]

    def _others(self, number: int, group: int) -> list[Measures]:
        devices = self._outside(number, group)[:MOST_OF_CLASS]
        return _measures(self._before(devices), len(devices))

    def _others_in_all(self, number: int, group: int) -> int:
        """Return how many of the class outside the group are to run what was before."""
        devices = self._outside(number, group)
        columns = self._columns
        used = slice(columns.count)
        has_it = np.isin(columns.state[used], (IN_PROGRESS, SUCCEEDED))
        given = self._device[: columns.count][has_it]
        return len(devices) - int(np.isin(devices, given).sum())

    def _outside(self, number: int, group: int) -> Ints:
        columns = self._columns
        used = slice(columns.count)
        is_inside = (columns.group[used] == group) & (columns.number[used] > 0)
        of_class = self._of_class[number]
        return of_class[~np.isin(of_class, self._device[: columns.count][is_inside])]


def _measures(told: Told, count: int) -> list[Measures]:
    by_name = {name: values.tolist() for name, values in told.items()}
    return [
        Measures(**{name: values[place] for name, values in by_name.items()})
        for place in range(count)
    ]
