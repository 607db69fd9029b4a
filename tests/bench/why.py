"""How long `sprat why` takes in a large fleet, for devices that wait in every way that counts.

The fleet is on SQLite, all of it wanted by a rollout in the five groups of the canary ladder that
has a disruption budget, a pace and a gate, after others that are over. Each device is asked with a
session of its own, three times: the best counts, for other work on the machine is none of it; the
processor time of all is beside it. `whole` is the worst: one label value holds all of the fleet.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import msgspec
import sqlalchemy as sql
from figure import Figure
from sprat_controller.rollout import frozen_strategy
from sprat_controller.rollout.strategy import LADDER, DisruptionBudget, Gate, Group, Pace, Strategy
from sprat_controller.rollout.why import from_rows
from sprat_controller.store import migrations, tables
from sprat_controller.store.session import Database, sqlite_url
from sprat_controller.store.tables import Device, DeviceLabel, Execution, Rollout, RolloutGroup
from sqlmodel import SQLModel

DEVICES: Final = 100_000
SITE: Final = 100  # devices at a site
OVER: Final = 2  # rollouts before, which are done
ASKED: Final = 500  # devices, spread over the fleet
TRIES: Final = 3
BOUND_MS: Final = 100.0
_NOW: Final = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
_MS: Final = 1e3
_BATCH: Final = 20_000
_BUDGETS: Final = {
    "site": DisruptionBudget(label="site", max_unavailable_percent=10),
    "whole": DisruptionBudget(label="fleet", max_unavailable_percent=10),
}


def figures() -> Iterator[Figure]:
    """Yield the median and the 99th percentile of an answer, for each kind of budget."""
    with tempfile.TemporaryDirectory() as folder:
        database = Database(sqlite_url(Path(folder) / "controller.db"))
        try:
            migrations.upgrade(database)
            _fill(database)
            for name, budget in _BUDGETS.items():
                _follow(database, _strategy(budget))
                yield from _measured(database, name)
        finally:
            database.close()


def _measured(database: Database, name: str) -> Iterator[Figure]:
    codes: Counter[str] = Counter()
    begin = time.process_time()
    took = sorted(_asked(database, number, codes) for number in _spread())
    each = (time.process_time() - begin) / len(took) / TRIES
    detail: dict[str, object] = {"devices": DEVICES, "asked": len(took), "codes": dict(codes)}
    detail |= {"slowest_ms": round(took[-1], 2), "mean_processor_ms": round(each * _MS, 2)}
    yield Figure(f"why_p50_ms {name}", statistics.median(took), "ms", BOUND_MS, detail=detail)
    yield Figure(f"why_p99_ms {name}", took[len(took) * 99 // 100], "ms", BOUND_MS, detail=detail)


def _spread() -> range:
    """Return numbers of devices, the last among them."""
    return range(DEVICES - 1, 0, -(DEVICES // ASKED))


def _asked(database: Database, number: int, codes: Counter[str]) -> float:
    took: list[float] = []
    said: set[str] = set()
    for _ in range(TRIES):
        begin = time.perf_counter()
        with database.reading() as session:
            (found,) = from_rows.answers(session, f"dev-{number:06}", _NOW)
        took.append(time.perf_counter() - begin)
        said.add(found.code.value)
    codes.update(said)
    return min(took) * _MS


def _strategy(budget: DisruptionBudget) -> Strategy:
    first = msgspec.structs.replace(LADDER.groups[0], gate=Gate())
    # One group takes most of the fleet and is under way: its queue is long, its site may be full.
    groups = (first, Group(name="half", percent=50), Group(name="rest"))
    pace = Pace(max_in_progress=DEVICES, starts_per_minute=DEVICES)
    return Strategy(groups=groups, pace=pace, budgets=(budget,))


def _follow(database: Database, strategy: Strategy) -> None:
    with database.transaction() as session:
        rollouts = tables.of(Rollout)
        stored = frozen_strategy.to_json(strategy)
        session.connection().execute(sql.update(rollouts).values(strategy=stored))


def _fill(database: Database) -> None:
    _write(database, Device, (_device(number) for number in range(DEVICES)))
    _write(database, DeviceLabel, _labels())
    for rollout in range(OVER + 1):
        is_newest = rollout == OVER
        _write(database, Rollout, iter([_rollout(rollout, is_newest=is_newest)]))
        _write(database, RolloutGroup, _groups(rollout, is_newest=is_newest))
        rows = (_execution(rollout, number, is_newest=is_newest) for number in range(DEVICES))
        _write(database, Execution, rows)


def _write(database: Database, kind: type[SQLModel], rows: Iterator[dict[str, Any]]) -> None:
    made = list(rows)
    for start in range(0, len(made), _BATCH):
        with database.transaction() as session:
            insert = sql.insert(tables.of(kind))
            session.connection().execute(insert, made[start : start + _BATCH])


def _device(number: int) -> dict[str, Any]:
    running = {"assistant": {"digest": "4" * 64, "model": "talk", "release": "1.0.0"}}
    told = {"state": "PENDING", "online": number % 10 > 0, "running": running}
    told |= {"profile": {"memory_bytes": 4 << 30, "cpu_features": ["avx2", "fma"] * 8}}
    key = {"id": f"dev-{number:06}", "key_sha256": "a" * 64}
    return {**key, **told, "enrolled_at": _NOW, "last_seen_at": _NOW}


def _labels() -> Iterator[dict[str, Any]]:
    for number in range(DEVICES):
        device = f"dev-{number:06}"
        yield {"device_id": device, "key": "site", "value": f"site-{number % (DEVICES // SITE)}"}
        yield {"device_id": device, "key": "fleet", "value": "all"}


def _rollout(number: int, *, is_newest: bool) -> dict[str, Any]:
    return {
        "id": f"r-{number:02}",
        "name": "bench",
        "model": "talk",
        "release": f"1.{number}.0",
        "alias": "assistant",
        "target": {"labels": {}, "devices": []},
        "context": 2048,
        "state": "RUNNING" if is_newest else "FINISHED",
        "max_in_progress": 0,
        "execution_timeout_s": 3600,
        "created_at": _NOW + timedelta(seconds=number),
        "created_by": "token:bench",
    }


def _groups(rollout: int, *, is_newest: bool) -> Iterator[dict[str, Any]]:
    states = ("FINISHED", "RUNNING", "SCHEDULED") if is_newest else ("FINISHED",) * 3
    for number, state in enumerate(states):
        row = {"rollout_id": f"r-{rollout:02}", "number": number, "name": "", "state": state}
        yield {**row, "devices": DEVICES // 3}


def _execution(rollout: int, device: int, *, is_newest: bool) -> dict[str, Any]:
    created = _NOW - timedelta(hours=10 - rollout)
    group = 0 if device == 0 else 1 if device <= DEVICES // 2 else 2
    # Within half of the fleet a site has ten of a hundred down at the most: one in twenty is under
    # way, and as many failed on devices of which half are offline.
    state = "SUCCEEDED"
    if is_newest and group:
        turns = ("IN_PROGRESS", "FAILED", *("SUCCEEDED",) * 8, *("QUEUED",) * 10)
        state = turns[device // (DEVICES // SITE) % len(turns)] if group == 1 else "QUEUED"
    elif device % 50 == 0:
        state = "FAILED"
    return {
        "id": f"e-{rollout:02}-{device:06}",
        "rollout_id": f"r-{rollout:02}",
        "device_id": f"dev-{device:06}",
        "position": device,
        "group_number": group,
        "state": state,
        "verdicts": [{"variant": "q4_0", "fits": True, "message": "fits"}] * 4,
        "created_at": created,
        "started_at": None if state == "QUEUED" else created,
        "updated_at": created,
        "finished_at": created if state in ("SUCCEEDED", "FAILED") else None,
    }
