"""How far this process may be believed about the time, for the records that it writes.

Positions in the log tell the order of records, whatever the clock did. What they cannot tell is
that it was set back or forward while the controller ran: for that each record has the nanoseconds
of a clock that never does (`mono`), since the process's machine started, with an id of the process
(`boot`), and whether something keeps the clock of the wall right (`tsq`). A database without a
watch, as tools open it that write one record and end, has none of these.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from sqlalchemy.orm import Session

from sprat_controller.store.session import Database

_KEY: Final = "sprat_audit_watch"
_NOTHING: Final[Mapping[str, object]] = {}


@dataclass(frozen=True)
class Watch:
    """What says it.

    Attributes:
        boot_id: Of this process.
        uptime_ns: Nanoseconds since the machine started, by a clock that never goes back.
        is_synchronised: Whether something keeps the clock of the wall right.
    """

    boot_id: str
    uptime_ns: Callable[[], int]
    is_synchronised: Callable[[], bool]

    def fields(self) -> Mapping[str, object]:
        """Return what a record that is written now has of it."""
        return {
            "tsq": "synced" if self.is_synchronised() else "unsynced",
            "boot": self.boot_id,
            "mono": self.uptime_ns(),
        }


def put_on(database: Database, watch: Watch) -> None:
    """Have all records say it that are written through a database from now on."""
    database.info[_KEY] = watch


def fields_in(session: Session) -> Mapping[str, object]:
    """Return what a record that is written now has of its database's watch; nothing without."""
    watch = session.info.get(_KEY)
    return watch.fields() if isinstance(watch, Watch) else _NOTHING
