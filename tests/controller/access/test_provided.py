"""Roles by a provider's groups: given as a whole, for as long as somebody is signed in."""

from __future__ import annotations

import itertools
import json
from datetime import UTC, datetime, timedelta

import pytest
from sprat_controller.access import (
    grants,
    identities,
    local_users,
    provided,
    sessions,
    snapshot,
    subjects,
)
from sprat_controller.access.actor import Actor, SubjectKind
from sprat_controller.access.oidc.mapping import Given
from sprat_controller.access.policy import Permission
from sprat_controller.access.scopes import EVERYTHING
from sprat_controller.access.sessions import Begun, Kind
from sprat_controller.access.snapshot import Policies
from sprat_controller.errors import ConflictError, DeniedError, RequestError
from sprat_controller.store.session import Database
from sprat_controller.store.tables import AuditRecord, LoginSession
from sprat_proto.audit_events import Tag
from sqlmodel import Session, col, select

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
ISSUER = "https://id.example"
HOUR = timedelta(hours=1)
VIEWER, OPERATOR = Given("viewer"), Given("operator", "site = lyon")


class People:
    """A database with an administrator of here, and people of a provider."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.policies = Policies()
        ids = itertools.count(1)
        self.new_id = lambda: f"id-{next(ids):04d}"
        with database.transaction() as session:
            subjects.create(
                session, SubjectKind.USER, "root", owner=None, actor="controller", now=NOW
            )
            wanted = grants.Wanted("user:root", "admin", EVERYTHING)
            grants.grant(session, wanted, actor=None, now=NOW, binding_id="root")
            self.ann = identities.add(session, ISSUER, "ann-7", "ann", NOW).subject_id

    def give(self, *given: Given, now: datetime = NOW, hours: int = 1) -> None:
        with self.database.transaction() as session:
            ends_at = now + hours * HOUR
            provided.replace(session, self.ann, given, now=now, ends_at=ends_at, new_id=self.new_id)

    def begin(self, now: datetime = NOW, hours: int = 1) -> LoginSession:
        with self.database.transaction() as session:
            begun = Begun(self.ann, Kind.BEARER, provided.AUTHN, "test", hours * HOUR)
            row, _ = sessions.begin(
                session, begun, now=now, new_id=self.new_id, new_secret=lambda: self.new_id() * 5
            )
            return row

    def end(self, row: LoginSession, now: datetime = NOW) -> None:
        with self.database.transaction() as session:
            sessions.end(session, sessions.find(session, row.id), actor="user:root", now=now)

    def held(self, now: datetime = NOW) -> set[str]:
        with self.database.reading() as session:
            policy = self.policies.current(session, now)
        return {one.said for one in policy.bindings_of(self.ann)}

    def root(self, session: Session) -> Actor:
        return Actor("user:root", snapshot.load(session, NOW))


@pytest.fixture
def people(any_database: Database) -> People:
    return People(any_database)


def test_what_groups_give_is_held_until_its_end_and_not_a_moment_longer(people: People) -> None:
    people.give(VIEWER, OPERATOR)
    assert people.held() == {"viewer over everything", "operator over site = lyon"}
    assert people.held(NOW + HOUR - timedelta(seconds=1)) != set()
    assert people.held(NOW + HOUR) == set()  # of the policy that was kept, too
    with people.database.reading() as session:
        assert provided.every(session, NOW + HOUR) == []


def test_each_sign_in_gives_as_a_whole(people: People) -> None:
    people.give(VIEWER, OPERATOR)
    people.give(VIEWER, hours=2)
    assert people.held() == {"viewer over everything"}
    assert people.held(NOW + HOUR) == {"viewer over everything"}
    people.give()
    assert people.held() == set()


def test_what_ends_with_the_last_session_is_gone_and_stands_in_the_log(people: People) -> None:
    first, second = people.begin(), people.begin(hours=2)
    people.give(VIEWER, hours=2)
    people.end(second)
    assert people.held() == {"viewer over everything"}
    assert people.held(NOW + HOUR) == set()
    people.end(first)
    assert people.held() == set()
    with people.database.reading() as session:
        said = select(AuditRecord).where(AuditRecord.tag == "provider:role:given")
        records = session.exec(said.order_by(col(AuditRecord.seq))).all()
    assert [b'"after":["viewer over everything"]' in one.body for one in records] == [
        *(True, True),  # the second: until the first session's end
        False,
    ]
    assert b'"before":["viewer over everything"]' in records[1].body


def test_what_groups_give_is_not_what_keeps_a_controller_from_losing_all(people: People) -> None:
    people.give(Given("admin"))
    with people.database.transaction() as session:
        root = people.root(session)
        with pytest.raises(ConflictError, match="admin over everything"):
            subjects.disable(session, "user:root", actor=root, now=NOW)


def test_an_administrator_by_groups_gives_what_they_hold_and_no_longer_than_they_do(
    people: People,
) -> None:
    people.give(Given("admin"))
    with people.database.transaction() as session:
        ann = Actor(people.ann, snapshot.load(session, NOW))
        wanted = grants.Wanted("user:root", "viewer", EVERYTHING)
        grants.grant(session, wanted, actor=ann, now=NOW, binding_id="b")
        late = grants.Wanted("user:root", "auditor", EVERYTHING)
        with pytest.raises(DeniedError) as caught:
            grants.grant(session, late, actor=ann, now=NOW + HOUR, binding_id="c")
        assert caught.value.code == "cannot_grant"


def test_who_has_more_by_groups_is_not_disabled_by_who_has_less(people: People) -> None:
    people.give(Given("admin"))
    with people.database.transaction() as session:
        subjects.create(session, SubjectKind.USER, "hr", owner=None, actor="test", now=NOW)
        from_table = snapshot.load(session, NOW)
        hr = Actor("user:hr", from_table)
        assert hr.held(Permission.MANAGE_USERS) is None
        with pytest.raises(DeniedError):
            subjects.disable(session, people.ann, actor=hr, now=NOW)
        subjects.disable(session, people.ann, actor=people.root(session), now=NOW)
    assert people.held() == set()


def test_nobody_sets_a_password_of_whom_a_provider_knows(people: People) -> None:
    with people.database.transaction() as session:
        ann = subjects.find(session, people.ann)
        with pytest.raises(RequestError) as caught:
            local_users.set_password(
                session, ann, "x", by="user:root", keep="", now=NOW, row_id="p"
            )
    assert caught.value.code == "not_a_local_user"


def test_nobody_is_taken_for_a_subject_that_was_made_by_hand(people: People) -> None:
    name = identities.name_of(ISSUER, "bob-8")
    with people.database.transaction() as session:
        subjects.create(session, SubjectKind.USER, name, owner=None, actor="test", now=NOW)
        with pytest.raises(ConflictError):
            identities.add(session, ISSUER, "bob-8", "bob", NOW)


def test_the_same_name_at_another_issuer_is_somebody_else(people: People) -> None:
    with people.database.transaction() as session:
        other = identities.add(session, "https://other.example", "ann-7", "ann", NOW)
        assert other.subject_id != people.ann
        assert identities.find(session, ISSUER, "ann-7") is not None
        assert identities.find(session, ISSUER, "ANN-7") is None


def said(people: People) -> list[dict[str, object]]:
    """Return what the log says of roles by a provider."""
    with people.database.reading() as session:
        wanted = select(AuditRecord.body).where(AuditRecord.tag == Tag.ROLES_PROVIDED.value)
        rows = session.exec(wanted.order_by(col(AuditRecord.seq))).all()
    return [json.loads(body)["detail"] for body in rows]


def test_the_log_says_until_when_they_hold_and_when_that_is_cut_short(people: People) -> None:
    short, long = people.begin(hours=1), people.begin(hours=8)
    people.give(VIEWER, hours=8)
    name, until = "viewer over everything", (NOW + 8 * HOUR).isoformat()
    assert said(people) == [{"before": [], "after": [name], "until": until}]
    people.end(long)
    sooner = {"before": [name], "after": [name], "until": (NOW + HOUR).isoformat()}
    assert said(people)[1:] == [sooner]
    people.end(short)
    assert said(people)[2:] == [{"before": [name], "after": []}]


def test_an_end_that_cuts_nothing_short_is_not_said(people: People) -> None:
    short, _ = people.begin(hours=1), people.begin(hours=8)
    people.give(VIEWER, hours=8)
    people.end(short)
    assert len(said(people)) == 1
