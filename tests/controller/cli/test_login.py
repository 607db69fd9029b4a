from __future__ import annotations

import json
import ssl
from datetime import datetime, timedelta
from pathlib import Path

import httpx
import pytest
from simulators.operator_api import ADMIN, PASSWORD, URL, VIEWER, OperatorApi
from simulators.sprat_command import Sprat


@pytest.fixture
def stranger(api: OperatorApi, tmp_path: Path) -> Sprat:
    """A person without settings."""
    return Sprat(api, {"HOME": str(tmp_path / "home")})


def kept(sprat: Sprat) -> Path:
    return Path(sprat.environ["HOME"]) / ".config" / "sprat" / "config.json"


def test_login_keeps_what_later_calls_need_for_this_user_only(stranger: Sprat) -> None:
    said = stranger("login", f"{URL}/", "--token", ADMIN, "-o", "json")
    assert said.json["roles"] == [{"role": "admin", "scope": ""}]
    assert json.loads(kept(stranger).read_text()) == {"url": URL, "token": ADMIN, "ca": None}
    assert kept(stranger).stat().st_mode & 0o777 == 0o600
    assert stranger("whoami").lines == [
        ["name", "user:root"],
        ["roles", "admin over everything"],
        ["token", "admin over everything"],
    ]


def test_a_token_comes_from_a_file_or_from_standard_input(stranger: Sprat, tmp_path: Path) -> None:
    file = tmp_path / "admin.token"
    file.write_text(f"{ADMIN}\n")
    assert stranger("login", URL, "--token-file", str(file)).status == 0
    assert stranger("login", URL, "--token-file", "-", stdin=f"{ADMIN}\n").status == 0


def test_a_wrong_token_is_not_kept(stranger: Sprat) -> None:
    stranger("login", URL, "--token", "sprat_wrong").assert_one_sentence(4)
    assert not kept(stranger).exists()


def test_without_settings_one_is_told_what_to_do(stranger: Sprat) -> None:
    said = stranger("devices", "list")
    said.assert_one_sentence(64)
    assert "sprat login" in said.errors
    stranger.environ["SPRAT_URL"] = URL
    said = stranger("devices", "list")
    said.assert_one_sentence(4)
    assert "no token" in said.errors


def test_options_go_before_the_environment_and_that_before_login(stranger: Sprat) -> None:
    stranger("login", URL, "--token", ADMIN)
    stranger.environ["SPRAT_TOKEN"] = "sprat_other"
    stranger("whoami").assert_one_sentence(4)
    assert stranger("whoami", "--token", ADMIN).status == 0


def test_the_token_of_login_is_sent_to_no_other_controller(stranger: Sprat) -> None:
    stranger("login", URL, "--token", ADMIN)
    calls = len(stranger.api.calls)
    stranger("whoami", "--url", "https://elsewhere.test").assert_one_sentence(4)
    assert len(stranger.api.calls) == calls


@pytest.mark.parametrize("content", ["{", "[]", '{"url": 7}', '{"url": ["x"]}'])
def test_settings_that_are_broken_are_named(stranger: Sprat, content: str) -> None:
    kept(stranger).parent.mkdir(parents=True)
    kept(stranger).write_text(content)
    said = stranger("whoami")
    said.assert_one_sentence(1)
    assert "config.json" in said.errors
    assert "sprat login" in said.errors


def test_settings_that_cannot_be_written_are_named(stranger: Sprat) -> None:
    Path(stranger.environ["HOME"]).write_text("a file where a folder should be")
    said = stranger("login", URL, "--token", ADMIN)
    said.assert_one_sentence(1)
    assert "cannot be written" in said.errors


def test_a_certificate_of_another_authority_is_told_from_an_absent_controller(
    sprat: Sprat,
) -> None:
    def fail(request: httpx.Request) -> httpx.Response:
        cause = ssl.SSLCertVerificationError(1, "certificate verify failed: unknown issuer")
        raise httpx.ConnectError("[SSL] certificate verify failed", request=request) from cause

    sprat.api.answer = fail
    said = sprat("whoami")
    said.assert_one_sentence(1)
    assert "--ca" in said.errors
    assert "does not vouch" in said.errors


