"""Signing in at a provider, over HTTP: what counts once, what is refused, and what ends when."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulators.http_world import HOST, Client, HttpWorld, error_of
from simulators.openid_provider import write_configuration
from simulators.scripted_provider import DEVICE, ScriptedProvider
from simulators.token_maker import ISSUER
from sprat_controller.access.oidc import browser, configuration
from sprat_controller.access.oidc.provider import Provider
from sprat_controller.access.policy import Role
from sprat_controller.access.sessions import IDLE
from sprat_controller.access.snapshot import Policies
from sprat_controller.api.app import make_app
from sprat_controller.api.auth import COOKIE
from sprat_controller.api.routes.oidc import SENT
from sprat_controller.errors import RequestError
from sprat_controller.store.tables import (
    AuditRecord,
    LoginSession,
    OidcAttempt,
    OidcDevice,
    ProvidedRole,
)
from sqlmodel import col, select

V1 = "/api/v1"
URL = f"https://{HOST}:7770"


class Works:
    """A controller, and the provider that its people sign in at."""

    def __init__(self, world: HttpWorld, folder: Path, *more: str) -> None:
        self.world = world
        self.provider = ScriptedProvider(lambda: world.now)
        loaded = configuration.load(write_configuration(folder, ISSUER, URL, *more))
        self.at = Provider(loaded, self.provider.transport)
        object.__setattr__(world.parts, "oidc", self.at)
        self.client = world.client(None)

    async def sent(self, next_path: str = "/docs") -> tuple[dict[str, str], str]:
        """Send a browser away; return what it was sent with, and what it keeps."""
        answer = await self.client.get(f"oidc/begin?next={next_path}")
        assert answer.status_code == 302, answer.text
        location = answer.headers["location"]
        assert location.startswith(f"{ISSUER}/auth?")
        asked = {name: one[0] for name, one in parse_qs(urlsplit(location).query).items()}
        self.provider.nonce = asked["nonce"]
        return asked, answer.cookies[SENT]

    async def back(self, secret: str, **query: str) -> httpx.Response:
        """Come back from the provider."""
        headers = {"cookie": f"{SENT}={secret}"} if secret else {}
        return await self.client.get("oidc/callback", params=query, headers=headers)

    async def came_in(self, **query: str) -> httpx.Response:
        """Go there and back."""
        asked, secret = await self.sent()
        return await self.back(secret, state=asked["state"], code="code-1", **query)

    async def signed_in(self) -> Browser:
        answer = await self.came_in()
        assert answer.status_code == 302, answer.text
        return Browser(self.client, answer.cookies[COOKIE])

    async def logout(self, token: str) -> httpx.Response:
        """Have the provider tell that somebody signed out."""
        path = f"{V1}/oidc/backchannel-logout"
        return await self.client.send("POST", path, data={"logout_token": token})

    async def device(self) -> dict[str, Any]:
        """Begin a sign-in without a browser."""
        answer = await self.client.send("POST", f"{V1}/oidc/device")
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def ask(self, handle: str) -> httpx.Response:
        """Ask for it."""
        return await self.client.post("oidc/device/token", {"handle": handle})

    def records(self, tag: str) -> list[AuditRecord]:
        """Return what the audit log says of a kind."""
        with self.world.parts.database.reading() as session:
            found = select(AuditRecord).where(col(AuditRecord.tag) == tag)
            return list(session.exec(found))


class Browser:
    """Somebody's browser, with its session."""

    def __init__(self, client: Client, cookie: str) -> None:
        self.client = client
        self.cookie = cookie

    async def whoami(self, client: Client | None = None) -> httpx.Response:
        headers = {"cookie": f"{COOKIE}={self.cookie}"}
        return await (client or self.client).get("whoami", headers=headers)


@pytest.fixture
def works(world: HttpWorld, tmp_path: Path) -> Works:
    return Works(world, tmp_path)


