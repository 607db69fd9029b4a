"""Signing in with a password: what is told, what ends when, and what nobody gets by it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import httpx
import pytest
from simulators.http_world import QUICK, Client, HttpWorld, error_of
from sprat_controller.access import local_users, lockout, persons
from sprat_controller.access.passwords import Cost, Passwords
from sprat_controller.access.policy import Role
from sprat_controller.access.sessions import IDLE, LIFETIME, csrf_of
from sprat_controller.api.auth import COOKIE, CSRF
from sprat_controller.errors import DeniedError
from sprat_controller.store.tables import AuditRecord, LoginFailure, LoginSession, Password
from sqlmodel import col, select

V1 = "/api/v1"
GOOD = "seven herons at low tide"
OTHER = "eleven otters under ice"


@pytest.fixture
def world(any_world: HttpWorld) -> HttpWorld:
    """The API, on SQLite and then on PostgreSQL."""
    return any_world


async def give(world: HttpWorld, role: Role = Role.VIEWER, password: str = GOOD) -> None:
    """Have somebody set their own password."""
    answer = await put(world.client(role), role.value, password=password)
    assert answer.status_code == 204, answer.text


async def put(client: Client, user: str, **body: str) -> httpx.Response:
    return await client.send("PUT", f"{V1}/users/{user}/password", json=body)


async def login(
    world: HttpWorld, name: str = "viewer", password: str = GOOD, **more: Any
) -> httpx.Response:
    headers = more.pop("headers", {})
    body = {"name": name, "password": password, **more}
    return await world.client(None).send("POST", f"{V1}/login", json=body, headers=headers)


async def signed_in(world: HttpWorld, name: str = "viewer", password: str = GOOD) -> Client:
    answer = await login(world, name, password)
    assert answer.status_code == 200, answer.text
    return world.client_of(answer.json()["token"])


class Browser:
    """Somebody's browser, which sends their cookie with all it sends."""

    def __init__(self, world: HttpWorld, answer: httpx.Response) -> None:
        self.client = world.client(None)
        self.cookie = answer.cookies[COOKIE]

    async def send(self, method: str, path: str, **more: Any) -> httpx.Response:
        headers = {"cookie": f"{COOKIE}={self.cookie}", **more.pop("headers", {})}
        return await self.client.send(method, f"{V1}/{path}", headers=headers, **more)


def records(world: HttpWorld, tag: str) -> list[AuditRecord]:
    with world.parts.database.reading() as session:
        return list(session.exec(select(AuditRecord).where(col(AuditRecord.tag) == tag)))


def alive(world: HttpWorld) -> list[LoginSession]:
    with world.parts.database.reading() as session:
        return list(session.exec(select(LoginSession).where(col(LoginSession.ended_at).is_(None))))


async def test_a_session_is_who_signed_in_with_all_that_they_may(world: HttpWorld) -> None:
    await give(world)
    client = await signed_in(world)
    who = (await client.get("whoami")).json()
    assert (who["subject"], who["authn"], who["token_role"]) == ("user:viewer", "password", "")
    assert {one["permission"] for one in who["permissions"]} >= {"fleet:read", "rollouts:read"}
    assert error_of(await client.post("users", {"name": "x"})) == (403, "not_allowed")
    (begun,) = records(world, "operator:session:begun")
    assert begun.actor == "user:viewer"
    assert b'"source":"127.0.0.1"' in begun.body


async def test_neither_password_nor_secret_is_kept_or_told(world: HttpWorld) -> None:
    await give(world)
    text = (await login(world)).json()["token"]
    with world.parts.database.reading() as session:
        kept = session.exec(select(Password)).one()
        row = session.exec(select(LoginSession)).one()
        audit = b"".join(one.body for one in session.exec(select(AuditRecord)))
    assert kept.hash is not None
    assert kept.hash.startswith("$argon2id$")
    assert text.partition(".")[2] not in repr(row)
    for secret in (GOOD, text.partition(".")[2], kept.hash):
        assert secret.encode() not in audit
    client = world.client_of(text)
    assert text.partition(".")[2] not in (await client.get("sessions")).text


async def test_a_session_ends_after_twelve_hours_however_much_it_is_used(world: HttpWorld) -> None:
    await give(world)
    client = await signed_in(world)
    step = IDLE / 2
    for _ in range(int(LIFETIME / step) - 1):
        world.later(seconds=step.total_seconds())
        assert (await client.get("whoami")).status_code == 200
    world.later(seconds=step.total_seconds())
    assert error_of(await client.get("whoami")) == (401, "not_authenticated")


