"""What is taken away at one controller is gone at another with the next request, and mid-answer."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from simulators.api_fleet import enrol
from simulators.http_world import HOST, START, Client, HttpWorld, error_of
from simulators.sealed import batch_of, sealed
from simulators.two_sites import made
from sprat_controller.access import lockout
from sprat_controller.access.actor import SubjectKind
from sprat_controller.api.auth import COOKIE
from sprat_controller.audit import device_exporting, export, exporting
from sprat_controller.audit.expiring import Expiring
from sprat_controller.store.session import Database
from sprat_controller.store.tables import AuditRecord, Device, DeviceAuditRecord
from sprat_proto import merkle
from sqlmodel import col, select

V1 = "/api/v1"
WITHIN_S = 5.0
GOOD = "seven herons at low tide"


@dataclass
class Two:
    """Two controllers over one database, and somebody who is known at both."""

    here: HttpWorld
    there: HttpWorld
    token: str = ""  # of ann, who may do what the role `reader` allows
    session: str = ""  # hers
    ids: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def admin(self) -> Client:
        """The administrator, here."""
        return self.here.client()

    def ann(self, how: str = "token") -> Client:
        """Ann, there."""
        return self.there.client_of(self.token if how == "token" else self.session)


@pytest.fixture
async def two(any_world: HttpWorld, any_database: Database) -> Any:
    """Ann, with a token and a session, and a service that acts for her."""
    other = Database(any_database.engine.url.render_as_string(hide_password=False))
    both = Two(any_world, any_world.replica(other))
    admin = both.admin
    made(await admin.post("roles", {"name": "reader", "permissions": ["audit:read"]}))
    made(await admin.post("users", {"name": "ann"}))
    grant = {"subject": "ann", "role": "reader"}
    both.ids["binding"] = made(await admin.post("bindings", grant))["id"]
    body = {"name": "hers", "role": "reader", "subject": "ann"}
    token = made(await admin.post("tokens", body))
    both.token, both.ids["token"] = token["token"], token["id"]
    both.ids["service"] = any_world.admit(
        "robot", "reader", kind=SubjectKind.SERVICE, owner="user:ann"
    )
    await set_password(admin)
    session = (await login(both.there)).json()
    both.session, both.ids["session"] = session["token"], session["id"]
    yield both
    other.close()


async def set_password(admin: Client) -> None:
    answer = await admin.send("PUT", f"{V1}/users/ann/password", json={"password": GOOD})
    assert answer.status_code == 204, answer.text


async def login(world: HttpWorld, password: str = GOOD, name: str = "ann") -> Any:
    body = {"name": name, "password": password}
    return await world.client(None).send("POST", f"{V1}/login", json=body)


async def gone(two: Two, what: str) -> None:
    """Take something away, here."""
    admin = two.admin
    match what:
        case "token" | "binding" | "session":
            path = f"{V1}/{what}s/{two.ids[what]}"
            assert (await admin.send("DELETE", path)).status_code == 204
        case "user":
            assert (await admin.post("users/ann/disable")).status_code == 200
        case "role":
            body = {"permissions": ["models:read"]}
            answer = await admin.send("PATCH", f"{V1}/roles/reader", json=body)
            assert answer.status_code == 200
        case "password":
            await set_password(admin)
        case "scope":
            await gone(two, "binding")
            grant = {"subject": "ann", "role": "reader", "scope": "site = lima"}
            made(await admin.post("bindings", grant))
        case _:
            raise AssertionError(what)


UNKNOWN, NOT_ALLOWED = (401, "not_authenticated"), (403, "not_allowed")


@pytest.mark.parametrize(
    ("what", "shown", "expected"),
    [
        ("token", "token", UNKNOWN),
        ("session", "session", UNKNOWN),
        ("password", "session", UNKNOWN),
        ("user", "token", UNKNOWN),
        ("user", "session", UNKNOWN),
        ("binding", "token", NOT_ALLOWED),
        ("binding", "session", NOT_ALLOWED),
        ("role", "token", NOT_ALLOWED),
        ("role", "session", NOT_ALLOWED),
    ],
)
async def test_what_is_taken_away_here_is_refused_there_with_the_next_request(
    two: Two, what: str, shown: str, expected: tuple[int, str]
) -> None:
    ann = two.ann(shown)
    assert (await ann.get("audit")).status_code == 200
    await gone(two, what)
    begun = time.monotonic()
    assert error_of(await ann.get("audit")) == expected
    assert time.monotonic() - begun < WITHIN_S


async def test_a_service_is_nobody_there_once_who_it_acts_for_is_disabled_here(two: Two) -> None:
    robot = two.there.client_of(two.ids["service"])
    assert (await robot.get("audit")).status_code == 200
    await gone(two, "user")
    assert error_of(await robot.get("audit")) == UNKNOWN


async def test_a_browser_that_is_signed_in_there_is_not_any_more(two: Two) -> None:
    body = {"name": "ann", "password": GOOD, "kind": "cookie"}
    answer = await two.there.client(None).send("POST", f"{V1}/login", json=body)
    headers = {"cookie": f"{COOKIE}={answer.cookies[COOKIE]}"}
    browser = two.there.client(None)
    assert (await browser.get("audit", headers=headers)).status_code == 200
    await gone(two, "user")
    assert error_of(await browser.get("audit", headers=headers)) == UNKNOWN


async def test_what_is_given_here_is_held_there_with_the_next_request(two: Two) -> None:
    await gone(two, "binding")
    assert error_of(await two.ann().get("audit")) == NOT_ALLOWED
    made(await two.admin.post("bindings", {"subject": "ann", "role": "reader"}))
    assert (await two.ann().get("audit")).status_code == 200


async def test_a_name_that_failed_at_both_is_locked_at_both(two: Two) -> None:
    await two.here.client().post("users", {"name": "bob"})
    for number in range(lockout.LIMIT):
        world = two.here if number % 2 else two.there
        assert error_of(await login(world, "wrong horse all along")) == (401, "login_failed")
    for world in (two.here, two.there):
        assert error_of(await login(world)) == (429, "locked_out")
        assert error_of(await login(world, name="bob"))[1] == "login_failed"


# An answer that takes long


@pytest.fixture
def pages_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """The log is exported two records at a time."""
    for module in (exporting, device_exporting):
        monkeypatch.setattr(module, "PAGE", 2)


async def streamed(
    world: HttpWorld,
    token: str,
    query: str,
    after_first: Callable[[], Awaitable[None]],
    path: str = "audit/export",
) -> tuple[int, bytes, bool]:
    """Ask for an export; return its status, what came of it, and whether it came to its end.

    Args:
        world: Whom to ask.
        token: To show.
        query: What of it.
        after_first: What happens once the first record is on its way.
        path: Of which log.
    """
    status, body, is_whole, called = 0, b"", False, False

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        nonlocal status, body, is_whole, called
        if message["type"] == "http.response.start":
            status = message["status"]
            return
        body += message.get("body", b"")
        is_whole = not message.get("more_body", False)
        if not called and body.count(b"\n") > 1:
            called = True
            await after_first()

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "https",
        "path": f"{V1}/{path}",
        "raw_path": f"{V1}/{path}".encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(b"host", HOST.encode()), (b"authorization", f"Bearer {token}".encode())],
        "client": ("192.0.2.7", 50000),
        "server": (HOST, 7770),
    }
    await world.app(scope, receive, send)
    return status, body, is_whole


async def nothing() -> None:
    """Happens."""


@pytest.mark.usefixtures("pages_of_two")
@pytest.mark.parametrize(
    ("query", "what", "shown"),
    [
        ("", "token", "token"),
        ("actor=user:admin", "session", "session"),
        ("format=ocsf", "user", "token"),
        ("format=rfc5424", "binding", "session"),
    ],
)
async def test_an_export_that_is_under_way_there_ends_with_the_right_to_read_it(
    two: Two, query: str, what: str, shown: str
) -> None:
    token = two.token if shown == "token" else two.session
    _, whole, is_whole = await streamed(two.there, token, query, nothing)
    assert is_whole
    sent = time.monotonic()
    status, part, is_whole = await streamed(two.there, token, query, lambda: gone(two, what))
    assert (status, is_whole) == (200, False)
    # What was on its way when the right went, and nothing that was read since.
    assert part.count(b"\n") <= 4 < whole.count(b"\n")
    assert time.monotonic() - sent < WITHIN_S


@pytest.mark.usefixtures("pages_of_two")
async def test_an_export_ends_when_the_right_is_over_fewer_devices(two: Two) -> None:
    _, _, is_whole = await streamed(two.there, two.token, "", lambda: gone(two, "scope"))
    assert not is_whole


@pytest.mark.usefixtures("pages_of_two")
async def test_an_export_that_was_cut_is_written_down_and_found_incomplete(two: Two) -> None:
    _, part, _ = await streamed(two.there, two.token, "", lambda: gone(two, "token"))
    with two.here.parts.database.reading() as session:
        denied = col(AuditRecord.tag) == "api:request:denied"
        rows = session.exec(select(AuditRecord).where(denied)).all()
    assert [row.subject for row in rows] == [f"route{V1}/audit/export"]
    assert rows[0].actor == "user:ann"
    key = two.there.parts.checkpoints.key()
    found = export.verify(part.splitlines(keepends=True), [key])
    assert found.result is export.Result.INCOMPLETE, found


async def with_a_log(two: Two, device_id: str) -> None:
    """Enrol a device at Lyon, which told its log."""
    await enrol(two.here, device_id, site="lyon")
    records = sealed([b'{"seq":%d,"tag":"agent:test:made"}' % seq for seq in range(1, 10)])
    batch = batch_of(records, *range(1, 10), device_id=device_id)
    with two.here.parts.database.transaction() as session:
        session.get_one(Device, device_id).audit_checkpoint = batch.checkpoint
        for one in records:
            leaf = merkle.leaf_hash(one.body).hex()
            kept = DeviceAuditRecord(
                device_id=device_id,
                seq=one.seq,
                body=one.body,
                hash=leaf,
                seal=one.seal,
                tag="agent:test:made",
                received_at=START,
            )
            session.add(kept)


@pytest.mark.usefixtures("pages_of_two")
@pytest.mark.parametrize("query", ["", "format=ocsf"])
async def test_an_export_of_a_devices_log_ends_when_the_device_leaves_the_scope(
    two: Two, query: str
) -> None:
    await with_a_log(two, "gw-1")
    bob = two.here.admit("bob", "auditor", "site = lyon")
    path = "devices/gw-1/audit/export"
    status, whole, is_whole = await streamed(two.there, bob, query, nothing, path)
    assert (status, is_whole) == (200, True), whole

    async def moved() -> None:
        body = {"labels": {"site": "lima"}}
        answer = await two.admin.send("PATCH", f"{V1}/devices/gw-1", json=body)
        assert answer.status_code == 200, answer.text

    _, part, is_whole = await streamed(two.there, bob, query, moved, path)
    assert not is_whole
    assert part.count(b"\n") <= 4 < whole.count(b"\n")
    assert error_of(await two.there.client_of(bob).get(path)) == (404, "device_not_found")


async def test_who_sees_one_site_gets_no_log_whose_expiry_names_other_devices(two: Two) -> None:
    await with_a_log(two, "gw-1")
    bob = two.here.client_of(two.here.admit("bob", "auditor", "site = lyon"))
    path = "devices/gw-1/audit/export"
    assert (await bob.get(path)).status_code == 200
    answer = await two.admin.post("audit/retention", {"days": 183})
    assert answer.status_code == 200, answer.text
    assert (await bob.get("audit/checkpoint")).status_code == 200
    job = Expiring(two.here.parts.database, two.here.parts.checkpoints)
    while job.step(two.here.now + timedelta(days=200)):
        pass
    assert error_of(await bob.get(path)) == (403, "expiry_not_yours")
    assert (await bob.get(f"{path}?format=cef")).status_code == 200
    assert (await two.admin.get(path)).status_code == 200
