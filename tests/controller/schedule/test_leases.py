from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from sprat_controller.schedule.leases import LENGTH, Lease, LeaseLostError, Leases
from sprat_controller.store.session import Database, sqlite_url
from sprat_controller.store.tables import UtcDateTime
from sqlalchemy import Column, Integer, MetaData, String, Table, insert, select, update

START = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
WORK = Table(
    "work",
    MetaData(),
    Column("id", String, primary_key=True),
    Column("due_at", UtcDateTime),
    Column("lease_owner", String),
    Column("lease_number", Integer, nullable=False, server_default="0"),
    Column("lease_until", UtcDateTime),
)


class Shop:
    """A table with work, and controllers whose clock the test moves."""

    def __init__(self, database: Database, rows: int = 1) -> None:
        self.database = database
        self.now = START
        WORK.create(database.engine)
        due = [
            {"id": f"row-{number}", "due_at": START + timedelta(microseconds=number)}
            for number in range(rows)
        ]
        with database.transaction() as session:
            session.connection().execute(insert(WORK), due)

    def controller(self, name: str) -> Leases:
        return Leases(self.database, WORK, name, lambda: self.now)

    def claim(self, leases: Leases) -> Lease:
        lease = leases.claim(self.now + timedelta(seconds=1))
        assert lease is not None
        return lease

    def is_held(self, leases: Leases, lease: Lease) -> bool:
        try:
            with self.database.transaction() as session:
                leases.hold(session, lease)
        except LeaseLostError:
            return False
        return True


@pytest.fixture
def shop(any_database: Database) -> Shop:
    return Shop(any_database)


def test_what_one_works_on_is_left_alone_by_others(shop: Shop) -> None:
    one, two = shop.controller("one"), shop.controller("two")
    assert shop.claim(one) == Lease("row-0", 1)
    assert two.claim(shop.now) is None
    assert one.claim(shop.now) is None
    assert two.next_take_over(shop.now) == START + LENGTH
    assert one.next_take_over(shop.now) is None


def test_what_nobody_works_on_any_more_is_taken_over_and_the_first_is_shut_out(shop: Shop) -> None:
    one, two = shop.controller("one"), shop.controller("two")
    first = shop.claim(one)
    shop.now += LENGTH
    second = shop.claim(two)
    assert second == Lease("row-0", 2)
    assert not shop.is_held(one, first)
    assert shop.is_held(two, second)


def test_each_decision_extends_the_lease(shop: Shop) -> None:
    one, two = shop.controller("one"), shop.controller("two")
    lease = shop.claim(one)
    for _ in range(5):
        shop.now += LENGTH * 0.9
        assert shop.is_held(one, lease)
        assert two.claim(shop.now) is None


def test_a_lease_that_ran_out_still_counts_while_nobody_took_over(shop: Shop) -> None:
    one = shop.controller("one")
    lease = shop.claim(one)
    shop.now += 10 * LENGTH
    assert shop.is_held(one, lease)


def test_what_is_given_back_is_free_at_once(shop: Shop) -> None:
    one, two = shop.controller("one"), shop.controller("two")
    lease = shop.claim(one)
    with shop.database.transaction() as session:
        one.give_back(session, lease)
    assert shop.claim(two).number == 2
    # Who lost it gives nothing back that is another's.
    with shop.database.transaction() as session:
        one.give_back(session, lease)
    assert one.claim(shop.now) is None


def test_a_process_of_the_same_name_goes_on_at_once(shop: Shop) -> None:
    killed = shop.claim(shop.controller("one"))
    again = shop.controller("one")
    again.forget_own()
    assert shop.claim(again).number == killed.number + 1
    assert not shop.is_held(again, killed)


def test_a_lease_is_lost_with_the_transaction_that_was_to_extend_it(shop: Shop) -> None:
    one, two = shop.controller("one"), shop.controller("two")
    lease = shop.claim(one)
    shop.now += LENGTH * 0.9

    def fail() -> None:
        with shop.database.transaction() as session:
            one.hold(session, lease)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    shop.now += LENGTH * 0.1
    assert shop.claim(two).number == 2


def test_what_is_not_due_is_not_claimed(shop: Shop) -> None:
    assert shop.controller("one").claim(START - timedelta(seconds=1)) is None