async def test_a_browser_goes_there_and_back_and_has_a_session_of_ours(works: Works) -> None:
    asked, secret = await works.sent("/docs?a=b")
    assert asked["redirect_uri"] == f"{URL}{V1}/oidc/callback"
    assert asked["scope"] == "openid profile groups"
    answer = await works.back(secret, state=asked["state"], code="code-1", iss=ISSUER)
    assert (answer.status_code, answer.headers["location"]) == (302, "/docs?a=b")
    set_ = [one for one in answer.headers.get_list("set-cookie") if one.startswith(f"{COOKIE}=")]
    assert {one.lower() for one in set_[0].split("; ")[1:]} == {
        *("httponly", "secure", "samesite=lax", "path=/", "max-age=43200")
    }
    who = await Browser(works.client, answer.cookies[COOKIE]).whoami()
    assert who.json()["roles"] == [{"role": "viewer", "scope": ""}]
    redeemed = next(one for name, one in works.provider.asked if name == "/token")
    assert redeemed["code"] == ["code-1"]
    assert len(redeemed["code_verifier"][0]) == 43


async def test_nothing_that_is_kept_lets_anybody_in(works: Works) -> None:
    asked, secret = await works.sent()
    begun = await works.device()
    with works.world.parts.database.reading() as session:
        kept = repr(session.exec(select(OidcAttempt)).all())
        kept += repr(session.exec(select(OidcDevice)).all())
    for one in (asked["state"], asked["nonce"], secret, begun["handle"], DEVICE):
        assert one not in kept


@pytest.mark.parametrize(
    "path",
    [
        *("https://evil.example/", "//evil.example", "/\\evil.example", "\\\\evil.example", "docs"),
        *("", "/a\\b", "/ docs", "/\t/evil.example", "/\n//evil.example", "javascript:alert(1)"),
        *("/é", "///evil.example", "/%0d%0aset-cookie:x\r\n", "?next=//evil.example", "@evil"),
    ],
)
async def test_nobody_is_sent_on_to_somebody_else(works: Works, path: str) -> None:
    answer = await works.client.get("oidc/begin", params={"next": path})
    assert error_of(answer) == (400, "bad_next")


@given(st.text(alphabet="/\\.:@?#%evil \t\n\0é"))
def test_whatever_is_asked_for_one_stays_here(text: str) -> None:
    try:
        path = browser.checked_path(text)
    except RequestError:
        return
    joined = httpx.URL(f"{URL}/api/v1/oidc/callback").join(path)
    assert (joined.scheme, joined.host, joined.port) == ("https", HOST, 7770)
    assert "\\" not in path


async def test_a_way_back_counts_once_in_its_own_browser_and_for_ten_minutes(works: Works) -> None:
    asked, secret = await works.sent()
    state = asked["state"]
    _, other = await works.sent()
    wrong = [("", state), (other, state), (secret, ""), (secret, "A" * 43), (secret[:-1], state)]
    for kept, said in wrong:
        answer = await works.back(kept, state=said, code="code-1")
        assert error_of(answer) == (400, "sign_in_unknown")
    assert "/token" not in works.provider.paths
    asked, secret = await works.sent()
    assert (await works.back(secret, state=asked["state"], code="c")).status_code == 302
    again = await works.back(secret, state=asked["state"], code="c")
    assert error_of(again) == (400, "sign_in_unknown")
    asked, secret = await works.sent()
    works.world.later(minutes=10)
    late = await works.back(secret, state=asked["state"], code="c")
    assert error_of(late) == (400, "sign_in_unknown")
    refused = works.records("provider:login:refused")
    assert all(b'"reason":"sign_in_unknown"' in one.body for one in refused)
    assert len(refused) == 7


@pytest.mark.parametrize(
    ("query", "answer"),
    [
        ({"error": "access_denied"}, (403, "sign_in_denied")),
        ({"error": "login_required"}, (403, "sign_in_denied")),
        ({"error": "server_error"}, (502, "provider_failed")),
        ({"error": "\x1b[2J"}, (502, "provider_failed")),
        ({"error": ""}, (502, "provider_failed")),
        ({"code": "c", "iss": "https://evil.example"}, (502, "provider_failed")),
    ],
)
async def test_what_a_provider_answers_instead_is_told(
    works: Works, query: dict[str, str], answer: tuple[int, str]
) -> None:
    asked, secret = await works.sent()
    found = await works.back(secret, state=asked["state"], **query)
    assert error_of(found) == answer
    assert "\x1b" not in found.text
    assert COOKIE not in found.headers.get("set-cookie", "")


