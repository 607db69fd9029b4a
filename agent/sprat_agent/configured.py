"""Which settings held when this device last served, by their digest.

What is different from the start before is `audit.configuration`'s; this is for the end of it.
"""

from __future__ import annotations

from sprat_agent.state import State


class KeptConfiguration:
    """The row."""

    def __init__(self, state: State) -> None:
        self._state = state

    def sha256(self) -> str:
        """Return the digest of the settings that held last; "" before the first.

        Raises:
            StateError: It could not be read.
        """
        with self._state.reading() as connection:
            row = connection.execute("SELECT sha256 FROM configuration").fetchone()
        return str(row[0]) if row else ""

    def keep(self, sha256: str) -> None:
        """Write down which settings hold.

        Raises:
            StateError: It could not be kept.
        """
        with self._state.transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO configuration VALUES (1, ?)", (sha256,))
