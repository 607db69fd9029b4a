"""Bringing rollouts forward: look, decide, carry out, until nothing is left to do.

Being killed between any two statements is an ordinary path: what was not committed did not happen
and is decided again; what was committed is found in the rows and not done again.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Final

from sprat_controller.rollout import planner
from sprat_controller.rollout.book import Book
from sprat_controller.schedule.leases import Lease, Leases

# A rollout of a million devices in chunks of 100; more rounds than this is a bug, not a fleet.
MAX_ROUNDS: Final = 30_000


class Runner:
    """Brings rollouts forward; any number of replicas may do it at once."""

    def __init__(self, leases: Leases, open_book: Callable[[Lease], Book]) -> None:
        """Claim what is due by `leases`, and work on what `open_book` opens."""
        self._leases = leases
        self._open_book = open_book

    def run_due(self, now: datetime) -> datetime | None:
        """Bring every rollout that is due as far as it goes at this moment.

        A rollout that fails is logged and tried again the next time; the others go on.

        Returns:
            When to look again because another replica works on one that is due; None: none does.
        """
        return self._leases.work_on_due(now, lambda lease: advance(self._open_book(lease), now))


def advance(book: Book, now: datetime) -> None:
    """Bring one rollout as far as it goes at this moment.

    Raises:
        LeaseLostError: Another replica took it over.
    """
    for _ in range(MAX_ROUNDS):
        facts = book.read(now)
        if facts is None:
            return
        decisions = planner.decide(facts, now)
        if not decisions:
            book.rest(planner.next_due(facts, now))
            return
        for decision in decisions:
            book.carry_out(decision, now)
    raise RuntimeError(f"a rollout is not at rest after {MAX_ROUNDS} rounds")