async def test_a_provider_that_names_itself_must(works: Works) -> None:
    works.provider.document["authorization_response_iss_parameter_supported"] = True
    assert error_of(await works.came_in()) == (502, "provider_failed")
    assert (await works.came_in(iss=ISSUER)).status_code == 302


@pytest.mark.parametrize(
    ("status", "body", "answer"),
    [
        (400, {"error": "invalid_grant"}, (400, "sign_in_unknown")),
        (401, {"error": "invalid_client"}, (502, "provider_failed")),
        (400, {"error": "invalid_request"}, (502, "provider_failed")),
        (400, {"error": 7}, (502, "provider_failed")),
        (500, {"error": "x"}, (502, "provider_failed")),
        (200, {"access_token": "x"}, (502, "provider_failed")),
        (200, [], (502, "provider_failed")),
        (302, {}, (502, "provider_failed")),
    ],
)
async def test_what_a_provider_gives_no_token_for_is_told(
    works: Works, status: int, body: object, answer: tuple[int, str]
) -> None:
    works.provider.answers["/token"] = lambda: httpx.Response(status, json=body)
    assert error_of(await works.came_in()) == answer
    assert works.records("operator:session:begun") == []


async def test_a_provider_that_cannot_be_reached_is_told_and_not_waited_for(works: Works) -> None:
    def gone() -> httpx.Response:
        raise httpx.ConnectError("connection refused")

    works.provider.answers["/.well-known/openid-configuration"] = gone
    for _ in range(5):
        answer = await works.client.get("oidc/begin")
        assert error_of(answer) == (503, "provider_unreachable")
    assert len(works.provider.asked) == 1
    works.provider.answers.clear()
    works.world.later(seconds=2)
    assert (await works.client.get("oidc/begin")).status_code == 302


async def test_too_long_an_answer_is_not_read(works: Works) -> None:
    works.provider.answers["/certs"] = lambda: httpx.Response(200, content=b"[" * (2 << 20))
    assert error_of(await works.came_in()) == (502, "provider_failed")


@pytest.mark.parametrize(
    ("claims", "header", "reason"),
    [
        ({"nonce": "other"}, {}, "nonce"),
        ({"aud": "other"}, {}, "audience"),
        ({"iss": "https://evil.example"}, {}, "issuer"),
        ({"exp": 1}, {}, "expired"),
        ({}, {"crit": ["x"], "x": 1}, "header"),
        ({"at_hash": "x"}, {}, "access_token"),
    ],
)
async def test_t41_a_token_that_is_not_believed_lets_nobody_in(
    works: Works, claims: dict[str, Any], header: dict[str, Any], reason: str
) -> None:
    works.provider.claims |= claims
    works.provider.header = header
    answer = await works.came_in()
    assert error_of(answer) == (502, "token_refused")
    assert answer.json()["error"]["details"] == {"reason": reason}
    (record,) = works.records("provider:login:refused")
    assert f'"reason":"{reason}"'.encode() in record.body
    with works.world.parts.database.reading() as session:
        assert session.exec(select(LoginSession)).all() == []


async def test_t41_an_old_key_is_worth_nothing_some_minutes_after_it_is_gone(works: Works) -> None:
    old = works.provider.maker.rsa
    await works.signed_in()
    works.provider.rotate()
    new = works.provider.maker.rsa
    works.provider.maker.rsa = old  # whoever has stolen it
    works.world.later(minutes=5)
    answer = await works.came_in()
    assert answer.json()["error"]["details"] == {"reason": "unknown_key"}
    works.provider.maker.rsa = new
    await works.signed_in()


async def test_keys_are_read_again_for_an_unknown_one_and_not_without_end(works: Works) -> None:
    await works.signed_in()
    works.provider.rotate()
    await works.signed_in()
    assert works.provider.paths.count("/certs") == 2
    works.provider.header = {"kid": "unheard-of"}
    for number in range(12):
        works.world.later(seconds=1)
        token = works.provider.logout_token(sub="ann-7", jti=f"j-{number}")
        assert (await works.logout(token)).status_code in (400, 429)
    assert works.provider.paths.count("/certs") <= 2 + 5


