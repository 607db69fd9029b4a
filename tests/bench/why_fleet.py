"""The rows of a large fleet, for `why.py`: a rollout wants all of it, after others that are over.

The newest rollout has three groups: one device that is done, half of the fleet of which some are
under way, some ended and the rest is queued, and all others. A few devices came later, and are in
no rollout; a few were in one of higher priority before.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import sqlalchemy as sql
from sprat_controller.store import tables
from sprat_controller.store.session import Database
from sprat_controller.store.tables import (
    Device,
    DeviceLabel,
    Execution,
    Publisher,
    Release,
    Rollout,
    RolloutGroup,
    Variant,
)
from sqlmodel import SQLModel

DEVICES: Final = 100_000
LATE: Final = 20  # more, which came later
SITE: Final = 100  # devices at a site
OVER: Final = 2  # rollouts before, which are done
NOW: Final = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
NEWEST: Final = f"r-{OVER:02}"
ABOVE: Final = "r-above"  # of higher priority than all others
# Devices that are queued in the group that is under way, early and late ones; all were in ABOVE.
QUEUED: Final = (*range(10_001, 20_000, 1_000), *range(30_001, 40_000, 1_000))
# What the groups of the newest rollout are in.
GROUPS: Final = ("FINISHED", "RUNNING", "SCHEDULED")
DIGEST: Final = "4" * 64
_BATCH: Final = 20_000


def device_id(number: int) -> str:
    """Return what a device is called."""
    return f"dev-{number:06}"


def fill(database: Database) -> None:
    """Write all of it into a database that has the tables."""
    _write(database, Publisher, iter([{"name": "bench", "key_ids": ["k"], "created_at": NOW}]))
    made = {"model": "talk", "release": "1.0.0"}
    release = {**made, "counter": 1, "created_at": NOW, "pushed_by": "token:bench"}
    _write(database, Release, iter([release]))
    variant = {**made, "digest": DIGEST, "variant": "q4_0", "manifest": b"", "publisher": "bench"}
    _write(database, Variant, iter([variant]))
    _write(database, Device, (_device(number) for number in range(DEVICES + LATE)))
    _write(database, DeviceLabel, _labels())
    for rollout in range(OVER + 1):
        is_newest = rollout == OVER
        _write(database, Rollout, iter([_rollout(rollout, is_newest=is_newest)]))
        _write(database, RolloutGroup, _groups(rollout, is_newest=is_newest))
        rows = (_execution(rollout, number, is_newest=is_newest) for number in range(DEVICES))
        _write(database, Execution, rows)
    above = {**_rollout(0, is_newest=False), "id": ABOVE, "priority": 1}
    _write(database, Rollout, iter([above]))
    of_above = {"rollout_id": ABOVE, "group_number": 0}
    _write(
        database,
        Execution,
        (
            _execution(0, number, is_newest=False) | {"id": f"a-{number}", **of_above}
            for number in QUEUED
        ),
    )


def _write(database: Database, kind: type[SQLModel], rows: Iterator[dict[str, Any]]) -> None:
    made = list(rows)
    for start in range(0, len(made), _BATCH):
        with database.transaction() as session:
            insert = sql.insert(tables.of(kind))
            session.connection().execute(insert, made[start : start + _BATCH])


def _device(number: int) -> dict[str, Any]:
    running = {"assistant": {"digest": DIGEST, "model": "talk", "release": "1.0.0"}}
    running = running if number < DEVICES else {}
    told = {"state": "PENDING", "online": number % 10 > 0, "running": running}
    told |= {"profile": {"memory_bytes": 4 << 30, "cpu_features": ["avx2", "fma"] * 8}}
    key = {"id": device_id(number), "key_sha256": "a" * 64}
    return {**key, **told, "enrolled_at": NOW, "last_seen_at": NOW}


def _labels() -> Iterator[dict[str, Any]]:
    for number in range(DEVICES + LATE):
        device = device_id(number)
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
        "created_at": NOW + timedelta(seconds=number),
        "created_by": "token:bench",
    }


def _groups(rollout: int, *, is_newest: bool) -> Iterator[dict[str, Any]]:
    states = GROUPS if is_newest else ("FINISHED",) * 3
    for number, state in enumerate(states):
        row = {"rollout_id": f"r-{rollout:02}", "number": number, "name": "", "state": state}
        yield {**row, "devices": DEVICES // 3}


def _execution(rollout: int, device: int, *, is_newest: bool) -> dict[str, Any]:
    created = NOW - timedelta(hours=10 - rollout)
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
        "device_id": device_id(device),
        "position": device,
        "group_number": group,
        "state": state,
        "verdicts": [{"variant": "q4_0", "fits": True, "message": "fits"}] * 4,
        "created_at": created,
        "started_at": None if state == "QUEUED" else created,
        "updated_at": created,
        "finished_at": created if state in ("SUCCEEDED", "FAILED") else None,
    }
