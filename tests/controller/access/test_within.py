"""Lists that a database filters by a scope hold what the scope says of each row, on both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from simulators.any_access import FILTERS, SCOPES, SITES
from sprat_controller.access import scopes
from sprat_controller.access.scopes import Scope
from sprat_controller.fleet import enrolment
from sprat_controller.fleet.filters.fields import Facts
from sprat_controller.rollout import plan_store
from sprat_controller.rollout.plan_store import Kept
from sprat_controller.rollout.recurring.recurrences import Recurrences
from sprat_controller.rollout.requests import PlanRequest, Target, reach, target_json
from sprat_controller.rollout.strategy import ALL_AT_ONCE
from sprat_controller.store.session import Database
from sprat_controller.store.tables import EnrolmentToken, Recurrence, SavedPlan
from sqlalchemy import event
from sqlmodel import Session, delete

NOW: Final = datetime(2026, 11, 26, 12, tzinfo=UTC)
LYON: Final = scopes.read("site = lyon")
TARGETS = st.builds(
    Target,
    st.dictionaries(st.just("site"), st.sampled_from(SITES)),
    st.lists(st.sampled_from(["gw-1", "pump"]), max_size=2, unique=True).map(tuple),
    st.just("") | FILTERS,
    st.just("") | FILTERS,
)
TO_BE = st.builds(  # of a batch, which has no name, it is ''
    Facts,
    device=st.sampled_from(["", "gw-1", "gw-2", "pump"]),
    labels=st.dictionaries(
        st.sampled_from(["site", "ring", "floor/room.a"]),
        st.sampled_from([*SITES, "canary", "", "2*", "Lyon", 'a "b" é']),
    ),
    group=st.sampled_from(["kiosks", "default"]),
)
quick = settings(
    max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
KEPT = Kept("", PlanRequest("talk", "1.0.0", "a"), ALL_AT_ONCE, (), NOW, "user:ann")


def save(session: Session, targets: Sequence[Target]) -> None:
    for number, target in enumerate(targets):
        at = NOW + timedelta(seconds=number)
        plan = replace(KEPT.plan, target=target)
        plan_store.keep(session, replace(KEPT, id=f"p-{number:04d}", plan=plan, made_at=at))


def recurring(session: Session, targets: Sequence[Target]) -> None:
    for number, target in enumerate(targets):
        said: dict[str, Any] = {"model": "talk", "channel": "stable", "alias": "a", "context": 256}
        row = Recurrence(
            id=f"r-{number:04d}",
            name="nightly",
            cron="0 2 * * *",
            zone="UTC",
            target=target_json(target),
            reach=reach(target).cases,
            strategy={},
            created_at=NOW,
            created_by="user:ann",
            **said,
        )
        session.add(row)


def recurrences_of(database: Database, scope: Scope) -> Recurrences:
    return Recurrences(database, lambda: NOW, lambda: "", scope=scope)


@quick
@given(st.lists(TARGETS, max_size=6), SCOPES)
@example([Target(filter="site = lyon or site = lima")], "site = lima or site = lyon or group = k")
@example([Target(filter="(site = lyon or site = lima) and group = a")], "site = lyon")
@example([Target(scope=" or ".join(f"site = s{n}" for n in range(150)))], "site = s1")
@example([Target(devices=tuple(f"gw-{n}" for n in range(300)))], "device = gw-*")
@example([Target(), Target({"site": "o'\"{}[]"})], "site = 'o\\'\"{}[]'")
def test_plans_and_recurrences_are_listed_that_reach_nothing_else(
    any_database: Database, targets: list[Target], text: str
) -> None:
    scope = scopes.read(text)
    expected = [number for number, one in enumerate(targets) if scope.contains(reach(one))]
    with any_database.transaction() as session:
        for table in (SavedPlan, Recurrence):
            session.exec(delete(table))
        save(session, targets)
        recurring(session, targets)
        session.flush()
        found = plan_store.newest(session, NOW, 1000, scope)
        assert [one.id for one in found] == [f"p-{number:04d}" for number in reversed(expected)]
    listed = recurrences_of(any_database, scope).list()
    assert [one.id for one in listed] == [f"r-{number:04d}" for number in expected]


@quick
@given(st.lists(TO_BE, max_size=6), SCOPES | st.just("label.floor/room.a = 'a*' or site = 2*"))
@example([], "device = *")
def test_enrolment_tokens_are_listed_whose_devices_will_be_in_the_scope(
    any_database: Database, to_be: list[Facts], text: str
) -> None:
    scope = scopes.read(text)
    with any_database.transaction() as session:
        session.exec(delete(EnrolmentToken))
        expected: list[str] = []
        for number, facts in enumerate(to_be):
            kept = token(number, facts.device or None, dict(facts.labels), facts.group)
            session.add(kept)
            if scope.covers(facts) and (facts.device or not scope.asks_names):
                expected.append(kept.id)
        session.flush()
        found = enrolment.tokens(session, scope, after="", limit=100)
        assert [one.id for one in found] == expected


def token(
    number: int, device_id: str | None, labels: dict[str, str], group: str = "default"
) -> EnrolmentToken:
    return EnrolmentToken(
        id=f"t-{number:04d}",
        device_id=device_id,
        prefix=None if device_id else "kiosk",
        secret_sha256=f"{number:064x}",
        count=1,
        labels=labels,
        group=group,
        grace_days=1,
        created_at=NOW,
        created_by="user:ann",
        expires_at=NOW,
    )


def test_pages_are_full_and_no_more_is_read_than_is_answered(any_database: Database) -> None:
    everywhere = [Target({"site": SITES[number % 2]}) for number in range(20)]
    with any_database.transaction() as session:
        save(session, everywhere)
        recurring(session, everywhere)
        for number, target in enumerate(everywhere):
            session.add(token(number, f"gw-{number}", dict(target.labels)))
    read: list[object] = []

    def remember(row: object, _: object) -> None:
        read.append(row)

    for table in (EnrolmentToken, Recurrence):
        event.listen(table, "load", remember)
    try:
        assert len(recurrences_of(any_database, LYON).list()) == len(read) == 10
        read.clear()
        with any_database.reading() as session:
            after, seen = "", list[str]()
            for expected in (4, 4, 2):
                page = enrolment.tokens(session, LYON, after=after, limit=4)
                assert len(page) == expected
                seen += [one.id for one in page]
                after = seen[-1]
            assert seen == [f"t-{number:04d}" for number in range(0, 20, 2)]
            assert len(read) == len(seen)
            newest = plan_store.newest(session, NOW, 4, LYON)
            assert [one.id for one in newest] == ["p-0018", "p-0016", "p-0014", "p-0012"]
    finally:
        for table in (EnrolmentToken, Recurrence):
            event.remove(table, "load", remember)


@pytest.mark.parametrize("many", [2, 9, 30])
def test_cases_of_many_choices_stay_few(many: int) -> None:
    text = " and ".join(f"(site = a{n} or group = b{n})" for n in range(many))
    scope = scopes.read(text)
    assert len(scope.cases) <= 256
    assert scope.contains(scope)
    assert scope.contains(scope.narrowed(LYON))
    assert LYON.contains(scope.narrowed(LYON))
    assert not LYON.contains(scope)


def test_what_is_long_is_kept_short() -> None:
    names = tuple(f"gateway-{n}" for n in range(10_000))
    long = reach(Target(devices=names, filter="site = lyon or site = lima"))
    assert sum(len(text) for case in long.cases for text in case) < 1000
    assert scopes.read("site = lima or site = lyon").contains(long)