async def test_who_is_in_no_group_of_ours_gets_nothing_and_is_told_once(works: Works) -> None:
    works.provider.claims["groups"] = ["chess"]
    answer = await works.came_in()
    assert error_of(answer) == (403, "no_role")
    users = (await works.world.client().get("users")).json()["items"]
    assert not [one for one in users if one["issuer"]]
    (record,) = works.records("provider:login:refused")
    assert b'"groups":1' in record.body
    assert b"chess" not in record.body


async def test_nobody_is_known_by_an_e_mail_or_a_name(works: Works) -> None:
    works.provider.claims |= {"email": "admin@works.example", "preferred_username": "admin"}
    who = (await (await works.signed_in()).whoami()).json()
    assert who["subject"] != "user:admin"
    assert {one["role"] for one in who["roles"]} == {"viewer"}
    works.provider.claims["sub"] = "mallory-9"
    other = (await (await works.signed_in()).whoami()).json()
    assert other["subject"] != who["subject"]


async def test_a_session_ends_no_later_than_the_policy_says(
    world: HttpWorld, tmp_path: Path
) -> None:
    works = Works(world, tmp_path, "session_hours = 1")
    browser = await works.signed_in()
    world.later(seconds=IDLE.total_seconds() - 60)
    assert (await browser.whoami()).status_code == 200
    world.later(seconds=IDLE.total_seconds() - 60)
    assert (await browser.whoami()).status_code == 200
    world.later(minutes=2)
    assert error_of(await browser.whoami()) == (401, "not_authenticated")
    with world.parts.database.reading() as session:
        assert session.exec(select(ProvidedRole)).one().ends_at <= world.now


async def test_a_token_of_who_signed_in_is_worth_nothing_once_they_are_signed_out(
    works: Works,
) -> None:
    works.provider.claims["groups"] = ["watchers"]
    browser = await works.signed_in()
    cookie = {"cookie": f"{COOKIE}={browser.cookie}"}
    csrf = (await browser.whoami()).json()["csrf"]
    made = await works.client.send(
        "POST",
        f"{V1}/tokens",
        json={"name": "laptop", "role": "viewer"},
        headers={**cookie, "x-sprat-csrf": csrf},
    )
    assert made.status_code == 201, made.text
    token = works.world.client_of(made.json()["token"])
    assert (await token.get("devices")).status_code == 200
    assert (await works.logout(works.provider.logout_token(sub="ann-7"))).status_code == 200
    assert error_of(await token.get("devices")) == (403, "not_allowed")


async def test_revocation_within_5_s_on_every_replica(works: Works) -> None:
    replica = Client(_replica(works.world), None)
    first, second = await works.signed_in(), await works.signed_in()
    assert (await first.whoami(replica)).status_code == 200
    assert (await works.logout(works.provider.logout_token(sid="sid-1"))).status_code == 200
    assert error_of(await first.whoami(replica)) == (401, "not_authenticated")
    assert error_of(await second.whoami(replica)) == (401, "not_authenticated")
    third = await works.signed_in()
    who = (await third.whoami(replica)).json()
    disabled = await works.world.client().post(f"users/{who['name']}/disable")
    assert disabled.json()["issuer"] == ISSUER
    assert error_of(await third.whoami(replica)) == (401, "not_authenticated")
    assert error_of(await works.came_in()) == (403, "user_disabled")


async def test_what_one_controller_sent_away_another_takes_back(works: Works) -> None:
    asked, secret = await works.sent()
    works.client = Client(_replica(works.world), None)
    assert (await works.back(secret, state=asked["state"], code="c")).status_code == 302


def _replica(world: HttpWorld) -> Any:
    """Return another controller of the same rows."""
    return make_app(replace(world.parts, policies=Policies()), "0.0.0")


async def test_a_logout_counts_once(works: Works) -> None:
    await works.signed_in()
    token = works.provider.logout_token(sub="ann-7")
    assert (await works.logout(token)).json() == {"sessions": 1}
    again = await works.logout(token)
    assert error_of(again) == (400, "logout_refused")
    assert again.json()["error"]["details"] == {"reason": "seen_before"}
    await works.signed_in()
    assert (await works.logout(works.provider.logout_token(sub="ann-7", jti="2"))).is_success
    (first, second) = works.records("operator:session:ended")
    assert (first.actor, second.actor) == ("provider", "provider")