async def test_a_session_ends_when_it_idles(world: HttpWorld) -> None:
    await give(world)
    client = await signed_in(world)
    world.later(seconds=IDLE.total_seconds() - 1)
    assert (await client.get("whoami")).status_code == 200
    world.later(seconds=IDLE.total_seconds())
    assert error_of(await client.get("whoami")) == (401, "not_authenticated")
    assert (await (await signed_in(world)).get("sessions")).json()["items"] != []


async def test_logging_out_ends_the_session_at_once_and_no_other(world: HttpWorld) -> None:
    await give(world)
    first, second = await signed_in(world), await signed_in(world)
    assert (await first.post("logout")).status_code == 204
    assert error_of(await first.get("whoami")) == (401, "not_authenticated")
    assert (await second.get("whoami")).status_code == 200
    assert error_of(await world.client().post("logout")) == (409, "no_session")
    (ended,) = records(world, "operator:session:ended")
    assert ended.actor == "user:viewer"


async def test_sessions_are_ones_own_to_see_and_to_end_or_a_managers(world: HttpWorld) -> None:
    await give(world)
    await give(world, Role.OPERATOR, OTHER)
    mine, theirs = await signed_in(world), await signed_in(world, "operator", OTHER)
    (own,) = (await mine.get("sessions")).json()["items"]
    assert own["subject_id"] == "user:viewer"
    foreign = await theirs.send("DELETE", f"{V1}/sessions/{own['id']}")
    nothing = await theirs.send("DELETE", f"{V1}/sessions/nothing")
    assert error_of(foreign) == error_of(nothing) == (404, "session_not_found")
    admin = world.client()
    assert len((await admin.get("sessions")).json()["items"]) == 2
    assert (await admin.send("DELETE", f"{V1}/sessions/{own['id']}")).status_code == 204
    assert error_of(await mine.get("whoami")) == (401, "not_authenticated")


async def test_who_is_disabled_is_out_at_once_and_cannot_come_back(world: HttpWorld) -> None:
    await give(world)
    client = await signed_in(world)
    assert (await world.client().post("users/viewer/disable")).status_code == 200
    assert error_of(await client.get("whoami")) == (401, "not_authenticated")
    assert error_of(await login(world)) == (401, "login_failed")


