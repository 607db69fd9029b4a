"""The ways in and out as rows, on both databases, and by two controllers of the same rows."""

from __future__ import annotations

import itertools
from datetime import timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from simulators.openid_provider import write_configuration
from simulators.scripted_provider import ScriptedProvider
from simulators.token_maker import ISSUER, NOW
from sprat_controller.access import identities, provided, sessions, subjects
from sprat_controller.access.actor import SubjectKind
from sprat_controller.access.oidc import browser, configuration, device, logout
from sprat_controller.access.oidc.browser import CameIn, Returned
from sprat_controller.access.oidc.desk import Coming, Desk
from sprat_controller.access.oidc.device import Waiting
from sprat_controller.access.oidc.provider import Provider
from sprat_controller.access.sessions import Kind
from sprat_controller.access.snapshot import Policies
from sprat_controller.audit.denials import Denials
from sprat_controller.errors import ConflictError, DeniedError, RequestError
from sprat_controller.ids import new_secret
from sprat_controller.store.session import Database
from sprat_controller.store.tables import AuditRecord, LoginSession, OidcAttempt, OidcLogout
from sqlmodel import Session, col, select

COMING = Coming(Kind.BEARER, "192.0.2.7", NOW)
SOON = Coming(Kind.BEARER, "192.0.2.7", NOW + timedelta(seconds=5))


class Ways:
    """Two controllers over one database, and the provider."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database = database
        self.provider = ScriptedProvider(lambda: NOW)
        file = write_configuration(folder, ISSUER, "https://ctl.example:7770")
        ids = itertools.count(1)
        self.desks = [
            Desk(
                Provider(configuration.load(file), self.provider.transport),
                database,
                Denials(database),
                lambda: f"id-{next(ids):06d}",
                new_secret,
            )
            for _ in range(2)
        ]

    def sent(self) -> Returned:
        """Send a browser away, and return what it comes back with."""
        sent = browser.begin(self.desks[0], "/docs", NOW)
        asked = parse_qs(urlsplit(sent.url).query)
        self.provider.nonce = asked["nonce"][0]
        return Returned(asked["state"][0], "code", "", "", sent.secret)

    def came_in(self) -> CameIn:
        return browser.come_back(self.desks[1], self.sent(), COMING)

    def records(self, session: Session, tag: str) -> list[AuditRecord]:
        found = select(AuditRecord).where(col(AuditRecord.tag) == tag)
        return list(session.exec(found.order_by(col(AuditRecord.seq))))


@pytest.fixture
def ways(any_database: Database, tmp_path: Path) -> Ways:
    return Ways(any_database, tmp_path)


def test_any_controller_takes_a_browser_back_and_only_one_does(ways: Ways) -> None:
    returned = ways.sent()
    came_in = browser.come_back(ways.desks[1], returned, COMING)
    assert came_in.next_path == "/docs"
    for desk in ways.desks:
        with pytest.raises(RequestError):
            browser.come_back(desk, returned, COMING)
    policies = Policies()
    actor = sessions.recognise(ways.database, policies, came_in.secret, Kind.BEARER, NOW)
    assert actor is not None
    assert actor.subject == came_in.session.subject_id
    assert [one.role for one in actor.policy.bindings_of(actor.subject)] == ["viewer"]


def test_attempts_that_are_over_are_not_kept(ways: Ways) -> None:
    for _ in range(3):
        ways.sent()
    browser.begin(ways.desks[0], "/docs", NOW + browser.LIFETIME)
    with ways.database.reading() as session:
        assert len(session.exec(select(OidcAttempt)).all()) == 1


def test_a_sign_in_is_one_transaction_with_its_records(ways: Ways) -> None:
    came_in = ways.came_in()
    with ways.database.reading() as session:
        (begun,) = ways.records(session, "operator:session:begun")
        (given,) = ways.records(session, "provider:role:given")
        (created,) = ways.records(session, "operator:user:created")
    assert created.actor == "provider"
    assert given.subject == f"subject/{came_in.session.subject_id}"
    assert b'"after":["viewer over everything"]' in given.body
    assert b'"authn":"oidc"' in begun.body
    for record in (begun, given, created):
        assert b"ann" not in record.body
        assert b"watchers" not in record.body


def test_a_device_asks_at_any_controller(ways: Ways) -> None:
    begun = device.begin(ways.desks[0], NOW)
    ways.provider.device_errors = ["authorization_pending"]
    first, second = ways.desks
    assert isinstance(device.ask(second, begun.handle, COMING), Waiting)
    assert isinstance(device.ask(first, begun.handle, SOON), Waiting)
    # The turn of this moment was taken, at whichever it is asked.
    assert isinstance(device.ask(second, begun.handle, SOON), Waiting)
    assert ways.provider.paths.count("/token") == 1
    later = Coming(Kind.BEARER, "192.0.2.7", SOON.now + timedelta(seconds=5))
    found = device.ask(second, begun.handle, later)
    assert not isinstance(found, Waiting)
    with pytest.raises(RequestError):
        device.ask(first, begun.handle, later)


def test_a_logout_ends_what_another_controller_began_and_counts_once_at_all(ways: Ways) -> None:
    came_in = ways.came_in()
    token = ways.provider.logout_token(sub="ann-7", sid="sid-1")
    assert logout.sign_out(ways.desks[0], token, "192.0.2.9", NOW) == 1
    assert sessions.recognise(ways.database, Policies(), came_in.secret, Kind.BEARER, NOW) is None
    with pytest.raises(RequestError):
        logout.sign_out(ways.desks[1], token, "192.0.2.9", NOW)
    with ways.database.reading() as session:
        assert provided.every(session, NOW) == []
        (noted,) = session.exec(select(OidcLogout)).all()
        assert noted.ends_at > NOW + timedelta(minutes=5)


def test_a_session_of_a_password_is_not_the_providers_to_end(ways: Ways) -> None:
    ways.came_in()
    with ways.database.transaction() as session:
        row = session.exec(select(LoginSession)).one()
        row.authn = "password"
        session.add(row)
    token = ways.provider.logout_token(sub="ann-7")
    assert logout.sign_out(ways.desks[0], token, "192.0.2.9", NOW) == 0


def test_a_name_that_was_made_by_hand_lets_nobody_in(ways: Ways) -> None:
    with ways.database.transaction() as session:
        name = identities.name_of(ISSUER, "ann-7")
        subjects.create(session, SubjectKind.USER, name, owner=None, actor="test", now=NOW)
    with pytest.raises(ConflictError):
        ways.came_in()
    with ways.database.reading() as session:
        (refused,) = ways.records(session, "provider:login:refused")
        assert b'"reason":"name_taken"' in refused.body
        assert ways.records(session, "operator:session:begun") == []


def test_who_lost_all_groups_loses_their_sessions_with_their_next_try(ways: Ways) -> None:
    before = ways.came_in()
    ways.provider.claims["groups"] = []
    with pytest.raises(DeniedError):
        ways.came_in()
    assert sessions.recognise(ways.database, Policies(), before.secret, Kind.BEARER, NOW) is None
    with ways.database.reading() as session:
        assert provided.every(session, NOW) == []
