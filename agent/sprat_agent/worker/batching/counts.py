"""What a scheduler did since its model was loaded."""

from __future__ import annotations

from sprat_agent.runtime.wire import Figures
from sprat_agent.worker.batching.slot import Slot


class Counts:
    """What was done since the model was loaded; see `wire.Figures`."""

    def __init__(self) -> None:
        self.steps = 0
        self.decode_s = 0.0
        self.schedule_s = 0.0
        self.prefill_tokens = 0
        self.decode_tokens = 0
        self.cached_tokens = 0
        self.drafted_tokens = 0
        self.accepted_tokens = 0
        self.spilled_bytes = 0
        self.restored_tokens = 0

    def add(self, slot: Slot, count: int) -> None:
        """Count tokens that were computed."""
        if slot.making and slot.making.first is not None:
            self.decode_tokens += count
        else:
            self.prefill_tokens += count

    def figures(self, busy: int) -> Figures:
        """Return them."""
        return Figures(
            steps=self.steps,
            decode_s=self.decode_s,
            schedule_s=self.schedule_s,
            prefill_tokens=self.prefill_tokens,
            decode_tokens=self.decode_tokens,
            cached_tokens=self.cached_tokens,
            drafted_tokens=self.drafted_tokens,
            accepted_tokens=self.accepted_tokens,
            spilled_bytes=self.spilled_bytes,
            restored_tokens=self.restored_tokens,
            busy_slots=busy,
        )
