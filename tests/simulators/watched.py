"""Who changes state in a transaction without a record of the audit log, is found out.

What counts is who opened the transaction: one of the controller's own code must append to the log
if it changes rows of any table, but for what is named here with its reason. What a test writes
itself, to set a scene, is left alone.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from sprat_controller.audit import changes, log
from sprat_controller.store import tables
from sprat_proto.audit_events import Tag
from sqlalchemy import Engine, event
from sqlmodel import SQLModel

RECORDS: Final = "audit_record"

# Tables that hold no state of the fleet, and why a change of them needs no record.
BOOKKEEPING: Final[Mapping[str, str]] = {
    "audit_record": "they are the log itself",
    "audit_head": "the log's length and what appending needs; it follows from the records",
    "audit_subtree": "hashes of the log's tree; they follow from the records",
    "audit_checkpoint": "what the signer signed of the log, and wrote into its own",
    "audit_forwarding": "how far a receiver has the log: a position, and a lease",
    "audit_forwarding_device": "how far a receiver has a device's own log: a position",
    "device_audit_record": "records of devices' own logs, as they arrived",
    "observed_rate": "the newest measurement of each device: telling it is no change",
    "observed_metric": "the newest measurement of each device: telling it is no change",
    "login_failure": "a count of failures; each, and the lock at the end, has its own record",
    "oidc_attempt": "a browser is at a provider: that it came back, or was refused, has a record",
    "oidc_device": "a sign-in that is under way: that it was done has a record",
    "oidc_logout": "a logout that was told of, lest it be told again: sessions' ends have records",
    "access_revision": "counts changes of who may what, so that caches notice; each has a record",
    "alembic_version": "which schema it is: `controller:process:started` says it",
}

# Columns of other tables that are no state either.
_HEARD = "what the device said last of itself; its own log has it"
_LEASE = "which replica works on it: it ends by itself"
_CHAIN = "how far the device's own log is kept here; the log itself is the proof"
COLUMNS: Final[Mapping[str, Mapping[str, str]]] = {
    "device": {
        **dict.fromkeys(("last_seen_at", "online", "carrier"), "presence: it comes and goes"),
        **dict.fromkeys(
            ("capability", "agent_version", "boot_id", "profile", "hardware_class", "simulated"),
            _HEARD,
        ),
        **dict.fromkeys(("obeyed_version", "running", "accounted", "former_boots"), _HEARD),
        "state": "follows from what it runs and what it should run, or from its removal",
        "report_seq": "the number of the newest report that is kept",
        **dict.fromkeys(
            (
                "audit_seq",
                "audit_frontier",
                "audit_epoch",
                "audit_epoch_key",
                "audit_at",
                "audit_checkpoint",
            ),
            _CHAIN,
        ),
    },
    "rollout": {
        **dict.fromkeys(("lease_owner", "lease_number", "lease_until"), _LEASE),
        "due_at": "when the planner looks at it next",
    },
    "execution": dict.fromkeys(
        ("step", "step_since", "updated_at", "deadline_at", "reason", "probe"),
        "how far the device is within a state, as it says; its own log has each step",
    ),
    "rollout_group": {
        "verdict": "what its gate makes of the newest measurements; what follows of it is recorded"
    },
    "recurrence": {
        **dict.fromkeys(("lease_owner", "lease_number", "lease_until"), _LEASE),
        "due_at": "when it is looked at next",
    },
    "operator_token": {"last_used_at": "for people: at most every five minutes"},
    "login_session": {"last_used_at": "when it was used last: it idles out by that"},
}

_TAGS: Final = frozenset(one.value for one in Tag)
_WRITE = re.compile(r"\s*(INSERT INTO|UPDATE|DELETE FROM)\s+\"?(\w+)\"?", re.IGNORECASE)
_SET = re.compile(r"\sSET\s(.*?)(?:\sWHERE\s|\sFROM\s|\sRETURNING\s|$)", re.DOTALL)
# Whoever is asked for on the way from a commit to who opened the transaction.
_BETWEEN = (
    "/sqlalchemy/",
    "<sqlalchemy",
    "/sqlmodel/",
    "/contextlib.py",
    "/store/session.py",
    "/watched.py",
)
_OURS: Final = "/sprat_controller/"
# A migration brings rows into the shape of a newer schema: which one, `process:started` says.
_EXEMPT: Final = ("/store/migrations/",)

# Tables that a test makes for itself are none of the controller's.
_OURS_OF_ALL: Final = {
    row.__tablename__ for row in vars(tables).values() if hasattr(row, "__tablename__")
}


class Write(NamedTuple):
    """One statement that changed rows."""

    table: str
    columns: frozenset[str]  # that an UPDATE sets; empty: whole rows came or went

    @property
    def is_state(self) -> bool:
        """Whether it is of what the log must tell."""
        if self.table in BOOKKEEPING or self.table not in _OURS_OF_ALL:
            return False
        return not self.columns or bool(self.columns - COLUMNS.get(self.table, {}).keys())


@dataclass
class Watch:
    """What was changed without a record, in sentences."""

    found: list[str] = field(default_factory=list[str])

    def check_kept(
        self, writes: Sequence[Write], rows: Iterable[Mapping[str, Any]], opened_by: str | None
    ) -> None:
        """Look at a transaction that is about to be kept, unless a test opened it."""
        if opened_by is not None:
            self.check_records(rows)
            self.check(writes, opened_by)

    def check_records(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Look at records that are appended: do they say what their tags must?"""
        self.found += [one for one in _faults(rows) if one not in self.found]

    def check(self, writes: Iterable[Write], opened_by: str) -> None:
        """Look at what a transaction wrote that is about to be kept."""
        writes = list(writes)
        if any(one.table == RECORDS for one in writes):
            return
        for one in sorted({one for one in writes if one.is_state}, key=str):
            free = COLUMNS.get(one.table, {})
            what = ", ".join(sorted(one.columns - free.keys())) or "rows"
            self.found.append(
                f"{opened_by} changed {what} of {one.table} without a record in the audit log:"
                " append one in the same transaction (sprat_controller.audit.log), or name it with"
                " its reason in tests/simulators/watched.py"
            )