async def test_an_unknown_name_is_answered_as_a_wrong_password_after_the_same_work(
    world: HttpWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    await give(world)
    compared: list[bool] = []
    original = Passwords._compare  # pyright: ignore[reportPrivateUsage] - where the work is

    def counting(self: Passwords, kept: str | None, typed: str) -> Any:
        compared.append(kept is None)
        return original(self, kept, typed)

    monkeypatch.setattr(Passwords, "_compare", counting)
    answers = [
        await login(world, "viewer", OTHER),  # wrong
        await login(world, "nobody", OTHER),  # nobody
        await login(world, "operator", OTHER),  # without a password
    ]
    bodies = [answer.json() for answer in answers]
    assert [error_of(answer) for answer in answers] == [(401, "login_failed")] * 3
    assert bodies[0] == bodies[1] == bodies[2]
    assert compared == [False, True, True]
    failed = records(world, "operator:login:failed")
    about = [one.subject for one in failed]
    assert about == ["subject/user:viewer", "login/unknown", "subject/user:operator"]


@pytest.mark.parametrize("name", ["viewer", "nobody"])
async def test_a_name_that_failed_too_often_is_locked_whether_it_is_there_or_not(
    world: HttpWorld, name: str
) -> None:
    await give(world)
    before = await signed_in(world)
    for _ in range(lockout.LIMIT):
        assert error_of(await login(world, name, OTHER)) == (401, "login_failed")
    world.later(seconds=60)
    locked = await login(world, name, GOOD)
    assert error_of(locked) == (429, "locked_out")
    assert locked.json()["error"]["details"] == {"retry_after_s": 841}
    assert (await before.get("whoami")).status_code == 200
    (record,) = records(world, "operator:login:locked")
    assert b'"failed":10' in record.body
    assert record.subject == ("subject/user:viewer" if name == "viewer" else "login/unknown")
    world.later(seconds=lockout.LOCKED_FOR.total_seconds() - 60)
    assert (await login(world, name, GOOD)).status_code == (200 if name == "viewer" else 401)


async def test_failures_that_are_long_past_are_not_kept(world: HttpWorld) -> None:
    for number in range(5):
        await login(world, f"nobody{number}", OTHER)
        world.later(minutes=10)
    with world.parts.database.reading() as session:
        assert len(session.exec(select(LoginFailure)).all()) == 2


async def test_one_address_cannot_try_names_without_end(world: HttpWorld) -> None:
    codes = [(await login(world, f"nobody{n}", OTHER)).status_code for n in range(21)]
    assert codes == [401] * 20 + [429]


async def test_a_password_that_cost_less_than_today_is_kept_anew_at_login(world: HttpWorld) -> None:
    await give(world)
    object.__setattr__(world.parts, "passwords", Passwords(Cost(64, 2, 1)))
    await signed_in(world)
    with world.parts.database.reading() as session:
        (kept,) = session.exec(select(Password)).all()
    assert kept.hash is not None
    assert "t=2" in kept.hash
    await signed_in(world)


async def test_a_browsers_session_is_in_a_cookie_that_no_script_and_no_other_site_has(
    world: HttpWorld,
) -> None:
    await give(world)
    answer = await login(world, kind="cookie")
    assert answer.json()["token"] is None
    parts = answer.headers["set-cookie"].split("; ")
    assert parts[0].startswith("__Host-sprat=sprat-session.")
    assert {part.lower() for part in parts[1:]} == {
        *("httponly", "secure", "samesite=lax", "path=/", "max-age=43200")
    }
    browser = Browser(world, answer)
    who = (await browser.send("GET", "whoami")).json()
    assert (who["subject"], who["csrf"]) == ("user:viewer", answer.json()["csrf"])
    as_bearer = world.client_of(browser.cookie)
    assert error_of(await as_bearer.get("whoami")) == (401, "not_authenticated")


async def test_a_change_by_cookie_needs_what_only_our_own_page_knows(world: HttpWorld) -> None:
    await give(world, Role.ADMIN)
    browser = Browser(world, await login(world, "admin", kind="cookie"))
    csrf, body = csrf_of(browser.cookie), {"name": "bob"}
    for headers in (
        {},
        {CSRF: ""},
        {CSRF: csrf[:-1]},
        {CSRF: csrf_of("sprat-session." + "A" * 43)},
        {CSRF: csrf, "sec-fetch-site": "cross-site"},
        {CSRF: csrf, "sec-fetch-site": "same-site"},
    ):
        for method, path in (
            ("POST", "users"),
            ("PATCH", "devices/gw-1"),
            ("PUT", "users/admin/password"),
            ("DELETE", f"sessions/{alive(world)[0].id}"),
        ):
            answer = await browser.send(method, path, json=body, headers=headers)
            assert error_of(answer) == (403, "cross_site"), (method, headers)
    good = {CSRF: csrf, "sec-fetch-site": "same-origin"}
    assert (await browser.send("POST", "users", json=body, headers=good)).status_code == 201
    out = await browser.send("POST", "logout", headers=good)
    assert out.status_code == 204
    assert "Max-Age=0" in out.headers["set-cookie"]
    assert error_of(await browser.send("GET", "whoami")) == (401, "not_authenticated")


async def test_another_site_cannot_sign_a_browser_in(world: HttpWorld) -> None:
    await give(world)
    answer = await login(world, kind="cookie", headers={"sec-fetch-site": "cross-site"})
    assert error_of(answer) == (403, "cross_site")
    assert alive(world) == []


async def test_a_wrong_bearer_is_not_made_good_by_a_cookie(world: HttpWorld) -> None:
    await give(world)
    browser = Browser(world, await login(world, kind="cookie"))
    headers = {"authorization": "Bearer sprat_wrong"}
    answer = await browser.send("GET", "whoami", headers=headers)
    assert error_of(answer) == (401, "not_authenticated")


async def test_ones_own_password_is_changed_by_who_knows_it(world: HttpWorld) -> None:
    await give(world)
    mine, other = await signed_in(world), await signed_in(world)
    for current in ({}, {"current": OTHER}):
        answer = await put(mine, "viewer", password=OTHER, **current)
        assert error_of(answer) == (401, "login_failed")
    made = (await other.post("tokens", {"name": "ci", "role": "viewer"})).json()["token"]
    assert (await put(mine, "viewer", password=OTHER, current=GOOD)).status_code == 204
    assert (await mine.get("whoami")).status_code == 200
    assert error_of(await other.get("whoami")) == (401, "not_authenticated")
    # Whoever had stolen the other session has nothing left of it.
    assert error_of(await world.client_of(made).get("whoami")) == (401, "not_authenticated")
    assert error_of(await login(world)) == (401, "login_failed")
    await signed_in(world, password=OTHER)
    with world.parts.database.reading() as session:
        assert [one.hash for one in session.exec(select(Password)) if one.ended_at] == [None]


async def test_an_administrator_sets_the_password_of_others_and_others_do_not(
    world: HttpWorld,
) -> None:
    assert (await put(world.client(), "viewer", password=GOOD)).status_code == 204
    await signed_in(world)
    answer = await put(world.client(Role.OPERATOR), "viewer", password=OTHER)
    assert error_of(answer) == (403, "not_allowed")
    assert error_of(await put(world.client(), "nobody", password=GOOD)) == (404, "user_not_found")
    assert (await world.client().post("users", {"name": "ci", "kind": "service"})).is_success
    assert error_of(await put(world.client(), "ci", password=GOOD)) == (400, "not_a_person")
    (record,) = records(world, "operator:password:set")
    assert (record.actor, record.subject) == ("user:admin", "subject/user:viewer")


async def test_a_manager_of_users_does_not_become_an_administrator_by_a_password(
    world: HttpWorld,
) -> None:
    made = await world.client().post("roles", {"name": "hr", "permissions": ["users:manage"]})
    assert made.is_success
    clerk = world.client_of(world.admit("clerk", "hr"))
    assert error_of(await put(clerk, "admin", password=GOOD)) == (403, "cannot_grant")


async def test_a_small_token_does_not_become_a_password_that_allows_all(world: HttpWorld) -> None:
    small = world.client_of(world.token_of("user:admin", "small", "viewer"))
    assert error_of(await put(small, "admin", password=GOOD)) == (403, "cannot_grant")


async def test_who_sets_anothers_password_may_be_them_and_is_not_a_second_pair_of_eyes(
    world: HttpWorld,
) -> None:
    since = world.now

    def may_be_one() -> bool:
        with world.parts.database.reading() as session:
            return persons.may_be_one(session, "user:admin", "user:viewer", since)

    assert not may_be_one()
    await put(world.client(), "viewer", password=GOOD)
    assert may_be_one()
    world.later(hours=1)
    client = await signed_in(world)
    assert (await put(client, "viewer", password=OTHER, current=GOOD)).status_code == 204
    since = world.now
    assert may_be_one()
    since = world.now.replace(month=12, day=20)
    assert not may_be_one()


async def test_tokens_made_with_a_password_that_another_had_set_end_with_it(
    world: HttpWorld,
) -> None:
    await put(world.client(), "viewer", password=GOOD)
    impostor = await signed_in(world)
    made = (await impostor.post("tokens", {"name": "kept", "role": "viewer"})).json()["token"]
    await impostor.post("logout")
    assert (await world.client_of(made).get("whoami")).status_code == 200
    owner = await signed_in(world)
    assert (await put(owner, "viewer", password=OTHER, current=GOOD)).status_code == 204
    assert error_of(await world.client_of(made).get("whoami")) == (401, "not_authenticated")


async def test_a_token_that_another_made_does_not_hide_whose_hand_set_a_password(
    world: HttpWorld,
) -> None:
    body = {"name": "lent", "role": "viewer", "subject": "viewer"}
    lent = (await world.client().post("tokens", body)).json()["token"]
    assert (await put(world.client_of(lent), "viewer", password=GOOD)).status_code == 204
    with world.parts.database.reading() as session:
        assert session.exec(select(Password)).one().set_by == "user:admin"


async def test_what_changes_during_the_comparison_counts(
    world: HttpWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    await give(world)
    proved = local_users._proved  # pyright: ignore[reportPrivateUsage] - between its two halves

    def meanwhile(desk: Any, attempt: Any, now: Any) -> Any:
        found = proved(desk, attempt, now)
        with world.parts.database.transaction() as session:
            kept = session.exec(select(Password)).one()
            kept.hash = Passwords(QUICK).hash(OTHER)
        return found

    monkeypatch.setattr(local_users, "_proved", meanwhile)
    assert error_of(await login(world)) == (401, "login_failed")
    assert alive(world) == []


async def test_a_name_that_is_locked_during_the_comparison_lets_nobody_in(
    world: HttpWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many who guess at once are not let in by the one right guess after the tenth wrong one."""
    await give(world)
    proved = local_users._proved  # pyright: ignore[reportPrivateUsage] - between its two halves

    def meanwhile(desk: Any, attempt: Any, now: Any) -> Any:
        found = proved(desk, attempt, now)
        wrong = replace(attempt, password=OTHER)
        for _ in range(lockout.LIMIT):
            with pytest.raises(DeniedError):
                proved(desk, wrong, now)
        return found

    monkeypatch.setattr(local_users, "_proved", meanwhile)
    assert error_of(await login(world)) == (429, "locked_out")
    assert alive(world) == []


@pytest.mark.parametrize(
    "password",
    [
        "short",
        "a" * 20,
        "viewerviewerviewer",
        "sprat-password-1",
        "x" * 14,
        "tab\tin the midst of it",
    ],
)
async def test_a_password_that_is_easily_guessed_is_refused(
    world: HttpWorld, password: str
) -> None:
    answer = await put(world.client(Role.VIEWER), "viewer", password=password)
    assert error_of(answer) == (400, "bad_password")
    assert password not in answer.json()["error"]["message"]