async def test_a_logout_is_about_one_session_or_about_all_of_somebody(works: Works) -> None:
    first = await works.signed_in()
    works.provider.claims["sid"] = "sid-2"
    second = await works.signed_in()
    works.provider.claims |= {"sub": "bob-8", "sid": "sid-3"}
    bob = await works.signed_in()
    out = works.provider.logout_token
    assert (await works.logout(out(sub="ann-7", sid="sid-3", jti="0"))).json() == {"sessions": 0}
    assert (await works.logout(out(sid="sid-2", jti="1"))).json() == {"sessions": 1}
    assert [(await one.whoami()).status_code for one in (first, second)] == [200, 401]
    assert (await works.logout(out(sub="ann-7", jti="2"))).json() == {"sessions": 1}
    assert (await works.logout(out(sub="nobody", jti="3"))).json() == {"sessions": 0}
    assert (await bob.whoami()).status_code == 200


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"events": {}}, "events"),
        ({"events": {"http://other.example": {}}}, "events"),
        ({"events": ["http://schemas.openid.net/event/backchannel-logout"]}, "events"),
        ({"events": None}, "missing"),
        ({"nonce": "n"}, "nonce"),
        ({"jti": None}, "missing"),
        ({"jti": 7}, "claim"),
        ({"exp": None}, "missing"),
        ({"exp": 1}, "expired"),
        ({"iat": 1}, "stale"),
        ({"aud": "other"}, "audience"),
        ({"iss": "https://evil.example"}, "issuer"),
        ({"sub": None}, "missing"),
        ({"sub": 7}, "claim"),
    ],
)
async def test_a_logout_that_is_none_ends_nothing(
    works: Works, changes: dict[str, Any], reason: str
) -> None:
    browser = await works.signed_in()
    answer = await works.logout(works.provider.logout_token(**{"sub": "ann-7", **changes}))
    assert error_of(answer) == (400, "logout_refused")
    assert answer.json()["error"]["details"] == {"reason": reason}
    assert answer.headers["cache-control"] == "no-store"
    assert (await browser.whoami()).status_code == 200
    (record,) = works.records("provider:logout:refused")
    assert reason.encode() in record.body


async def test_an_id_token_is_no_logout_and_a_logout_no_id_token(works: Works) -> None:
    browser = await works.signed_in()
    id_token = works.provider.token()
    assert error_of(await works.logout(id_token)) == (400, "logout_refused")
    works.provider.header = {"typ": "logout+jwt"}
    assert (await works.logout(works.provider.logout_token(sub="x"))).is_success
    assert error_of(await works.came_in()) == (502, "token_refused")
    assert (await browser.whoami()).status_code == 200


@pytest.mark.parametrize("body", [b"", b"x", b"logout_token=a&logout_token=b", b"\xff=1", b"{}"])
async def test_a_body_that_is_no_logout_is_refused(works: Works, body: bytes) -> None:
    answer = await works.client.send("POST", f"{V1}/oidc/backchannel-logout", content=body)
    assert error_of(answer) == (400, "logout_refused")


async def test_a_device_signs_in_once_somebody_typed_its_code(works: Works) -> None:
    begun = await works.device()
    assert (begun["user_code"], begun["interval_s"]) == ("WDJB-MJHT", 5)
    works.provider.device_errors = ["authorization_pending", "slow_down"]
    early = await works.ask(begun["handle"])
    assert early.json() == {"interval_s": 6, "login": None}
    assert "/token" not in works.provider.paths  # who asks too early asks nobody
    works.world.later(seconds=5)
    assert (await works.ask(begun["handle"])).json() == {"interval_s": 5, "login": None}
    works.world.later(seconds=5)
    assert (await works.ask(begun["handle"])).json() == {"interval_s": 10, "login": None}
    works.world.later(seconds=5)
    assert (await works.ask(begun["handle"])).json()["login"] is None
    works.world.later(seconds=5)
    answer = (await works.ask(begun["handle"])).json()
    assert answer["interval_s"] is None
    client = works.world.client_of(answer["login"]["token"])
    who = (await client.get("whoami")).json()
    assert (who["authn"], who["roles"]) == ("oidc", [{"role": "viewer", "scope": ""}])
    assert error_of(await works.ask(begun["handle"])) == (400, "sign_in_unknown")