def _faults(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for row in rows:
        # One that is put back after a loss is as it was, and an empty one had expired.
        record: dict[str, Any] = json.loads(row["body"]) if row.get("body") else {}
        if record.get("log") == log.NAME and row.get("tag") in _TAGS:
            fault = changes.fault(record)
            if fault:
                yield f"{fault}: see sprat_controller.audit.changes"


def written(statement: str) -> Write | None:
    """Return what a statement changes; None: it only reads."""
    found = _WRITE.match(statement)
    if found is None:
        return None
    kind, table = found[1].upper(), found[2].lower()
    sets = _SET.search(statement) if kind == "UPDATE" else None
    return Write(table, frozenset(_names(sets[1])) if sets else frozenset())


def _names(assignments: str) -> Iterable[str]:
    flat = assignments
    while "(" in flat:
        inner = re.sub(r"\([^()]*\)", "", flat)
        if inner == flat:
            break
        flat = inner
    for one in flat.split(","):
        name, equals, _ = one.partition("=")
        if equals:
            yield name.strip().strip('"').lower()


@contextmanager
def watching() -> Generator[Watch]:
    """Watch all transactions of this process."""
    watch = Watch()
    # Of this watch's notes at a connection: there may be others.
    key, bodies = object(), object()

    def executed(
        connection: Any, cursor: Any, statement: str, _said: object, context: Any, _many: object
    ) -> None:
        one = written(statement)
        if one is not None and one.table == RECORDS and context.compiled is not None:
            connection.info.setdefault(bodies, []).extend(context.compiled_parameters)
        if one is not None and cursor.rowcount != 0:
            connection.info.setdefault(key, []).append(one)

    def committed(connection: Any) -> None:
        writes: list[Write] = connection.info.pop(key, [])
        rows: list[Mapping[str, Any]] = connection.info.pop(bodies, [])
        if writes:
            watch.check_kept(writes, rows, _opened_by())

    def undone(connection: Any) -> None:
        # One that was cut off in the middle has no notes any more: they went with it.
        if not connection.invalidated:
            connection.info.pop(key, None)
            connection.info.pop(bodies, None)

    listeners = {
        "after_cursor_execute": executed,
        "commit": committed,
        "rollback": undone,
    }
    for name, listener in listeners.items():
        event.listen(Engine, name, listener)
    try:
        yield watch
    finally:
        for name, listener in listeners.items():
            event.remove(Engine, name, listener)


def _opened_by() -> str | None:
    """Return the controller's code that opened the transaction; None: others did."""
    frame = inspect.currentframe()
    while frame is not None:
        name = frame.f_code.co_filename
        if not any(part in name for part in _BETWEEN):
            is_ours = _OURS in name and not any(part in name for part in _EXEMPT)
            place = f"{name.rpartition(_OURS)[2]}:{frame.f_lineno}"
            return f"{place} ({frame.f_code.co_qualname})" if is_ours else None
        frame = frame.f_back
    return None


def contents(database: Any) -> dict[str, list[tuple[object, ...]]]:
    """Return all rows of a database, without what is bookkeeping, in order."""
    found: dict[str, list[tuple[object, ...]]] = {}
    with database.reading() as session:
        for name, table in SQLModel.metadata.tables.items():
            if name in BOOKKEEPING:
                continue
            columns = [one for one in table.columns if one.name not in COLUMNS.get(name, {})]
            rows = session.connection().execute(table.select().with_only_columns(*columns))
            found[name] = sorted(tuple(map(repr, row)) for row in rows)
    return found
