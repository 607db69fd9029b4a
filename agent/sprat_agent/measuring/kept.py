"""What the micro-benchmark found last, in the state file."""

from __future__ import annotations

import msgspec
from sprat_proto.rates import Measured

from sprat_agent.state import State


class KeptMeasurement:
    """One measurement, and what it was made on; see `occasion.basis`."""

    def __init__(self, state: State) -> None:
        self._state = state

    def find(self, basis: str) -> Measured | None:
        """Return what was found on this basis, if anything.

        Raises:
            StateError: It could not be read.
        """
        with self._state.reading() as connection:
            row = connection.execute(
                "SELECT body FROM measurement WHERE basis = ?", (basis,)
            ).fetchone()
        return msgspec.json.decode(row[0], type=Measured) if row else None

    def keep(self, basis: str, measured: Measured) -> None:
        """Keep it in the place of what was found before.

        Raises:
            StateError: It could not be kept.
        """
        body = msgspec.json.encode(measured)
        with self._state.transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO measurement (only, basis, body) VALUES (1, ?, ?)",
                (basis, body),
            )
