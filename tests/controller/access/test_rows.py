"""Subjects, roles, bindings and tokens as rows, on both databases."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import pytest
from sprat_controller.access import grants, persons, roles, snapshot, subjects, tokens
from sprat_controller.access.actor import Actor, SubjectKind
from sprat_controller.access.policy import GRANTS, Permission
from sprat_controller.access.scopes import EVERYTHING, read
from sprat_controller.access.snapshot import Policies
from sprat_controller.errors import ConflictError, DeniedError, RequestError
from sprat_controller.store.session import Database
from sprat_controller.store.tables import OperatorToken
from sqlmodel import Session

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


class Rows:
    """A database with an administrator."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.policies = Policies()
        self.ids = itertools.count(1)
        with database.transaction() as session:
            self.add(session, "root", "admin")

    def add(
        self,
        session: Session,
        name: str,
        role: str,
        scope: str = "",
        *,
        owner: str | None = None,
    ) -> str:
        kind = SubjectKind.SERVICE if owner else SubjectKind.USER
        row = subjects.create(session, kind, name, owner=owner, actor="controller", now=NOW)
        wanted = grants.Wanted(row.id, role, read(scope))
        grants.grant(session, wanted, actor=None, now=NOW, binding_id=f"b-{next(self.ids)}")
        return row.id

    def actor(self, session: Session, name: str = "root") -> Actor:
        return Actor(subjects.find(session, name).id, snapshot.load(session))

    def token(self, session: Session, subject: str, made_by: Actor | None = None) -> str:
        number = next(self.ids)
        _, text = tokens.mint(
            session,
            tokens.Wanted(subject, f"t-{number}", "viewer"),
            made_by=made_by,
            now=NOW,
            new_id=lambda: f"t-{number}",
            new_secret=lambda: f"{number:043d}",
        )
        return text

    def who(self, text: str, now: datetime = NOW) -> Actor | None:
        return tokens.recognise(self.database, self.policies, text, now)


@pytest.fixture
def rows(any_database: Database) -> Rows:
    return Rows(any_database)


def test_a_token_is_known_and_its_use_is_noted(rows: Rows) -> None:
    with rows.database.transaction() as session:
        text = rows.token(session, rows.add(session, "ann", "viewer", "site = lyon"))
    actor = rows.who(text)
    assert actor is not None
    assert actor.scope(Permission.READ_FLEET).text == "site = lyon"
    with rows.database.reading() as session:
        assert session.get_one(OperatorToken, actor.session).last_used_at == NOW
    assert rows.who(text, NOW + timedelta(days=90)) is None


def test_the_policy_is_read_anew_exactly_when_something_changed(rows: Rows) -> None:
    with rows.database.reading() as session:
        first = rows.policies.current(session)
        assert rows.policies.current(session) is first
    with rows.database.transaction() as session:
        rows.add(session, "ann", "viewer")
    with rows.database.reading() as session:
        second = rows.policies.current(session)
    assert second is not first
    assert second.decide("user:ann", Permission.READ_FLEET).allowed


def test_a_change_that_is_given_up_changes_nothing(rows: Rows) -> None:
    with rows.database.reading() as session:
        first = rows.policies.current(session)

    def twice() -> None:
        with rows.database.transaction() as session:
            rows.add(session, "ann", "viewer")
            rows.add(session, "ann", "viewer")

    with pytest.raises(ConflictError):
        twice()
    with rows.database.reading() as session:
        assert rows.policies.current(session) is first


def test_a_role_that_was_widened_meanwhile_is_not_given_by_who_lacks_it(rows: Rows) -> None:
    with rows.database.transaction() as session:
        rows.add(session, "ann", "viewer")
        root = rows.actor(session)
        narrow = {Permission.MANAGE_USERS}
        roles.create(session, "night", narrow, actor=root, now=NOW)
        wanted = grants.Wanted("ann", "night", EVERYTHING)
        grants.grant(session, wanted, actor=None, now=NOW, binding_id="b-night")
        stale = rows.actor(session, "ann")
        wide = {Permission.MANAGE_USERS, Permission.PUBLISH}
        roles.create(session, "other", narrow, actor=root, now=NOW)
        roles.change(session, "other", wide, actor=root, now=NOW)
        with pytest.raises(DeniedError, match="release:publish"):
            grants.grant(
                session,
                grants.Wanted("ann", "other", EVERYTHING),
                actor=stale,
                now=NOW,
                binding_id="b-x",
            )


def test_a_scope_that_grew_too_long_is_refused_whole(rows: Rows) -> None:
    long = " or ".join(f"label.k{number} = {'v' * 20}" for number in range(100))
    other = " or ".join(f"label.q{number} = {'w' * 20}" for number in range(100))
    with rows.database.transaction() as session:
        rows.add(session, "ann", "viewer", long)
        rows.add(session, "bob", "viewer")
        ann = rows.actor(session, "ann")
        with pytest.raises(RequestError):
            grants.grant(
                session,
                grants.Wanted("bob", "viewer", read(other)),
                actor=ann,
                now=NOW,
                binding_id="b-x",
            )


def test_the_person_behind_a_service_is_who_it_acts_for(rows: Rows) -> None:
    with rows.database.transaction() as session:
        ann = rows.add(session, "ann", "operator")
        robot = rows.add(session, "robot", "operator", owner=ann)
        bob = rows.add(session, "bob", "approver")
        assert persons.person(session, robot) == ann
        assert persons.person(session, "schedule") == "schedule"
        assert persons.may_be_one(session, robot, ann, NOW)
        assert not persons.may_be_one(session, robot, bob, NOW)
        rows.token(session, bob, made_by=rows.actor(session, "ann"))
        session.flush()
        assert persons.may_be_one(session, robot, bob, NOW)
        assert persons.disabled(session, [ann, robot, bob, "planner"]) == set()
        subjects.disable(session, "ann", actor=rows.actor(session), now=NOW)
        assert persons.disabled(session, [ann, robot, bob]) == {ann, robot}


def test_who_made_a_token_that_was_revoked_before_is_nobody(rows: Rows) -> None:
    with rows.database.transaction() as session:
        ann, bob = (rows.add(session, name, "operator") for name in ("ann", "bob"))
        text = rows.token(session, bob, made_by=rows.actor(session, "ann"))
        session.flush()
    made = rows.who(text)
    assert made is not None
    with rows.database.transaction() as session:
        tokens.revoke(session, made.session, actor="user:bob", now=NOW)
    with rows.database.reading() as session:
        assert persons.may_be_one(session, ann, bob, NOW)
        assert not persons.may_be_one(session, ann, bob, NOW + timedelta(seconds=1))


def test_roles_are_listed_changed_and_removed(rows: Rows) -> None:
    with rows.database.transaction() as session:
        root = rows.actor(session)
        roles.create(session, "night", {Permission.READ_FLEET}, actor=root, now=NOW)
        assert [row.name for row in roles.every(session)] == ["night"]
        with pytest.raises(RequestError, match="at least one permission"):
            roles.change(session, "night", set(), actor=root, now=NOW)
        roles.remove(session, "night", actor=root, now=NOW)
        assert roles.every(session) == []
    assert set(GRANTS) == {"viewer", "operator", "approver", "publisher", "auditor", "admin"}
