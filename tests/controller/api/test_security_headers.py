"""What every answer tells a browser."""

from __future__ import annotations

import base64
import hashlib
import re

import httpx
import pytest
from simulators.http_world import HttpWorld
from sprat_controller.access import tokens

V1 = "/api/v1"


def policy_of(answer: httpx.Response) -> dict[str, list[str]]:
    parts = answer.headers["content-security-policy"].split(";")
    return {name: values for name, *values in (part.split() for part in parts)}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/livez", 200),
        ("GET", f"{V1}/whoami", 200),
        ("GET", f"{V1}/devices/nobody", 404),
        ("GET", "/nowhere", 404),
        ("PUT", "/livez", 405),
        ("POST", f"{V1}/users", 422),
        ("GET", "/enrol/ca.pem", 200),
    ],
)
async def test_every_answer_allows_a_browser_nothing(
    shared: HttpWorld, method: str, path: str, status: int
) -> None:
    answer = await shared.client().send(method, path)
    assert answer.status_code == status
    assert policy_of(answer) == {
        "default-src": ["'none'"],
        "frame-ancestors": ["'none'"],
        "base-uri": ["'none'"],
        "form-action": ["'none'"],
    }
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["strict-transport-security"] == "max-age=63072000"
    assert (answer.headers.get("cache-control") == "no-store") == path.startswith("/api/")


async def test_a_failure_of_the_controller_has_them_too(
    shared: HttpWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "recognise", None)
    answer = await shared.client().get("devices")
    assert answer.status_code == 500
    assert policy_of(answer)["default-src"] == ["'none'"]


async def test_the_page_runs_its_own_script_by_its_hash_and_no_other(shared: HttpWorld) -> None:
    page = await shared.client(None).send("GET", "/docs")
    (script,) = re.findall(r"<script>(.*?)</script>", page.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = policy_of(page)
    assert policy["script-src"] == ["'self'", f"'sha256-{digest}'"]
    assert policy["default-src"] == policy["frame-ancestors"] == ["'none'"]
