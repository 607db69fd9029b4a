"""Where the runner reads what a rollout stands at, and writes what was decided."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from sprat_controller.rollout.facts import Decision, Facts


class Book(Protocol):
    """One rollout's rows, held by a lease: in a database, or in a simulated world's columns."""

    def read(self, now: datetime) -> Facts | None:
        """Return the facts; None: the rollout is gone.

        Raises:
            LeaseLostError: Another replica took it over.
        """
        ...

    def carry_out(self, decision: Decision, now: datetime) -> None:
        """Do it in one transaction, as far as the rows still allow it; then tell the devices.

        Doing it twice, or after the facts have changed, does no harm.

        Raises:
            LeaseLostError: Another replica took it over.
        """
        ...

    def rest(self, due_at: datetime | None) -> None:
        """Keep when to look again (None: only when something is reported), and end the lease."""
        ...