def test_a_controller_that_does_not_answer_is_named(sprat: Sprat) -> None:
    def fail(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("timed out", request=request)

    sprat.api.answer = fail
    said = sprat("whoami")
    said.assert_one_sentence(1)
    assert "did not answer in time" in said.errors


@pytest.mark.parametrize(
    ("http", "code", "status"),
    [
        (400, "x", 64),
        (401, "x", 4),
        (403, "x", 4),
        (404, "x", 1),
        (409, "x", 5),
        (422, "release_refused", 6),
        (422, "invalid_request", 64),
        (429, "x", 1),
        (500, "x", 1),
        (507, "x", 1),
    ],
)
def test_each_refusal_of_the_api_has_its_exit_status(
    sprat: Sprat, http: int, code: str, status: int
) -> None:
    error = {"code": code, "message": "expected this, found that"}
    sprat.api.answer = lambda _: httpx.Response(
        http, json={"error": error}, headers={"x-request-id": "req-7"}
    )
    said = sprat("whoami")
    said.assert_one_sentence(status)
    assert "expected this, found that" in said.errors
    assert "req-7" in said.errors


def test_a_refusal_cannot_steer_the_terminal(sprat: Sprat) -> None:
    error = {"code": "x", "message": "line\n\x1b[2Jtwo"}
    sprat.api.answer = lambda _: httpx.Response(409, json={"error": error})
    said = sprat("whoami")
    said.assert_one_sentence(5)
    assert "\x1b" not in said.errors


def test_tokens_are_made_listed_and_revoked(sprat: Sprat) -> None:
    made = sprat("tokens", "create", "ci", "--role", "publisher", "--expires-days", "90")
    assert ["token", "secret-id-1"] in made.lines
    assert "only once" in made.errors
    body = {"name": "ci", "role": "publisher", "scope": "", "expires_days": 90}
    assert sprat.api.bodies[-1] == body
    more = sprat(
        "tokens", "create", "night", "--role", "viewer", "--for", "ci", "--scope", "site = a"
    )
    assert more.status == 0
    body = {"name": "night", "role": "viewer", "scope": "site = a", "expires_days": 90}
    assert sprat.api.bodies[-1] == {**body, "subject": "ci"}
    listed = sprat("tokens", "list", "-o", "json")
    assert [one["name"] for one in listed.json["items"]] == ["ci", "night"]
    assert "secret" not in listed.output
    assert sprat("tokens", "revoke", "id-1").status == 0
    assert sprat.api.calls[-1] == ("DELETE", "/api/v1/tokens/id-1")


def test_who_signs_in_with_a_password_keeps_the_session_and_not_the_password(
    stranger: Sprat, tmp_path: Path
) -> None:
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD}\n")
    said = stranger("login", URL, "--user", "root", "--password-file", str(file))
    assert said.status == 0, said
    assert stranger.api.bodies[-1] == {"name": "root", "password": PASSWORD}
    assert json.loads(kept(stranger).read_text()) == {"url": URL, "token": ADMIN, "ca": None}
    assert kept(stranger).stat().st_mode & 0o777 == 0o600
    typed = stranger("login", URL, "--user", "root", "--password-file", "-", stdin=PASSWORD)
    assert typed.status == 0
    assert PASSWORD not in said.output + said.errors + typed.output + typed.errors


def test_a_wrong_password_is_not_kept_and_not_shown(stranger: Sprat) -> None:
    wrong = "eleven otters under ice"
    said = stranger("login", URL, "--user", "root", "--password-file", "-", stdin=wrong)
    said.assert_one_sentence(4)
    assert wrong not in said.errors
    assert not kept(stranger).exists()


def test_logging_out_ends_the_session_and_keeps_it_no_longer(stranger: Sprat) -> None:
    stranger("login", URL, "--user", "root", "--password-file", "-", stdin=PASSWORD)
    assert stranger("logout").status == 0
    assert stranger.api.calls[-1] == ("POST", "/api/v1/logout")
    assert not kept(stranger).exists()
    stranger("whoami").assert_one_sentence(64)


def test_logging_out_another_session_leaves_what_login_kept(stranger: Sprat) -> None:
    stranger("login", URL, "--token", ADMIN)
    assert stranger("logout", "--token", VIEWER).status == 4
    stranger("logout", "--url", "https://elsewhere.test", "--token", ADMIN)
    assert kept(stranger).exists()


