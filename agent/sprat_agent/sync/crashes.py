"""How often each release crashed here: rows, so that losing power in between changes nothing."""

from __future__ import annotations

from sprat_agent.state import State


class CrashRows:
    """Implements `runtime.quarantine.Crashes`."""

    def __init__(self, state: State) -> None:
        self._state = state

    def note(self, digest: str) -> int:
        """Count one more crash, durably; return how many there were."""
        with self._state.transaction() as connection:
            row = connection.execute(
                "INSERT INTO crash VALUES (?, 1)"
                " ON CONFLICT (digest) DO UPDATE SET crashes = crashes + 1 RETURNING crashes",
                (digest,),
            ).fetchone()
        return int(row[0])

    def count(self, digest: str) -> int:
        """Return how many crashes there were."""
        with self._state.reading() as connection:
            row = connection.execute(
                "SELECT crashes FROM crash WHERE digest = ?", (digest,)
            ).fetchone()
        return int(row[0]) if row else 0
