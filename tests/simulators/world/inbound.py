"""What devices of a world report, written into its book: what `link.reports` is for a database.

A report belongs to one giving out of an execution (`number`): one of an older is no longer true.
"""

from __future__ import annotations

from sprat_controller.rollout.phases import ExecutionEvent
from sprat_proto.states import ReasonCode

from simulators.world.columns import IN_PROGRESS, SUCCEEDED
from simulators.world.draws import Ints
from simulators.world.memory_book import MemoryBook


class Inbound:
    """Takes in reports, many of one kind at a time."""

    def __init__(self, book: MemoryBook) -> None:
        self._book = book

    def progressed(self, rows: Ints, numbers: Ints, step: int, at_ms: int) -> None:
        """Devices came to a step, or tell of progress within it."""
        rows = self._current(rows, numbers)
        columns = self._book.columns
        with columns.changing(rows):
            columns.move(rows, ExecutionEvent.PROGRESS)
            self._book.at_step(rows, step, at_ms)

    def succeeded(self, rows: Ints, numbers: Ints, at_ms: int) -> None:
        """Devices proved what they were given, or are back at what they ran before."""
        rows = self._current(rows, numbers)
        is_back = self._book.columns.is_reverting[rows]
        self._book.end(rows[~is_back], ExecutionEvent.SUCCEED, None, at_ms)
        why = ReasonCode.ROLLED_BACK_BY_ROLLOUT
        self._book.end(rows[is_back], ExecutionEvent.ROLL_BACK, why, at_ms)
        self._book.wake()

    def failed(self, rows: Ints, numbers: Ints, code: ReasonCode, at_ms: int) -> None:
        """Devices could not do it before the model was loaded; they run what they ran before."""
        self._end_badly(rows, numbers, ExecutionEvent.FAIL, code, at_ms)

    def rolled_back(self, rows: Ints, numbers: Ints, code: ReasonCode, at_ms: int) -> None:
        """Devices found the loaded model wanting, and went back to what they ran before."""
        self._end_badly(rows, numbers, ExecutionEvent.ROLL_BACK, code, at_ms)

    def rejected(self, rows: Ints, numbers: Ints, code: ReasonCode, at_ms: int) -> None:
        """Devices refuse it by their own facts, and no other variant fits."""
        rows = self._current(rows, numbers)
        self._book.end(rows, ExecutionEvent.REJECT, code, at_ms)
        self._book.wake()

    def fell_back(self, rows: Ints, at_ms: int) -> None:
        """Devices run something else than they had proved, as `link.accounting` has it."""
        had_proved = rows[self._book.columns.state[rows] == SUCCEEDED]
        self._book.end(had_proved, ExecutionEvent.ROLL_BACK, ReasonCode.REVERTED, at_ms)
        self._book.wake()

    def _end_badly(
        self, rows: Ints, numbers: Ints, event: ExecutionEvent, code: ReasonCode, at_ms: int
    ) -> None:
        rows = self._current(rows, numbers)
        is_tried_again = self._book.may_retry(rows, event, code)
        self._book.retry(rows[is_tried_again], code, at_ms)
        self._book.end(rows[~is_tried_again], event, code, at_ms)
        self._book.wake()

    def _current(self, rows: Ints, numbers: Ints) -> Ints:
        columns = self._book.columns
        is_current = (columns.state[rows] == IN_PROGRESS) & (columns.number[rows] == numbers)
        return rows[is_current]
