"""Puts prefixes into the file and reads them back, in the engine thread, between its steps.

A prefix is taken where a sequence holds it and nothing after it: when its prompt was just computed,
when a second prompt was just placed after it, or when the sequence is about to be lost. It is
written and read a few milliseconds at a time, while other answers go on. A prompt that waits for a
prefix to be read is placed as one that waits for another request to compute it.

Keys and values that are copied between sequences move with the next step: until then nothing is
taken or put back.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from sprat_agent.runtime.wire import Load
from sprat_agent.worker.batching.backend import Backend
from sprat_agent.worker.batching.batch import Run
from sprat_agent.worker.batching.counts import Counts
from sprat_agent.worker.batching.prefixes import common
from sprat_agent.worker.batching.slot import Asked, Slot
from sprat_agent.worker.spilling import decide
from sprat_agent.worker.spilling.decide import Allowance, Rates
from sprat_agent.worker.spilling.shelf import Shelf
from sprat_agent.worker.spilling.states import Reading, Writing

_LOG = logging.getLogger(__name__)
_IDLE_S: Final = 0.05  # of work at once while nobody waits
_BESIDE: Final = (0.005, 0.1)  # while answers wait: so long, or this part of a step if it is more
_RESTORING: Final = (0.02, 0.5)  # while a prompt waits too, which would take whole steps
_LARGEST: Final = 4  # a state takes at most this part of the room in the file
_COPIES: Final = 2  # of a state, in memory: as it is in the file, and as the engine reads it
_MOST_TOKENS: Final = 16_384
_READ_BYTES_S: Final = 200e6  # before it was measured
_MEASURED_BYTES: Final = 1 << 20  # less says nothing of the disk
_MEASURED_TOKENS: Final = 32
_WEIGHT: Final = 0.25  # of what was measured last


class Spiller:
    """Looks after the file of one model; without one it does nothing."""

    def __init__(
        self,
        backend: Backend,
        slots: Sequence[Slot],
        shelf: Shelf | None,
        counts: Counts,
        clock: Callable[[], float],
        *,
        copies: int,
    ) -> None:
        """Look after a shelf.

        Args:
            backend: The engine.
            slots: Its sequences.
            shelf: The prefixes in the file; None: there is none.
            counts: Where work is counted.
            clock: In seconds.
            copies: Bytes of memory that copies of a prefix may take.
        """
        self._backend = backend
        self._slots = slots
        self._shelf = shelf
        self._counts = counts
        self._clock = clock
        room = shelf.room if shelf else 0
        self._largest = min(room // _LARGEST, copies // _COPIES)
        self._allowance = Allowance(room, room, clock())
        self._rates = Rates(0.0, _READ_BYTES_S)
        self._floor = min((one.rank for one in shelf.stored), default=0.0) if shelf else 0.0
        self._is_settled = True
        self._writing: Writing | None = None
        self._restoring: tuple[Slot, Reading] | None = None
        self._reading_s = 0.0
        self._step_s = 0.0  # the last one

    def find(self, asked: Asked) -> None:
        """Begin to read a prefix of a prompt, where that is faster than computing it."""
        request = asked.request
        if self._shelf is None or self._restoring or not self._is_settled:
            return
        if request.is_fresh or request.adapter:
            return
        free = [slot for slot in self._slots if not slot.is_busy]
        if not free:
            return
        prompt = asked.prompt
        held = [slot.tokens for slot in self._slots if not slot.adapter]
        shared = max((common(one, prompt, len(prompt) - 1) for one in held), default=0)
        one = decide.restorable(prompt, shared, self._shelf.stored, self._rates)
        if one is None:
            return
        slot = min(free, key=lambda slot: slot.used)
        try:
            reading = self._shelf.reading(one)
        except MemoryError:
            return
        self._backend.keep(slot.sequence, 0)
        slot.restore(one.tokens)
        self._restoring = slot, reading
        self._reading_s = 0.0

    def copied(self) -> None:
        """Know that a sequence was copied."""
        self._is_settled = False

    def began(self, slot: Slot, *, is_in_place: bool) -> None:
        """Know that a prompt was placed, and take what it shares with the last one there."""
        making = slot.making
        if self._shelf is None or making is None:
            return
        request = making.asked.request
        slot.unsaved = 0 if request.adapter else len(making.asked.prompt)
        if request.adapter or request.is_fresh:
            return
        if one := decide.touched(making.asked.prompt, self._shelf.stored):
            self._shelf.update(decide.used(one, self._floor))
        if is_in_place:
            self._take(slot, slot.computed, is_shared=True)

    def stepped(self, runs: Sequence[Run], took_s: float) -> None:
        """Know that a step was made, and take a prompt that was computed by it."""
        self._is_settled = True
        self._step_s = took_s
        if self._shelf is None:
            return
        count = sum(len(run.tokens) for run in runs)
        if count >= _MEASURED_TOKENS:
            old, new = self._rates.token_s, took_s / count
            token_s = old + _WEIGHT * (new - old) if old else new
            self._rates = replace(self._rates, token_s=token_s)
        for run in runs:
            slot = self._slots[run.sequence]
            if 0 < slot.computed <= slot.unsaved and self._is_last_chance(slot):
                self._take(slot, slot.computed, is_shared=False)

    def lose(self, slot: Slot, shared: int = 0) -> None:
        """Take the prompt of a sequence that is to hold something else after `shared` tokens."""
        if 2 * shared < slot.unsaved <= slot.computed and self._can_take:
            slot.computed = self._backend.keep(slot.sequence, slot.unsaved)
            self._take(slot, slot.computed, is_shared=False)
        slot.unsaved = 0

    def forget(self) -> None:
        """Know that what the sequences hold is unknown."""
        if self._restoring:
            self._restoring[0].end_restoring(0)
        self._restoring = None
        self._is_settled = False
        for slot in self._slots:
            slot.unsaved = 0

    def work(self, *, is_busy: bool) -> bool:
        """Write or read for a moment; tell whether there is more to do."""
        if self._shelf is None:
            return False
        try:
            if self._restoring:
                moment_s = self._moment_s(_RESTORING) if is_busy else _IDLE_S
                self._restore(*self._restoring, moment_s, is_busy=is_busy)
            elif self._writing:
                self._write(self._writing, self._moment_s(_BESIDE) if is_busy else _IDLE_S)
            elif self._shelf.is_changed and not is_busy:
                self._shelf.write_index()
        except OSError as error:
            self._pause(error)
        return bool(self._writing or self._restoring)

    @property
    def _can_take(self) -> bool:
        return self._is_settled and not (self._writing or self._restoring)

    def _is_last_chance(self, slot: Slot) -> bool:
        size = self._backend.state_size(slot.sequence)
        return decide.is_last_chance(
            slot.computed,
            slot.unsaved,
            self._backend.step_tokens,
            size / slot.computed,
            self._largest,
        )

    def _take(self, slot: Slot, length: int, *, is_shared: bool) -> None:
        """Begin to write the first `length` tokens of a sequence, which holds no others."""
        shelf = self._shelf
        if shelf is None or not self._can_take or length > _MOST_TOKENS:
            return
        size = self._backend.state_size(slot.sequence)
        is_worth = decide.is_worth(length, size, self._rates, is_shared=is_shared)
        if not is_worth or not 0 < size <= self._largest:
            return
        tokens = slot.tokens[:length]
        if decide.covering(tokens, shelf.stored):
            slot.unsaved = slot.unsaved if is_shared else 0
            return
        one = shelf.newcomer(tokens, size, length * self._rates.token_s)
        one = decide.ranked(replace(one, uses=2 if is_shared else 1), self._floor)
        going = decide.giving_way(one, shelf.stored, shelf.room)
        if going is None or not self._allowance.take(size, self._clock()):
            return
        try:
            state = self._backend.save(slot.sequence, size)
        except MemoryError:
            return
        if not state:  # the engine cannot, for reasons of its own
            return
        one = replace(one, size=len(state))
        self._floor = max([self._floor, *(gone.rank for gone in going)])
        shelf.remove(gone.number for gone in going)
        slot.unsaved = slot.unsaved if is_shared else 0
        try:
            self._writing = shelf.writing(one, state)
        except OSError as error:
            self._pause(error)

    def _pause(self, error: OSError) -> None:
        """Write nothing for a while: the disk may have room again by then."""
        _LOG.warning("prefixes are not kept for now: %s", error)
        self._allowance.left = 0.0
        self._writing = None
        if self._shelf:
            self._shelf.is_changed = False

    def _write(self, writing: Writing, moment_s: float) -> None:
        until = self._clock() + moment_s
        while not writing.step():
            if self._clock() >= until:
                return
        self._writing = None
        self._counts.spilled_bytes += writing.stored.size

    def _moment_s(self, rule: tuple[float, float]) -> float:
        least_s, share = rule
        return max(least_s, share * self._step_s)

    def _restore(self, slot: Slot, reading: Reading, moment_s: float, *, is_busy: bool) -> None:
        began = self._clock()
        until = began + moment_s
        try:
            while not reading.is_over:
                reading.step()
                if self._clock() >= until:
                    break
        except OSError as error:
            self._dismiss(slot, reading, f"it cannot be read: {error}")
            return
        self._reading_s += self._clock() - began
        if not reading.is_over:
            return
        if not self._is_settled:
            if not is_busy:  # nothing will settle it
                self._restoring = None
                slot.end_restoring(0)
            return
        length = len(reading.stored.tokens)
        if not reading.is_right:
            self._dismiss(slot, reading, "it is not what was written")
        elif not self._put_back(slot, reading):
            self._dismiss(slot, reading, "the engine refuses it")
        else:
            self._restoring = None
            slot.end_restoring(length)
            slot.used = max(one.used for one in self._slots)
            self._counts.restored_tokens += length
            self._measure(reading.stored.size)

    def _put_back(self, slot: Slot, reading: Reading) -> bool:
        length = len(reading.stored.tokens)
        try:
            return self._backend.restore(slot.sequence, reading.state, length)
        except MemoryError:
            return False

    def _dismiss(self, slot: Slot, reading: Reading, why: str) -> None:
        """Forget a prefix that is of no use; its prompt is computed."""
        self._restoring = None
        slot.end_restoring(0)
        if self._shelf:
            self._shelf.remove([reading.stored.number])
        count = len(reading.stored.tokens)
        _LOG.warning("a kept prefix of %d tokens was thrown away: %s", count, why)

    def _measure(self, size: int) -> None:
        if size >= _MEASURED_BYTES and self._reading_s > 0:
            old, new = self._rates.read_bytes_s, size / self._reading_s
            self._rates = replace(self._rates, read_bytes_s=old + _WEIGHT * (new - old))


def open_shelf(source: Load, backend: Backend) -> Shelf | None:
    """Return the prefixes in the file that a model was loaded with, if it keeps any.

    A model that cannot forget tokens cannot use a prefix that goes on otherwise than a prompt.
    """
    if source.prefix_file < 0 or not (backend.can_generate and backend.can_rewind):
        return None
    depends_on = f"{source.prefix_key}\n{backend.state_kind}"
    key = hashlib.sha256(depends_on.encode()).digest()
    try:
        return Shelf(source.prefix_file, source.prefix_bytes, key)
    except OSError as error:
        _LOG.warning("prefixes are not kept: %s", error)
        return None
