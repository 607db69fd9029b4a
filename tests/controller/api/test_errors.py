"""Whatever is wrong with a request, the answer has one shape and no traceback."""

from __future__ import annotations

import json

import pytest
from simulators.http_world import Client, error_of
from simulators.lyon_calls import SIGNING_IN
from sprat_controller.api.middleware import MAX_BODY_BYTES
from sprat_controller.fleet import inventory

V1 = "/api/v1"


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "route_not_found"),
        ("GET", f"{V1}/nothing", 404, "route_not_found"),
        ("GET", f"{V1}/devices/", 404, "route_not_found"),
        ("POST", "/livez", 405, "method_not_allowed"),
        ("DELETE", f"{V1}/devices", 405, "method_not_allowed"),
        ("GET", f"{V1}/devices/nobody", 404, "device_not_found"),
        ("PATCH", f"{V1}/devices/nobody", 422, "invalid_request"),
        ("DELETE", f"{V1}/devices/nobody", 404, "device_not_found"),
        ("GET", f"{V1}/devices/nobody/audit", 404, "device_not_found"),
        ("GET", f"{V1}/devices/nobody/audit/verify", 404, "device_not_found"),
        ("GET", f"{V1}/devices?limit=0", 422, "invalid_request"),
        ("GET", f"{V1}/devices?limit=1001", 422, "invalid_request"),
        ("GET", f"{V1}/devices?limit=many", 422, "invalid_request"),
        ("GET", f"{V1}/devices?state=ASLEEP", 422, "invalid_request"),
        ("GET", f"{V1}/devices?label=site", 400, "bad_label"),
        ("GET", f"{V1}/devices?label=a=1&label=a=2", 400, "bad_label"),
        ("GET", f"{V1}/audit?after=-1", 422, "invalid_request"),
        ("GET", f"{V1}/audit?after={1 << 70}", 422, "invalid_request"),
        ("DELETE", f"{V1}/tokens/nothing", 404, "token_not_found"),
        ("DELETE", f"{V1}/enrolment-tokens/nothing", 404, "enrolment_token_not_found"),
        ("GET", f"{V1}/models/nothing", 404, "model_not_found"),
        ("GET", f"{V1}/models/nothing/releases/1.0.0", 404, "model_not_found"),
        ("GET", f"{V1}/rollouts/nothing", 404, "rollout_not_found"),
        ("GET", f"{V1}/rollouts/nothing/executions", 404, "rollout_not_found"),
        ("POST", f"{V1}/rollouts/nothing/start", 404, "rollout_not_found"),
        ("POST", f"{V1}/rollouts/nothing/explode", 404, "route_not_found"),
        ("GET", "/blobs/sha256/xyz", 422, "invalid_request"),
        ("GET", f"/blobs/sha256/{'0' * 64}", 404, "blob_not_found"),
        ("PUT", f"{V1}/blobs/sha256/{'0' * 63}g", 422, "invalid_request"),
    ],
)
async def test_each_mistake_has_its_code(
    guest: Client, method: str, path: str, status: int, code: str
) -> None:
    assert error_of(await guest.send(method, path)) == (status, code)


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("enrolment-tokens", {"device_id": 1}, "device_id"),
        ("enrolment-tokens", {"device_id": "a", "ttl_s": 1}, "ttl_s"),
        ("enrolment-tokens", {"device_id": "a", "labels": {"a": 1}}, "labels.a"),
        ("enrolment-tokens", {"device_id": "a", "colour": "red"}, "colour"),
        ("tokens", {"name": "x", "role": "The Emperor"}, "role"),
        ("users", {"name": "x", "kind": "device"}, "kind"),
        ("roles", {"name": "x", "permissions": ["fly"]}, "permissions.0"),
        ("tokens", {"name": "No Name", "role": "viewer"}, "name"),
        ("tokens", {"name": "x", "role": "viewer", "expires_days": 0}, "expires_days"),
        ("trust/image", {"files": {"1.root.json": "x"}}, "files.1.root.json"),
        (
            "models/m/releases",
            {"release": "1.0.0", "publisher": "me", "metadata": "x"},
            "metadata",
        ),
        (
            "rollouts",
            {"model": "m", "release": "1.0.0", "alias": "a", "start_at": "tomorrow"},
            "start_at",
        ),
        (
            "rollouts",
            {"model": "m", "release": "1.0.0", "alias": "a", "start_at": "2026-12-01T03:00:00"},
            "start_at",
        ),
        (
            "rollouts",
            {"model": "m", "release": "1.0.0", "alias": "a", "max_in_progress": 1 << 70},
            "max_in_progress",
        ),
    ],
)
async def test_a_wrong_field_is_named(
    guest: Client, path: str, body: dict[str, object], field: str
) -> None:
    answer = await guest.post(path, body)
    assert error_of(answer) == (422, "invalid_request")
    assert (
        answer.json()["error"]["message"].startswith(f"{field}: expected")
        or "found" in (answer.json()["error"]["message"])
    )
    assert answer.json()["error"]["details"]["faults"][0]["field"] == field


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'"text"', b"null", b"\xff\xfe", b'{"device_id": NaN', b"[" * 10_000],
)
async def test_a_body_that_is_no_json_object_is_refused(guest: Client, content: bytes) -> None:
    answer = await guest.send(
        "POST",
        f"{V1}/enrolment-tokens",
        content=content,
        headers={"content-type": "application/json"},
    )
    assert answer.status_code in (400, 422)
    assert error_of(answer)[1] == "invalid_request"


