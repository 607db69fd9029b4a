"""Subjects, roles, bindings and tokens as rows, on both databases."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import pytest
from sprat_controller.access import grants, persons, provided, roles, snapshot, subjects, tokens
from sprat_controller.access.actor import Actor, SubjectKind
from sprat_controller.access.oidc.mapping import Given
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
        return Actor(subjects.find(session, name).id, snapshot.load(session, NOW))

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
        first = rows.policies.current(session, NOW)
        assert rows.policies.current(session, NOW) is first
    with rows.database.transaction() as session:
        rows.add(session, "ann", "viewer")
    with rows.database.reading() as session:
        second = rows.policies.current(session, NOW)
    assert second is not first
    assert second.decide("user:ann", Permission.READ_FLEET).allowed


def test_a_change_that_is_given_up_changes_nothing(rows: Rows) -> None:
    with rows.database.reading() as session:
        first = rows.policies.current(session, NOW)

    def twice() -> None:
        with rows.database.transaction() as session:
            rows.add(session, "ann", "viewer")
            rows.add(session, "ann", "viewer")

    with pytest.raises(ConflictError):
        twice()
    with rows.database.reading() as session:
        assert rows.policies.current(session, NOW) is first


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


def test_who_is_disabled_has_nothing_in_the_policy_that_is_kept_either(rows: Rows) -> None:
    def held() -> list[bool]:
        with rows.database.reading() as session:
            policy = rows.policies.current(session, NOW)
        return [policy.decide(who, Permission.READ_FLEET).allowed for who in (ann, service)]

    with rows.database.transaction() as session:
        ann = rows.add(session, "ann", "viewer")
        service = rows.add(session, "ci", "viewer", owner=ann)
    assert held() == [True, True]
    for change, expected in ((subjects.disable, False), (subjects.enable, True)):
        with rows.database.transaction() as session:
            change(session, ann, actor=rows.actor(session), now=NOW)
        assert held() == [expected, expected]


def provide(rows: Rows, session: Session, subject: str, role: str) -> None:
    """Give a role by groups at a provider, for an hour."""
    ends_at = NOW + timedelta(hours=1)
    given = [Given(role, "")]
    provided.replace(
        session, subject, given, now=NOW, ends_at=ends_at, new_id=lambda: f"p-{next(rows.ids)}"
    )


def test_what_groups_give_is_held_like_all_else(rows: Rows) -> None:
    with rows.database.transaction() as session:
        rows.add(session, "ann", "viewer")
        bob = rows.add(session, "bob", "viewer")
        subjects.check_reach(session, bob, rows.actor(session, "ann"), NOW)
        provide(rows, session, bob, "operator")
        with pytest.raises(DeniedError, match="does not hold"):
            subjects.disable(session, bob, actor=rows.actor(session, "ann"), now=NOW)
        # When it is over, it is nothing to be held any more.
        later = NOW + timedelta(hours=2)
        subjects.disable(session, bob, actor=rows.actor(session, "ann"), now=later)


@pytest.mark.parametrize("how", ["binding", "token", "groups"])
def test_a_role_that_somebody_has_in_any_way_is_not_removed(rows: Rows, how: str) -> None:
    with rows.database.transaction() as session:
        root = rows.actor(session)
        roles.create(session, "night", [Permission.READ_FLEET], actor=root, now=NOW)
        bob = rows.add(session, "bob", "night" if how == "binding" else "viewer")
        if how == "token":
            tokens.mint(
                session,
                tokens.Wanted(bob, "t", "night"),
                made_by=None,
                now=NOW,
                new_id=lambda: "t-night",
                new_secret=lambda: "a" * 43,
            )
        if how == "groups":
            provide(rows, session, bob, "night")
        with pytest.raises(ConflictError, match="user:bob has the role night"):
            roles.remove(session, "night", actor=root, now=NOW)
        later = NOW + timedelta(hours=2)
        if how == "groups":
            roles.remove(session, "night", actor=root, now=later)
        if how == "token":
            tokens.revoke(session, "t-night", actor="user:root", now=NOW)
            roles.remove(session, "night", actor=root, now=NOW)


def test_nobody_takes_out_of_a_role_what_they_do_not_hold(rows: Rows) -> None:
    night = [Permission.READ_FLEET, Permission.ROLL_OUT]
    with rows.database.transaction() as session:
        root = rows.actor(session)
        roles.create(session, "night", night, actor=root, now=NOW)
        less = [Permission.MANAGE_ROLES, Permission.READ_FLEET]
        roles.create(session, "maker", less, actor=root, now=NOW)
        rows.add(session, "ann", "maker")
        ann = rows.actor(session, "ann")
        with pytest.raises(DeniedError, match="does not hold rollouts:change"):
            roles.change(session, "night", [Permission.READ_FLEET], actor=ann, now=NOW)
        roles.change(session, "night", [Permission.READ_FLEET], actor=root, now=NOW)
        roles.change(session, "night", less, actor=ann, now=NOW)
