"""People sign in at a real OpenID provider: in a browser, with the command, and are signed out."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from processes import BIN, Answer, Controller, wait_for
from simulators.openid_provider import SECRET, Browser, OpenIdProvider, write_configuration

V1: Final = "/api/v1"
COOKIE: Final = "__Host-sprat"
ENDS_WITHIN_S: Final = 5
EVERYBODY: Final = {
    "ann": ["fleet-admins"],
    "bob": ["lyon", "chess"],
    "wim": ["watchers"],
    "eve": ["chess"],
    "ida": [],
}


class SignsInElsewhere(Controller):
    """A controller whose people sign in at a provider."""

    def use(self, file: Path) -> None:
        """Start it again with a provider."""
        self._options = ("--oidc", str(file))
        self.terminate()
        self.start()


class Works:
    """The controller and the provider of one company."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.controller = SignsInElsewhere(folder)
        self.controller.init()
        self.controller.start()
        self.provider = OpenIdProvider(folder, trust=self.controller.data / "ca.pem")
        self.provider.start()
        self.url = f"https://localhost:{urlsplit(self.controller.url).port}"
        self.provider.register(self.url)
        self.provider.put_in_groups(**EVERYBODY)
        self.controller.use(write_configuration(folder, self.provider.issuer, self.url))
        self._trust = ssl.create_default_context(cafile=self.controller.data / "ca.pem")
        self._clients: list[httpx.Client] = []

    def close(self) -> None:
        """End everything."""
        for client in self._clients:
            client.close()
        self.provider.stop()
        self.controller.terminate()

    def browser(self, name: str) -> Browser:
        """Return a new browser of somebody, at an address of its own: each may try so often."""
        at = f"127.0.1.{len(self._clients) + 1}"
        transport = httpx.HTTPTransport(verify=self._trust, trust_env=False, local_address=at)
        client = httpx.Client(transport=transport, trust_env=False, timeout=30)
        self._clients.append(client)
        return Browser(client, name)

    def begin(self, next_path: str = "/api/v1/whoami") -> str:
        """Return where a browser begins."""
        return f"{self.url}{V1}/oidc/begin?next={next_path}"

    def signed_in(self, name: str) -> Browser:
        """Return a browser of somebody who is signed in."""
        browser = self.browser(name)
        answer = browser.go(self.begin())
        assert answer.status_code == 200, (answer.text, self.provider.log())
        return browser

    def whoami(self, browser: Browser) -> httpx.Response:
        """Ask who a browser is."""
        return browser.get(f"{self.url}{V1}/whoami")

    def signs_in(self, name: str, do: Callable[[Browser, str], object]) -> Answer:
        """Run `sprat login --oidc`, and do something with the address that it shows."""
        self.home.mkdir(exist_ok=True)
        command = (
            *("login", self.url, "--oidc", "--ca", str(self.controller.data / "ca.pem")),
            *("-o", "json"),
        )
        with subprocess.Popen(
            [BIN / "sprat", *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self._environment(),
        ) as running:
            assert running.stderr is not None
            try:
                said = [running.stderr.readline(), running.stderr.readline()]
                assert "http" in said[-1], said
                do(self.browser(name), said[-1].split()[-1])
                output, errors = running.communicate(timeout=60)
            finally:
                running.kill()
        return Answer(command, running.returncode, output, "".join(said) + errors)

    def sprat_of_home(self, *arguments: str) -> Answer:
        """Run the operators' command as who signed in with it."""
        done = subprocess.run(
            [BIN / "sprat", *arguments, "-o", "json"],
            check=False,
            capture_output=True,
            text=True,
            env=self._environment(),
        )
        return Answer(arguments, done.returncode, done.stdout, done.stderr)

    def _environment(self) -> dict[str, str]:
        kept = {name: one for name, one in os.environ.items() if not name.startswith("SPRAT_")}
        return kept | {"HOME": str(self.home), "XDG_CONFIG_HOME": str(self.home / ".config")}

    def admin(self, *arguments: str) -> Any:
        """Run the operators' command as an administrator of here."""
        return self.controller.sprat(*arguments, "-o", "json").json

    def user(self, known_as: str) -> dict[str, Any]:
        """Return the user whom the provider calls so."""
        users = self.admin("users", "list")["items"]
        return next(one for one in users if one.get("known_as") == known_as)

    def records(self, tag: str) -> list[dict[str, Any]]:
        """Return what the audit log says of a kind."""
        with_tag = self.admin("audit", "list", "--tag", tag, "--limit", "100")
        return list(with_tag["items"])


@pytest.fixture(scope="module")
def works(tmp_path_factory: pytest.TempPathFactory) -> Generator[Works]:
    made = Works(tmp_path_factory.mktemp("works"))
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(autouse=True)
def as_before(works: Works) -> Generator[None]:
    """Have everybody be in their groups again."""
    yield
    works.provider.put_in_groups(**EVERYBODY)


def error_of(answer: httpx.Response) -> tuple[int, str]:
    error = answer.json()["error"]
    assert "\n" not in error["message"]
    return answer.status_code, error["code"]


def test_who_signs_in_in_a_browser_has_the_roles_of_their_groups(works: Works) -> None:
    browser = works.browser("bob")
    answer = browser.go(works.begin())
    assert answer.status_code == 200, (answer.text, works.provider.log())
    assert str(answer.url) == f"{works.url}{V1}/whoami"
    who = answer.json()
    assert who["subject"].startswith("user:oidc-")
    assert who["authn"] == "oidc"
    assert who["roles"] == [{"role": "operator", "scope": "site = lyon"}]
    assert who["csrf"]
    sent = next(one for one in browser.path if "/auth?" in one)
    asked = parse_qs(urlsplit(sent).query)
    assert asked["code_challenge_method"] == ["S256"]
    assert asked["response_type"] == ["code"]
    assert {"state", "nonce", "code_challenge"} <= asked.keys()
    bob = works.user("bob")
    assert (bob["id"], bob["issuer"]) == (who["subject"], works.provider.issuer)
    (binding,) = works.admin("bindings", "list", "--of", bob["name"])["items"]
    assert binding["created_by"] == "provider"
    assert binding["ends_at"] is not None
    begun = works.records("operator:session:begun")
    assert any(bob["id"] in json.dumps(one) for one in begun)
    given = works.records("provider:role:given")
    assert any("operator over site = lyon" in json.dumps(one) for one in given)


def test_the_same_person_is_the_same_user_the_next_time(works: Works) -> None:
    first = works.whoami(works.signed_in("wim")).json()["subject"]
    assert works.whoami(works.signed_in("wim")).json()["subject"] == first


@pytest.mark.parametrize("name", ["eve", "ida"])
def test_whose_groups_give_nothing_gets_nothing(works: Works, name: str) -> None:
    answer = works.browser(name).go(works.begin())
    assert error_of(answer) == (403, "no_role")
    assert COOKIE not in answer.headers.get("set-cookie", "")
    known = [one["known_as"] for one in works.admin("users", "list")["items"]]
    assert name not in known
    refused = works.records("provider:login:refused")
    assert any("no_role" in json.dumps(one) for one in refused)


def test_a_way_back_counts_once_and_in_its_own_browser_only(works: Works) -> None:
    browser = works.browser("wim")
    browser.go(works.begin(), until=f"{V1}/oidc/callback")
    back = browser.path[-1]
    assert error_of(works.browser("eve").get(back)) == (400, "sign_in_unknown")
    assert browser.go(back).status_code == 200
    assert error_of(browser.get(back)) == (400, "sign_in_unknown")


def test_who_does_not_want_to_is_told_so(works: Works) -> None:
    browser = works.browser("wim")
    browser.go(works.begin(), until="/interaction")
    aborted = browser.go(f"{browser.path[-1]}/abort")
    assert error_of(aborted) == (403, "sign_in_denied")


def test_who_is_disabled_here_is_out_at_once_and_stays_out(works: Works) -> None:
    browser = works.signed_in("wim")
    wim = works.user("wim")["name"]
    works.admin("users", "disable", wim)
    try:
        assert error_of(works.whoami(browser)) == (401, "not_authenticated")
        assert error_of(works.browser("wim").go(works.begin())) == (403, "user_disabled")
    finally:
        works.admin("users", "enable", wim)
    works.signed_in("wim")


def test_who_left_a_group_has_less_with_the_next_sign_in_in_all_their_sessions(
    works: Works,
) -> None:
    before = works.signed_in("bob")
    works.provider.put_in_groups(**EVERYBODY | {"bob": ["watchers"]})
    works.signed_in("bob")
    roles = works.whoami(before).json()["roles"]
    assert roles == [{"role": "viewer", "scope": ""}]
    works.provider.put_in_groups(**EVERYBODY | {"bob": []})
    assert error_of(works.browser("bob").go(works.begin())) == (403, "no_role")
    assert error_of(works.whoami(before)) == (401, "not_authenticated")


def test_the_command_signs_in_by_a_code_that_is_typed_elsewhere(works: Works) -> None:
    said = works.signs_in("bob", lambda browser, address: browser.go(address))
    assert said.status == 0, said.errors
    assert json.loads(said.output)["roles"] == [{"role": "operator", "scope": "site = lyon"}]
    kept = works.home / ".config" / "sprat" / "config.json"
    assert kept.stat().st_mode & 0o777 == 0o600
    token = json.loads(kept.read_text())["token"]
    assert token.startswith("sprat-session.")
    assert token not in said.output + said.errors
    # Later calls are theirs, until they are signed out here.
    assert works.sprat_of_home("whoami").json["authn"] == "oidc"
    bob = works.user("bob")["id"]
    mine = [one for one in works.admin("sessions", "list")["items"] if one["subject_id"] == bob]
    works.admin("sessions", "revoke", next(one["id"] for one in mine if one["kind"] == "bearer"))
    refused = works.sprat_of_home("whoami")
    assert refused.status == 4
    assert SECRET not in works.controller.log.read_text() + said.errors


def test_the_command_says_so_if_somebody_does_not_want_to(works: Works) -> None:
    def abort(browser: Browser, address: str) -> None:
        browser.go(address, until="/interaction")
        browser.go(f"{browser.path[-1]}/abort")

    said = works.signs_in("wim", abort)
    assert said.status == 4
    assert "sign_in_denied" in said.errors
    assert len(said.errors.splitlines()[-1]) < 200


def test_the_command_says_so_if_the_groups_give_nothing(works: Works) -> None:
    said = works.signs_in("eve", lambda browser, address: browser.go(address))
    assert said.status == 4
    assert "no_role" in said.errors


def test_the_command_says_so_if_nobody_types_the_code_in_time(works: Works) -> None:
    works.provider.control(set={"deviceTtl": 3})
    try:
        said = works.signs_in("wim", lambda _browser, _address: None)
    finally:
        works.provider.control(set={"deviceTtl": 600})
    assert said.status in (4, 64)
    assert "again" in said.errors.splitlines()[-1]


def test_a_key_of_the_provider_may_change_at_any_time(works: Works) -> None:
    works.signed_in("wim")
    works.provider.rotate()
    works.signed_in("wim")


def test_groups_may_be_told_by_userinfo(works: Works) -> None:
    works.provider.control(set={"groupsIn": "userinfo"})
    try:
        roles = works.whoami(works.signed_in("bob")).json()["roles"]
        assert roles == [{"role": "operator", "scope": "site = lyon"}]
        assert works.provider.asked("/me") >= 1
    finally:
        works.provider.control(set={"groupsIn": "id_token"})


def test_revocation_within_5_s_by_who_signs_out_at_the_provider(works: Works) -> None:
    browser, other = works.signed_in("wim"), works.signed_in("wim")
    assert works.whoami(other).status_code == 200
    began = time.monotonic()
    browser.go(f"{works.provider.issuer}/session/end")
    wait_for(
        "the session to end",
        lambda: works.whoami(browser).status_code == 401,
        timeout_s=ENDS_WITHIN_S,
    )
    assert time.monotonic() - began < ENDS_WITHIN_S
    # That of another browser came of another session at the provider.
    assert works.whoami(other).status_code == 200
    ended = works.records("operator:session:ended")
    assert any('"provider"' in json.dumps(one) for one in ended), works.provider.log()


def test_without_the_provider_one_is_told_so_and_comes_in_otherwise(works: Works) -> None:
    browser = works.signed_in("wim")
    works.provider.stop()
    try:
        assert works.whoami(browser).status_code == 200
        asked = browser.go(works.begin())
        # What it said of itself is kept for a while: the browser is sent there in vain.
        assert asked.status_code == 503
    except httpx.ConnectError:
        pass
    finally:
        works.provider.start()
    works.signed_in("wim")


def test_a_controller_starts_without_its_provider(works: Works) -> None:
    works.provider.stop()
    try:
        works.controller.terminate()
        works.controller.start()
        answer = works.browser("wim").get(works.begin())
        assert error_of(answer) == (503, "provider_unreachable")
        assert works.admin("whoami")["subject"] == "user:admin"
    finally:
        works.provider.start()
    # It is asked again after a moment.
    wait_for(
        "the provider to be asked again",
        lambda: works.browser("wim").get(works.begin()).status_code == 302,
        timeout_s=20,
    )
    works.signed_in("wim")
