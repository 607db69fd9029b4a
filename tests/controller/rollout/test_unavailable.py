from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sprat_controller.rollout import unavailable
from sprat_controller.rollout.budget import Load
from sprat_controller.rollout.strategy import DisruptionBudget, Pace, Strategy
from sprat_controller.store.session import Database
from sprat_controller.store.tables import Device, DeviceLabel, Execution, Rollout
from sqlmodel import Session

NOW = datetime(2026, 11, 26, 9, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


def enrol(session: Session, device_id: str, site: str = "", **columns: Any) -> None:
    session.add(
        Device(id=device_id, state="PENDING", key_sha256="k", enrolled_at=NOW - 9 * HOUR, **columns)
    )
    session.flush()
    if site:
        session.add(DeviceLabel(device_id=device_id, key="site", value=site))


def run(
    session: Session,
    device_id: str,
    state: str,
    *,
    rollout: str = "r1",
    ended: datetime = NOW - HOUR,
    started: datetime | None = NOW - 2 * HOUR,
) -> None:
    if session.get(Rollout, rollout) is None:
        session.add(
            Rollout(
                id=rollout,
                name="",
                model="talk",
                release="1.0.0",
                alias="assistant",
                target={},
                context=256,
                state="RUNNING",
                max_in_progress=0,
                execution_timeout_s=60,
                created_at=NOW - 9 * HOUR,
                created_by="ann",
            )
        )
        session.flush()
    is_final = state not in ("QUEUED", "IN_PROGRESS")
    session.add(
        Execution(
            id=f"{rollout}-{device_id}",
            rollout_id=rollout,
            device_id=device_id,
            position=0,
            state=state,
            verdicts=[],
            created_at=NOW - 3 * HOUR,
            started_at=started,
            updated_at=ended,
            finished_at=ended if is_final else None,
        )
    )
    session.flush()


@pytest.mark.parametrize(
    ("state", "online", "started", "is_down"),
    [
        ("QUEUED", True, False, False),
        ("QUEUED", False, False, False),
        ("QUEUED", True, True, False),
        ("QUEUED", False, True, True),  # it failed, is to be tried again, and is away
        ("IN_PROGRESS", True, True, True),
        ("IN_PROGRESS", False, True, True),
        ("SUCCEEDED", True, True, False),
        ("SUCCEEDED", False, True, False),
        ("FAILED", True, True, False),
        ("FAILED", False, True, True),
        ("TIMED_OUT", True, True, False),
        ("TIMED_OUT", False, True, True),
        ("ROLLED_BACK", True, True, False),
        ("ROLLED_BACK", False, True, True),
        ("CANCELED", True, True, False),
        ("CANCELED", False, True, True),
        ("CANCELED", False, False, False),
        ("REJECTED", False, True, False),
        ("REMOVED", False, True, False),
    ],
)
def test_a_device_is_down(
    any_database: Database, state: str, *, online: bool, started: bool, is_down: bool
) -> None:
    with any_database.transaction() as session:
        enrol(session, "a", "lyon", online=online)
        run(session, "a", state, started=NOW - 2 * HOUR if started else None)
        assert unavailable.down(session, "site") == ({"lyon": 1} if is_down else {})
        assert unavailable.among(session, ["a", "ghost"]) == ({"a"} if is_down else set[str]())


def test_a_failed_and_offline_device_keeps_its_slot_until_a_later_success(
    any_database: Database,
) -> None:
    with any_database.transaction() as session:
        enrol(session, "a", "lyon")
        run(session, "a", "FAILED", ended=NOW - 2 * HOUR)
        run(session, "a", "SUCCEEDED", rollout="r0", ended=NOW - 3 * HOUR)  # before it
        assert unavailable.down(session, "site") == {"lyon": 1}
        run(session, "a", "CANCELED", rollout="r2", ended=NOW - HOUR, started=None)
        assert unavailable.down(session, "site") == {"lyon": 1}
        run(session, "a", "SUCCEEDED", rollout="r3", ended=NOW - HOUR)
        assert unavailable.down(session, "site") == {}


def test_each_device_counts_once_over_all_rollouts_by_its_own_value(any_database: Database) -> None:
    with any_database.transaction() as session:
        for name, site in (("a", "lyon"), ("b", "lyon"), ("c", "rome"), ("d", ""), ("e", "oslo")):
            enrol(session, name, site, online=name != "b")
            session.add(DeviceLabel(device_id=name, key="ring", value="x"))
        enrol(session, "gone", "lyon", revoked_at=NOW)
        for name in ("a", "c", "d", "gone"):
            run(session, name, "IN_PROGRESS")
        run(session, "a", "IN_PROGRESS", rollout="r2")
        run(session, "b", "FAILED", rollout="r3")
        assert unavailable.down(session, "site") == {"lyon": 2, "rome": 1, "": 1}
        assert unavailable.down(session, "ring") == {"x": 4}
        assert unavailable.down(session, "floor") == {"": 4}
        assert unavailable.fleet(session, "site") == {"lyon": 2, "rome": 1, "oslo": 1, "": 1}


def test_a_load_has_what_the_limits_ask_and_no_more(any_database: Database) -> None:
    pace = Pace(max_in_progress=5, starts_per_minute=5)
    percent = DisruptionBudget(label="line", max_unavailable_percent=10)
    with any_database.transaction() as session:
        for name in "abcd":
            enrol(session, name, "lyon", online=True)
        run(session, "a", "IN_PROGRESS", started=NOW - timedelta(seconds=60))
        run(session, "b", "IN_PROGRESS", started=NOW - timedelta(seconds=59))
        run(session, "c", "SUCCEEDED", started=NOW - timedelta(seconds=5))
        run(session, "d", "IN_PROGRESS", started=NOW, rollout="r2")

        def load(strategy: Strategy) -> Load:
            return unavailable.load(session, "r1", strategy, NOW)

        assert load(Strategy()) == Load()
        assert load(Strategy(pace=pace, override="now")) == Load()
        assert load(Strategy(pace=pace)) == Load(
            in_progress=2, starts_last_minute=2, oldest_start_at=NOW - timedelta(seconds=59)
        )
        both = Strategy(budgets=(DisruptionBudget(max_unavailable=1), percent))
        assert load(both) == Load(
            down={"site": {"lyon": 3}, "line": {"": 3}}, fleet={"line": {"": 4}}
        )


@pytest.mark.parametrize("small", [1_000, 0], ids=["few", "many"])
def test_what_holds_one_device_is_what_is_counted_for_all(
    any_database: Database, monkeypatch: pytest.MonkeyPatch, small: int
) -> None:
    # A value of few devices is counted in another way than one that most of the fleet has.
    monkeypatch.setattr(unavailable, "_SMALL", small)
    percent = DisruptionBudget(max_unavailable_percent=50)
    strategy = Strategy(budgets=(percent, DisruptionBudget(label="line", max_unavailable=9)))
    with any_database.transaction() as session:
        for number, site in enumerate(("lyon", "lyon", "lyon", "lyon", "rome", "", "")):
            enrol(session, f"d{number}", site, online=number != 1)
        enrol(session, "gone", "lyon", revoked_at=NOW)
        for name in ("d0", "d5", "gone"):
            run(session, name, "IN_PROGRESS")
        run(session, "d1", "FAILED")
        run(session, "d2", "FAILED")  # online: nothing is down there
        # Offline, they failed: one succeeded since, one before, one is under way again as well.
        for number in (7, 8, 9):
            enrol(session, f"d{number}", "rome", online=False)
            run(session, f"d{number}", "FAILED", rollout="r2")
        run(session, "d7", "SUCCEEDED", ended=NOW)
        run(session, "d8", "SUCCEEDED", ended=NOW - 2 * HOUR)
        run(session, "d9", "IN_PROGRESS")
        run(session, "d9", "TIMED_OUT", rollout="r3")
        whole = unavailable.load(session, "r1", strategy, NOW)
        assert whole.down == {"site": {"lyon": 2, "rome": 2, "": 1}, "line": {"": 5}}
        for site in ("lyon", "rome", "oslo", ""):
            labels = {"site": site} if site else {}
            found = unavailable.load_at(session, "r1", strategy, labels, NOW)
            assert found.fleet == {"site": {site: whole.fleet["site"].get(site, 0)}}
            assert found.down == {
                "site": {site: whole.down["site"].get(site, 0)},
                "line": {"": 5},
            }
        less = Strategy(budgets=(DisruptionBudget(max_unavailable=1),))
        cut = unavailable.load_at(session, "r1", less, {"site": "lyon"}, NOW)
        assert cut == Load(down={"site": {"lyon": 1}})
        more = Strategy(budgets=(DisruptionBudget(label="line", max_unavailable=4),))
        cut = unavailable.load_at(session, "r1", more, {}, NOW)
        assert cut == Load(down={"line": {"": 4}})
        far = Strategy(budgets=(DisruptionBudget(label="line", max_unavailable=50),))
        room = unavailable.load_at(session, "r1", far, {}, NOW)
        assert 5 <= room.down["line"][""] < 50
        skipped = Strategy(budgets=less.budgets, override="now")
        assert unavailable.load_at(session, "r1", skipped, {}, NOW) == Load()
