from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sprat_controller.errors import NotFoundError, RequestError
from sprat_controller.fleet import inventory
from sprat_controller.fleet.inventory import Wanted
from sprat_controller.store.session import Database
from sprat_controller.store.tables import AuditRecord, Device, DeviceLabel, Execution, Rollout
from sprat_proto.states import DeviceState
from sqlmodel import select

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def add(database: Database, count: int, **labels: str) -> None:
    with database.transaction() as session:
        for number in range(count):
            session.add(
                Device(id=f"d-{number:03d}", state="REGISTERED", key_sha256="k", enrolled_at=NOW)
            )
            session.flush()
            for key, value in labels.items():
                session.add(DeviceLabel(device_id=f"d-{number:03d}", key=key, value=value))


def listed(database: Database, wanted: Wanted | None = None, limit: int = 100) -> list[str]:
    """List all, page by page."""
    found: list[str] = []
    with database.reading() as session:
        while True:
            after = found[-1] if found else ""
            page = inventory.page(session, wanted or Wanted(), after=after, limit=limit)
            assert len(page) <= limit
            if not page:
                return found
            found += [row["id"] for row in page]


@pytest.mark.parametrize("limit", [1, 3, 4, 7, 100])
def test_paging_shows_each_device_once_in_order(database: Database, limit: int) -> None:
    add(database, 7)
    assert listed(database, limit=limit) == [f"d-{number:03d}" for number in range(7)]


def test_all_labels_asked_for_must_be_there(database: Database) -> None:
    add(database, 2, site="lyon", ring="canary")
    with database.transaction() as session:
        inventory.relabel(session, "d-001", {"site": "lyon"}, actor="token:op", now=NOW)
    assert listed(database, Wanted(labels={"site": "lyon"})) == ["d-000", "d-001"]
    assert listed(database, Wanted(labels={"site": "lyon", "ring": "canary"})) == ["d-000"]
    assert listed(database, Wanted(labels={"site": "paris"})) == []
    assert listed(database, Wanted(state=DeviceState.ERROR)) == []


def test_relabelling_replaces_and_is_written_down_once(database: Database) -> None:
    add(database, 1, site="lyon", old="yes")
    for _ in range(2):
        with database.transaction() as session:
            inventory.relabel(session, "d-000", {"site": "paris"}, actor="token:op", now=NOW)
    with database.reading() as session:
        assert inventory.show(session, "d-000")["labels"] == {"site": "paris"}
        records = session.exec(select(AuditRecord)).all()
    assert [record.tag for record in records] == ["operator:device:labelled"]


def test_a_removed_device_is_listed_no_more_and_its_page_stays(database: Database) -> None:
    add(database, 2)
    for _ in range(2):
        with database.transaction() as session:
            inventory.remove(session, "d-000", actor="token:op", now=NOW)
    assert listed(database) == ["d-001"]
    with database.reading() as session:
        assert inventory.show(session, "d-000")["revoked_at"] == NOW
        assert len(session.exec(select(AuditRecord)).all()) == 1


def test_removing_a_device_has_its_rollouts_looked_at(database: Database) -> None:
    add(database, 1)
    with database.transaction() as session:
        session.add(
            Rollout(
                id="r-1",
                name="n",
                model="m",
                release="1.0.0",
                alias="a",
                target={},
                context=256,
                state="RUNNING",
                max_in_progress=0,
                execution_timeout_s=60,
                created_at=NOW,
                created_by="token:op",
            )
        )
        session.flush()
        session.add(
            Execution(
                id="e-1",
                rollout_id="r-1",
                device_id="d-000",
                position=0,
                state="IN_PROGRESS",
                verdicts=[],
                created_at=NOW,
                updated_at=NOW,
            )
        )
    with database.transaction() as session:
        inventory.remove(session, "d-000", actor="token:op", now=NOW)
    with database.reading() as session:
        rollout = session.get(Rollout, "r-1")
        assert inventory.show(session, "d-000")["executions"][0]["rollout_id"] == "r-1"
    assert rollout is not None
    assert rollout.due_at == NOW


def test_a_device_that_is_not_there_is_not_found(database: Database) -> None:
    with database.reading() as session, pytest.raises(NotFoundError, match="nobody"):
        inventory.show(session, "nobody")


@pytest.mark.parametrize(
    "labels",
    [
        {"": "a"},
        {"a b": "c"},
        {"-a": "b"},
        {"a": ""},
        {"a": "x" * 129},
        {"a": "b=c"},
        {"a": "b\nc"},
        {"a": " b"},
        {"a" * 64: "b"},
        {f"k{number}": "v" for number in range(65)},
    ],
)
def test_labels_that_could_not_be_asked_for_are_refused(labels: dict[str, str]) -> None:
    with pytest.raises(RequestError) as refusal:
        inventory.check_labels(labels)
    assert refusal.value.code == "bad_label"


@given(st.lists(st.text(max_size=20), max_size=4))
def test_what_is_read_as_labels_may_be_set_as_labels(pairs: list[str]) -> None:
    try:
        labels = inventory.parse_labels(pairs)
    except RequestError:
        return
    inventory.check_labels(labels)
    assert inventory.parse_labels([f"{key}={value}" for key, value in labels.items()]) == labels