async def test_a_body_that_is_too_large_is_refused(guest: Client) -> None:
    body = json.dumps({"name": "x", "role": "x" * MAX_BODY_BYTES}).encode()
    answer = await guest.send(
        "POST", f"{V1}/tokens", content=body, headers={"content-type": "application/json"}
    )
    assert error_of(answer) == (413, "body_too_large")


async def test_a_request_keeps_its_id_and_a_strange_one_is_replaced(guest: Client) -> None:
    kept = await guest.send("GET", "/livez", headers={"x-request-id": "abc-1"})
    assert kept.headers["x-request-id"] == "abc-1"
    strange = await guest.send("GET", "/livez", headers={"x-request-id": "a b"})
    assert strange.headers["x-request-id"].startswith("id-")


async def test_a_bug_is_told_without_its_traceback(
    guest: Client, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inventory, "page", None)
    answer = await guest.get("devices")
    assert error_of(answer) == (500, "internal_error")
    assert answer.headers["x-request-id"] in answer.json()["error"]["message"]
    assert f"request {answer.headers['x-request-id']}: GET /api/v1/devices" in caplog.text


async def test_half_a_character_in_a_name_is_a_mistake_of_the_caller(guest: Client) -> None:
    content = b'{"device_id": "\\ud800", "\\udfff": 1}'
    answer = await guest.send(
        "POST",
        f"{V1}/enrolment-tokens",
        content=content,
        headers={"content-type": "application/json"},
    )
    assert error_of(answer) == (422, "invalid_request")


async def test_every_documented_error_has_the_one_shape(guest: Client) -> None:
    document = (await guest.send("GET", "/openapi.json")).json()
    assert document["components"]["securitySchemes"]["operator"]["scheme"] == "bearer"
    for path, methods in document["paths"].items():
        for method, route in methods.items():
            where = f"{method} {path}"
            answers = route["responses"]
            if path.startswith(V1) and not path.startswith(SIGNING_IN):  # nobody is signed in yet
                assert {"401", "403"} <= set(answers), where
                assert {"operator": []} in route["security"], where
            for status, answer in answers.items():
                if int(status) >= 400:
                    schema = answer["content"]["application/json"]["schema"]
                    assert schema["$ref"].endswith("/ErrorAnswer"), f"{where} {status}"