def test_a_password_is_set_from_a_file_with_the_one_before(sprat: Sprat, tmp_path: Path) -> None:
    new, old = tmp_path / "new", tmp_path / "old"
    new.write_text("eleven otters under ice\n")
    old.write_text(PASSWORD)
    files = ["--password-file", str(new), "--current-file", str(old)]
    said = sprat("users", "set-password", "root", *files)
    assert said.status == 0, said
    assert sprat.api.calls[-1] == ("PUT", "/api/v1/users/root/password")
    assert sprat.api.bodies[-1] == {"password": "eleven otters under ice", "current": PASSWORD}
    assert "otters" not in said.output + said.errors


class Elsewhere:
    """A controller whose people sign in at a provider: its answers, one after the other."""

    def __init__(self, sprat: Sprat, *answers: httpx.Response) -> None:
        self.sprat = sprat
        self.answers = list(answers)
        self.asked: list[datetime] = []
        sprat.api.answer = self._answer

    def _answer(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/api/v1/oidc/device":
            body = {
                "handle": "sprat-device.x",
                "user_code": "WDJB-MJHT",
                "verification_uri": "https://id.example/code",
                "verification_uri_complete": "https://id.example/code?c=WDJB-MJHT",
                "expires_at": (self.sprat.now + timedelta(minutes=1)).isoformat(),
                "interval_s": 5,
            }
            return httpx.Response(200, json=body)
        if request.url.path == "/api/v1/oidc/device/token":
            self.asked.append(self.sprat.now)
            return self.answers.pop(0) if self.answers else waiting(5)
        assert request.headers["authorization"] == "Bearer sprat-session.x"
        return httpx.Response(200, json={"subject": "user:oidc-1", "roles": []})


def waiting(interval_s: int) -> httpx.Response:
    return httpx.Response(200, json={"interval_s": interval_s, "login": None})


def test_signing_in_elsewhere_waits_as_long_as_it_is_told(stranger: Sprat) -> None:
    began = stranger.now
    done = httpx.Response(200, json={"interval_s": None, "login": {"token": "sprat-session.x"}})
    elsewhere = Elsewhere(stranger, waiting(5), waiting(10), done)
    said = stranger("login", URL, "--oidc")
    assert said.status == 0, said
    assert "https://id.example/code?c=WDJB-MJHT" in said.errors
    waits = [(at - began).total_seconds() for at in elsewhere.asked]
    assert waits == [5, 10, 20]
    assert json.loads(kept(stranger).read_text())["token"] == "sprat-session.x"
    assert "sprat-session" not in said.output + said.errors


def test_signing_in_elsewhere_ends_when_its_code_does(stranger: Sprat) -> None:
    elsewhere = Elsewhere(stranger)
    said = stranger("login", URL, "--oidc")
    assert said.status == 4
    assert said.errors.splitlines()[-1].startswith("sprat: nobody typed the code in time")
    assert len(elsewhere.asked) == 12
    assert not kept(stranger).exists()


def test_signing_in_elsewhere_outlasts_a_controller_that_is_away_for_a_moment(
    stranger: Sprat,
) -> None:
    done = httpx.Response(200, json={"interval_s": None, "login": {"token": "sprat-session.x"}})
    elsewhere = Elsewhere(stranger, done)
    answer = stranger.api.answer
    assert answer is not None

    def away(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/token") and len(elsewhere.asked) < 2:
            elsewhere.asked.append(stranger.now)
            raise httpx.ConnectError("refused", request=request)
        return answer(request)

    stranger.api.answer = away
    assert stranger("login", URL, "--oidc").status == 0
    assert len(elsewhere.asked) == 3


@pytest.mark.parametrize(
    ("http", "code", "status"),
    [(403, "sign_in_denied", 4), (403, "no_role", 4), (502, "provider_failed", 1)],
)
def test_who_is_not_let_in_elsewhere_is_told_why(
    stranger: Sprat, http: int, code: str, status: int
) -> None:
    error = {"code": code, "message": "expected this, found that"}
    Elsewhere(stranger, httpx.Response(http, json={"error": error}))
    said = stranger("login", URL, "--oidc")
    assert said.status == status
    assert said.errors.splitlines()[-1] == f"sprat: expected this, found that ({code})"
    assert not kept(stranger).exists()


@pytest.mark.parametrize(
    "body", [{}, {"handle": 7}, {"handle": "x", "expires_at": "soon"}, {"handle": "x"}]
)
def test_what_is_no_sign_in_is_told(stranger: Sprat, body: dict[str, object]) -> None:
    stranger.api.answer = lambda _: httpx.Response(200, json=body)
    stranger("login", URL, "--oidc").assert_one_sentence(1)