@pytest.mark.parametrize(
    ("error", "answer"),
    [
        ("access_denied", (403, "sign_in_denied")),
        ("expired_token", (400, "sign_in_unknown")),
        ("invalid_grant", (400, "sign_in_unknown")),
        ("server_error", (502, "provider_failed")),
    ],
)
async def test_a_device_that_is_not_let_in_is_told_and_asks_no_more(
    works: Works, error: str, answer: tuple[int, str]
) -> None:
    begun = await works.device()
    works.provider.device_errors = [error]
    works.world.later(seconds=5)
    assert error_of(await works.ask(begun["handle"])) == answer
    works.world.later(seconds=5)
    assert error_of(await works.ask(begun["handle"])) == (400, "sign_in_unknown")
    assert works.provider.paths.count("/token") == 1


async def test_a_device_waits_while_the_provider_is_away(works: Works) -> None:
    def gone() -> httpx.Response:
        raise httpx.ReadTimeout("timed out")

    begun = await works.device()
    works.provider.answers["/token"] = gone
    works.world.later(seconds=5)
    assert (await works.ask(begun["handle"])).json() == {"interval_s": 5, "login": None}
    works.provider.answers.clear()
    works.world.later(seconds=5)
    assert (await works.ask(begun["handle"])).json()["login"] is not None


async def test_two_who_ask_at_once_ask_the_provider_once(works: Works) -> None:
    begun = await works.device()
    works.provider.device_errors = ["authorization_pending"] * 4
    works.world.later(seconds=5)
    answers = await asyncio.gather(*(works.ask(begun["handle"]) for _ in range(4)))
    assert {one.status_code for one in answers} == {200}
    assert works.provider.paths.count("/token") == 1


async def test_a_device_whose_time_is_over_is_told(works: Works) -> None:
    begun = await works.device()
    works.world.later(minutes=10)
    assert error_of(await works.ask(begun["handle"])) == (400, "sign_in_unknown")
    for handle in ("", "x", "sprat-device." + "A" * 43, "sprat-device." + "é" * 43):
        assert error_of(await works.ask(handle)) == (400, "sign_in_unknown")


async def test_a_provider_without_device_codes_is_told(works: Works) -> None:
    del works.provider.document["device_authorization_endpoint"]
    answer = await works.client.send("POST", f"{V1}/oidc/device")
    assert error_of(answer) == (404, "no_device_sign_in")


async def test_one_address_cannot_begin_without_end(works: Works) -> None:
    codes = [(await works.client.get("oidc/begin")).status_code for _ in range(21)]
    assert codes == [302] * 20 + [429]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "oidc/begin"),
        ("GET", "oidc/callback"),
        ("POST", "oidc/device"),
        ("POST", "oidc/device/token"),
        ("POST", "oidc/backchannel-logout"),
    ],
)
async def test_a_controller_without_a_provider_says_so(
    world: HttpWorld, method: str, path: str
) -> None:
    more: dict[str, Any] = {"json": {"handle": "x"}} if path.endswith("token") else {}
    if path.endswith("logout"):
        more = {"data": {"logout_token": "x"}}
    answer = await world.client(None).send(method, f"{V1}/{path}", **more)
    assert error_of(answer) == (404, "no_single_sign_on")


async def test_what_groups_give_is_not_taken_by_hand(works: Works) -> None:
    await works.signed_in()
    admin = works.world.client(Role.ADMIN)
    bindings = (await admin.get("bindings")).json()["items"]
    (given,) = [one for one in bindings if one["created_by"] == "provider"]
    assert given["ends_at"] is not None
    answer = await admin.send("DELETE", f"{V1}/bindings/{given['id']}")
    assert error_of(answer) == (409, "given_by_groups")


async def test_a_role_that_is_no_more_lets_nobody_in(world: HttpWorld, tmp_path: Path) -> None:
    works = Works(world, tmp_path, '[[role]]\ngroup = "night"\nrole = "night-shift"')
    works.provider.claims["groups"] = ["night"]
    assert error_of(await works.came_in()) == (403, "no_role")
    made = await world.client().post(
        "roles", {"name": "night-shift", "permissions": ["fleet:read"]}
    )
    assert made.status_code == 201
    assert (await works.came_in()).status_code == 302
