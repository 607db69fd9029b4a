"""The file of `--oidc`: what it means, and one sentence for each fault, all at once."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from sprat_controller.access.oidc import configuration
from sprat_controller.access.oidc.mapping import Given, Rule
from sprat_controller.errors import StartupError

GOOD = """
issuer = "https://id.example/realms/works"
client_id = "sprat"
client_secret_file = "oidc.secret"
redirect_uri = "https://ctl.example:7770/api/v1/oidc/callback"
{more}
[[role]]
group = "fleet-admins"
role = "admin"

[[role]]
group = "lyon"
role = "operator"
scope = "site=lyon"
"""


def write(folder: Path, text: str) -> Path:
    (folder / "oidc.secret").write_text("hunter2-hunter2\n")
    file = folder / "oidc.toml"
    file.write_text(text)
    return file


def faults(folder: Path, text: str) -> list[str]:
    file = write(folder, text)
    with pytest.raises(StartupError) as caught:
        configuration.load(file)
    assert "hunter2" not in caught.value.message
    lines = caught.value.message.splitlines()
    assert all(line.startswith(f"--oidc {file}") for line in lines)
    return [line.removeprefix(f"--oidc {file}").removeprefix(": ") for line in lines]


def test_a_file_says_with_whom_and_what_groups_give(tmp_path: Path) -> None:
    found = configuration.load(write(tmp_path, GOOD.format(more="session_hours = 4")))
    assert (found.client_secret, found.client_auth) == ("hunter2-hunter2", "basic")
    assert found.algorithms == ("RS256",)
    assert found.lifetime == timedelta(hours=4)
    assert found.rules == (
        Rule("fleet-admins", Given("admin")),
        Rule("lyon", Given("operator", "site = lyon")),
    )


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        ('algorithms = ["HS256"]', "algorithms: expected some of RS256"),
        ('algorithms = ["none"]', "algorithms: expected some of RS256"),
        ("algorithms = []", "algorithms: expected a list of texts, found []"),
        ('algorithms = "RS256"', "algorithms: expected a list of texts, found 'RS256'"),
        ("session_hours = 13", "session_hours: expected 1 to 12 hours, found 13"),
        ("session_hours = 0", "session_hours: expected 1 to 12 hours, found 0"),
        ("session_hours = true", "session_hours: expected 1 to 12 hours, found True"),
        ('scopes = ["profile"]', "scopes: expected 'openid' and others"),
        ('ca_file = "none.pem"', "ca_file: "),
        ('ca_file = "oidc.secret"', "ca_file: "),
        ('groups_claim = ""', "groups_claim: expected a text, found ''"),
        ('client_auth = "none"', "client_secret_file: expected one with client_auth basic"),
        ('client_auth = "jwt"', "client_auth: expected basic, post or none, found 'jwt'"),
        ("gruops_claim = 7", "gruops_claim: there is no such setting"),
        ("max_auth_age_hours = -1", "max_auth_age_hours: expected 1 to 8760 hours, found -1"),
    ],
)
def test_what_it_cannot_mean_is_told(tmp_path: Path, more: str, fault: str) -> None:
    (found,) = faults(tmp_path, GOOD.format(more=more))
    assert found.startswith(fault)


@pytest.mark.parametrize(
    ("before", "after", "fault"),
    [
        ("https://id.example/realms/works", "http://id.example", "issuer: expected https"),
        (
            "https://id.example/realms/works",
            "https://id.example?x=1",
            "issuer: expected an address",
        ),
        ("/oidc/callback", "/callback", "redirect_uri: expected https://HOST:PORT/api/v1/oidc"),
        ("https://ctl.example", "http://ctl.example", "redirect_uri: expected https"),
        ("oidc.secret", "none.secret", "client_secret_file: "),
        ('"sprat"', "7", "client_id: expected a text, found 7"),
        ('client_id = "sprat"', "", "client_id: expected a text, found nothing"),
        ('"site=lyon"', '"site ="', "role 2: scope: "),
        ('"site=lyon"', '"state = ENROLLED"', "role 2: "),
        ('"site=lyon"', "7", "role 2: expected a filter as scope, found 7"),
        ('role = "admin"', 'role = "The Emperor"', "role 1: expected the name of a role"),
        ('role = "admin"', "", "role 1: expected the name of a role"),
        ('group = "lyon"', 'gruop = "lyon"', "role 2: expected group, role and maybe scope"),
        ('group = "lyon"', "group = 7", "role 2: expected the name of a group, found 7"),
    ],
)
def test_what_is_not_as_it_must_be_is_told(
    tmp_path: Path, before: str, after: str, fault: str
) -> None:
    (found,) = faults(tmp_path, GOOD.format(more="").replace(before, after))
    assert found.startswith(fault)


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    text = 'issuer = "x"\nclient_id = ""\nrole = []\n'
    named = [fault.split(":")[0] for fault in faults(tmp_path, text)]
    assert named == ["client_id", "issuer", "redirect_uri", "role"]


@pytest.mark.parametrize(
    "content", [b"", b"issuer =", b"\xff", b"[role]\nx = 1", b"x = " + b"[" * 10_000]
)
def test_what_is_no_such_file_is_told(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "oidc.toml"
    file.write_bytes(content)
    with pytest.raises(StartupError):
        configuration.load(file)
    with pytest.raises(StartupError, match="No such file"):
        configuration.load(tmp_path / "none.toml")


def test_a_client_without_a_secret_is_public(tmp_path: Path) -> None:
    text = GOOD.format(more="").replace('client_secret_file = "oidc.secret"\n', "")
    found = configuration.load(write(tmp_path, text))
    assert (found.client_secret, found.client_auth) == (None, "none")
