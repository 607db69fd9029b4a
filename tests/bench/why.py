"""How long `sprat why` takes in a large fleet, for each reason that it tells, on both databases.

Each device is asked with a session of its own, three times: the best counts, for other work on the
machine is none of it; the processor time of all, the database's included, is beside it. `site` and
`whole` ask devices spread over the whole fleet, under a disruption budget of a label with small
values and of one that the whole fleet has; the cells of `why_cells` ask those that stand just so.
The budget of the whole fleet is such that each device which could be down is looked at, and there
is room. PostgreSQL has been analysed before, as its autovacuum does within a minute.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import sqlalchemy as sql
from figure import Figure
from simulators import postgres
from sprat_controller.rollout import frozen_strategy
from sprat_controller.rollout.strategy import DisruptionBudget, Strategy
from sprat_controller.rollout.why import from_rows
from sprat_controller.store import migrations, tables
from sprat_controller.store.session import Database, sqlite_url
from sprat_controller.store.tables import Device, Execution, Rollout, RolloutGroup
from sqlmodel import Session
from why_cells import AS_IT_WAS, CELLS, Cell, strategy
from why_fleet import ABOVE, DEVICES, GROUPS, NEWEST, NOW, device_id, fill

ASKED: Final = 500  # devices, spread over the fleet
TRIES: Final = 3
BOUND_MS: Final = 100.0
_MS: Final = 1e3
_BUDGETS: Final = {
    "site": DisruptionBudget(label="site", max_unavailable_percent=10),
    "whole": DisruptionBudget(label="fleet", max_unavailable_percent=5),
}
_ABOVE: Final = "r-above"  # a rollout of higher priority


def figures() -> Iterator[Figure]:
    """Yield the median and the 99th percentile of an answer, for each budget and each reason."""
    for dialect, opened in (("sqlite", _sqlite), ("postgresql", _postgresql)):
        with opened() as database:
            for name, budget in _BUDGETS.items():
                with database.transaction() as session:
                    _follow(session, strategy(budgets=(budget,)))
                yield from _spread(database, f"{dialect} {name}")
            for cell in CELLS:
                yield _of_cell(database, dialect, cell)


@contextmanager
def _sqlite() -> Generator[Database]:
    with tempfile.TemporaryDirectory() as folder:
        database = Database(sqlite_url(Path(folder) / "controller.db"))
        try:
            migrations.upgrade(database)
            fill(database)
            yield database
        finally:
            database.close()


@contextmanager
def _postgresql() -> Generator[Database]:
    with postgres.running() as cluster:
        name = cluster.create_migrated()
        database = Database(cluster.url(name))
        try:
            fill(database)
            with cluster.connect(name) as connection:
                connection.execute("VACUUM ANALYZE")
            yield database
        finally:
            database.close()


def _spread(database: Database, name: str) -> Iterator[Figure]:
    asked = range(DEVICES - 1, 0, -(DEVICES // ASKED))
    took, detail = _asked(database, asked)
    yield Figure(f"why_p50_ms {name}", statistics.median(took), "ms", BOUND_MS, detail=detail)
    yield Figure(f"why_p99_ms {name}", _p99(took), "ms", BOUND_MS, detail=detail)


def _of_cell(database: Database, dialect: str, cell: Cell) -> Figure:
    with database.transaction() as session:
        _stand(session, cell)
    took, detail = _asked(database, cell.asked)
    if detail["codes"] != {cell.code.value: len(cell.asked)}:
        raise RuntimeError(f"expected {cell.code} of all, found {detail['codes']}")
    with database.transaction() as session:
        _stand(session, Cell(cell.code, cell.asked))
    name = f"why_p99_ms {dialect} {cell.code}{cell.note}"
    return Figure(name, _p99(took), "ms", BOUND_MS, detail=detail)


def _p99(took: list[float]) -> float:
    return took[len(took) * 99 // 100]


def _asked(database: Database, numbers: Iterable[int]) -> tuple[list[float], dict[str, object]]:
    """Ask each device; return how long each took, sorted, and what to tell beside it."""
    codes: Counter[str] = Counter()
    begun = _processor(database)
    took = sorted(_answer(database, number, codes) for number in numbers)
    each = (_processor(database) - begun) / len(took) / TRIES
    detail: dict[str, object] = {"devices": DEVICES, "asked": len(took), "codes": dict(codes)}
    detail |= {"slowest_ms": round(took[-1], 2), "mean_processor_ms": round(each * _MS, 2)}
    return took, detail


def _answer(database: Database, number: int, codes: Counter[str]) -> float:
    took: list[float] = []
    said: set[str] = set()
    for _ in range(TRIES):
        begun = time.perf_counter()
        with database.reading() as session:
            (found,) = from_rows.answers(session, device_id(number), NOW)
        took.append(time.perf_counter() - begun)
        said.add(found.code.value)
    codes.update(said)
    return min(took) * _MS


def _processor(database: Database) -> float:
    """Return the seconds of processor of this process and of the database's that serves it."""
    own = time.process_time()
    if not database.is_shared:
        return own
    with database.reading() as session:
        pid = session.connection().execute(sql.text("SELECT pg_backend_pid()")).scalar_one()
    told = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return own + (int(told[11]) + int(told[12])) / os.sysconf("SC_CLK_TCK")


def _stand(session: Session, cell: Cell) -> None:
    """Make the rows stand as the cell says; what it does not say is as it was."""
    _follow(session, cell.strategy)
    asked = [device_id(number) for number in cell.asked]
    runs, ids = tables.of(Execution).c, tables.of(Device).c.id
    halves = tables.of(RolloutGroup).c
    is_half = sql.and_(halves.rollout_id == NEWEST, halves.number == GROUPS.index("RUNNING"))
    of_asked = runs.device_id.in_(asked)
    is_newest = tables.of(Rollout).c.id == NEWEST
    for kind, where, name, said in (
        (Rollout, is_newest, "rollout", cell.rollout),
        (RolloutGroup, is_half, "half", cell.half),
        (Device, ids.in_(asked), "device", cell.device),
        (Execution, of_asked & (runs.rollout_id == NEWEST), "run", cell.run),
        (Execution, of_asked & (runs.rollout_id == ABOVE), "above", cell.above),
    ):
        values = AS_IT_WAS[name] | said
        session.connection().execute(sql.update(tables.of(kind)).where(where).values(values))


def _follow(session: Session, how: Strategy) -> None:
    stored = frozen_strategy.to_json(how)
    session.connection().execute(sql.update(tables.of(Rollout)).values(strategy=stored))