def test_work_goes_in_order_and_past_what_fails(
    any_database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    shop, worked = Shop(any_database, 3), list[str]()
    one = shop.controller("one")

    def work(lease: Lease) -> None:
        worked.append(lease.id)
        if lease.id == "row-1":
            raise ZeroDivisionError
        with shop.database.transaction() as session:
            one.hold(session, lease)
            session.connection().execute(
                update(WORK).where(WORK.c.id == lease.id).values(due_at=None)
            )
            one.give_back(session, lease)

    with caplog.at_level(logging.ERROR):
        assert one.work_on_due(START + timedelta(seconds=1), work) is None
    assert worked == ["row-0", "row-1", "row-2"]
    assert "work row-1 could not be brought forward" in caplog.text
    # Free at once, for whoever comes next.
    assert shop.claim(shop.controller("two")) == Lease("row-1", 2)


def test_who_lost_a_lease_says_so_and_goes_on(
    any_database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    shop = Shop(any_database, 2)
    one, two = shop.controller("one"), shop.controller("two")

    def freeze(lease: Lease) -> None:
        if lease.id == "row-0":
            shop.now += LENGTH
            assert shop.claim(two).id == "row-0"
        with shop.database.transaction() as session:
            one.hold(session, lease)
            one.give_back(session, lease)

    with caplog.at_level(logging.WARNING):
        ends = one.work_on_due(START + timedelta(milliseconds=1), freeze)
    assert "another controller took over from one" in caplog.text
    assert ends == shop.now + LENGTH


def test_many_at_once_claim_each_row_once(any_database: Database) -> None:
    shop = Shop(any_database, 60)

    def claim_all(name: str) -> list[Lease]:
        leases, claimed = shop.controller(name), list[Lease]()
        while (lease := leases.claim(START + timedelta(seconds=1))) is not None:
            claimed.append(lease)
        return claimed

    with ThreadPoolExecutor(6) as pool:
        all_claimed = list(pool.map(claim_all, [f"controller-{number}" for number in range(6)]))
    flat = [lease for claimed in all_claimed for lease in claimed]
    assert sorted(lease.id for lease in flat) == sorted(f"row-{n}" for n in range(60))
    assert {lease.number for lease in flat} == {1}


class Replicas(RuleBasedStateMachine):
    """Controllers that claim, freeze, wake up and decide in any order, by clocks that differ."""

    names = st.sampled_from(["one", "two", "three"])

    def __init__(self) -> None:
        super().__init__()
        self._folder = TemporaryDirectory()
        self._database = Database(sqlite_url(Path(self._folder.name) / "work.db"))
        self._shop = Shop(self._database, 2)
        self._skews = {"one": -3, "two": 0, "three": 3}
        self._held: dict[str, Lease] = {}
        # By row: the newest claim that anybody made, in the order in which it happened.
        self._newest: dict[str, tuple[str, int]] = {}

    def _leases(self, name: str) -> Leases:
        skew = timedelta(seconds=self._skews[name])
        return Leases(self._database, WORK, name, lambda: self._shop.now + skew)

    @rule(name=names)
    def claim(self, name: str) -> None:
        lease = self._leases(name).claim(START + timedelta(hours=1))
        if lease is not None:
            self._held[name] = lease
            before = self._newest.get(lease.id, ("", 0))[1]
            assert lease.number == before + 1
            self._newest[lease.id] = (name, lease.number)

    @rule(name=names)
    def decide(self, name: str) -> None:
        """Carry something out under whatever lease there is, however old."""
        lease = self._held.get(name)
        if lease is not None:
            may = self._shop.is_held(self._leases(name), lease)
            assert may == (self._newest[lease.id] == (name, lease.number))

    @rule(milliseconds=st.integers(0, 4000))
    def time_passes(self, milliseconds: int) -> None:
        self._shop.now += timedelta(milliseconds=milliseconds)

    @invariant()
    def a_row_is_held_by_the_last_who_claimed_it(self) -> None:
        with self._database.reading() as session:
            rows = session.connection().execute(select(WORK)).all()
        for row in rows:
            if row.lease_owner is not None:
                assert (row.lease_owner, row.lease_number) == self._newest[row.id]

    def teardown(self) -> None:
        self._database.close()
        self._folder.cleanup()


Replicas.TestCase.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
TestReplicas = Replicas.TestCase
