"""Who may do what, for every route there is."""

from __future__ import annotations

import pytest
from simulators.http_world import HttpWorld, error_of
from simulators.lyon_calls import SIGNING_IN
from sprat_controller.access.policy import GRANTS, Permission, Role
from sprat_controller.store.tables import AuditRecord
from sqlmodel import col, select

V1 = "/api/v1"
D = "0" * 64
ROUTES: list[tuple[str, str, Permission | None]] = [
    ("GET", f"{V1}/whoami", None),
    ("GET", f"{V1}/tokens", None),
    ("POST", f"{V1}/tokens", None),
    ("DELETE", f"{V1}/tokens/x", None),
    ("POST", f"{V1}/logout", None),
    ("GET", f"{V1}/sessions", None),
    ("DELETE", f"{V1}/sessions/x", None),
    ("PUT", f"{V1}/users/x/password", None),  # one's own; of others: users:manage
    ("GET", f"{V1}/users", Permission.READ_USERS),
    ("POST", f"{V1}/users", Permission.MANAGE_USERS),
    ("POST", f"{V1}/users/x/disable", Permission.MANAGE_USERS),
    ("POST", f"{V1}/users/x/enable", Permission.MANAGE_USERS),
    ("GET", f"{V1}/roles", Permission.READ_USERS),
    ("POST", f"{V1}/roles", Permission.MANAGE_ROLES),
    ("PATCH", f"{V1}/roles/x", Permission.MANAGE_ROLES),
    ("DELETE", f"{V1}/roles/x", Permission.MANAGE_ROLES),
    ("GET", f"{V1}/bindings", Permission.READ_USERS),
    ("POST", f"{V1}/bindings", Permission.MANAGE_USERS),
    ("DELETE", f"{V1}/bindings/x", Permission.MANAGE_USERS),
    ("GET", f"{V1}/enrolment-tokens", Permission.ENROL),
    ("POST", f"{V1}/enrolment-tokens", Permission.ENROL),
    ("DELETE", f"{V1}/enrolment-tokens/x", Permission.ENROL),
    ("POST", f"{V1}/devices/a/release-quarantine", Permission.CHANGE_FLEET),
    ("GET", f"{V1}/devices", Permission.READ_FLEET),
    ("GET", f"{V1}/devices/x", Permission.READ_FLEET),
    ("GET", f"{V1}/devices/x/why", Permission.READ_FLEET),
    ("PATCH", f"{V1}/devices/x", Permission.CHANGE_FLEET),
    ("DELETE", f"{V1}/devices/x", Permission.CHANGE_FLEET),
    ("GET", f"{V1}/publishers", Permission.READ_MODELS),
    ("GET", f"{V1}/trust/image", Permission.READ_MODELS),
    ("GET", f"{V1}/trust/image/1.root.json", Permission.READ_MODELS),
    ("POST", f"{V1}/trust/image", Permission.MANAGE_TRUST),
    ("GET", "/image/timestamp.json", Permission.READ_BLOBS),
    ("HEAD", f"{V1}/blobs/sha256/{D}", Permission.PUBLISH),
    ("PUT", f"{V1}/blobs/sha256/{D}", Permission.PUBLISH),
    ("GET", f"/blobs/sha256/{D}", Permission.READ_BLOBS),
    ("HEAD", f"/blobs/sha256/{D}", Permission.READ_BLOBS),
    ("GET", f"{V1}/models", Permission.READ_MODELS),
    ("GET", f"{V1}/models/x", Permission.READ_MODELS),
    ("GET", f"{V1}/models/x/releases/1.0.0", Permission.READ_MODELS),
    ("POST", f"{V1}/models/x/releases", Permission.PUBLISH),
    ("POST", f"{V1}/models/x/releases/1.0.0/retire", Permission.PUBLISH),
    ("GET", f"{V1}/models/x/channels", Permission.READ_MODELS),
    ("PUT", f"{V1}/models/x/channels/stable/releases/1.0.0", Permission.CHANGE_CHANNELS),
    ("DELETE", f"{V1}/models/x/channels/stable/releases/1.0.0", Permission.CHANGE_CHANNELS),
    ("POST", f"{V1}/rollouts/plan", Permission.READ_ROLLOUTS),
    ("GET", f"{V1}/rollouts/plans", Permission.READ_ROLLOUTS),
    ("POST", f"{V1}/rollouts/plans", Permission.ROLL_OUT),
    ("GET", f"{V1}/rollouts/plans/x", Permission.READ_ROLLOUTS),
    ("POST", f"{V1}/rollouts/plans/x/apply", Permission.ROLL_OUT),
    ("POST", f"{V1}/fit", Permission.READ_ROLLOUTS),
    ("POST", f"{V1}/fit/matrix", Permission.READ_ROLLOUTS),
    ("POST", f"{V1}/rollouts", Permission.ROLL_OUT),
    ("GET", f"{V1}/rollouts", Permission.READ_ROLLOUTS),
    ("GET", f"{V1}/rollouts/x", Permission.READ_ROLLOUTS),
    ("GET", f"{V1}/rollouts/x/executions", Permission.READ_ROLLOUTS),
    ("GET", f"{V1}/rollouts/x/approval", Permission.READ_ROLLOUTS),
    ("PATCH", f"{V1}/rollouts/x", Permission.ROLL_OUT),
    *(
        ("POST", f"{V1}/rollouts/x/{verb}", Permission.APPROVE)
        for verb in ("approve", "deny", "review-override")
    ),
    ("POST", f"{V1}/rollouts/x/override-approval", Permission.BREAK_GLASS),
    *(
        ("POST", f"{V1}/rollouts/x/{verb}", Permission.ROLL_OUT)
        for verb in (
            *("start", "pause", "resume", "stop"),
            *("promote", "retry-failed", "roll-back"),
        )
    ),
    ("GET", f"{V1}/recurring-rollouts", Permission.READ_ROLLOUTS),
    ("POST", f"{V1}/recurring-rollouts", Permission.ROLL_OUT),
    ("GET", f"{V1}/recurring-rollouts/x", Permission.READ_ROLLOUTS),
    ("PATCH", f"{V1}/recurring-rollouts/x", Permission.ROLL_OUT),
    ("GET", f"{V1}/recurring-rollouts/x/occurrences", Permission.READ_ROLLOUTS),
    ("POST", f"{V1}/recurring-rollouts/x/pause", Permission.ROLL_OUT),
    ("POST", f"{V1}/recurring-rollouts/x/resume", Permission.ROLL_OUT),
    ("DELETE", f"{V1}/recurring-rollouts/x", Permission.ROLL_OUT),
    ("POST", f"{V1}/bundles", Permission.ROLL_OUT),
    ("GET", f"{V1}/audit", Permission.READ_AUDIT),
    ("GET", f"{V1}/audit/verify", Permission.READ_AUDIT),
    ("GET", f"{V1}/audit/key", Permission.READ_AUDIT),
    ("GET", f"{V1}/audit/checkpoint", Permission.READ_AUDIT),
    ("GET", f"{V1}/audit/proof/inclusion", Permission.READ_AUDIT),
    ("GET", f"{V1}/audit/proof/consistency", Permission.READ_AUDIT),
    ("POST", f"{V1}/audit/cosignatures", Permission.READ_AUDIT),
    ("GET", f"{V1}/audit/export", Permission.READ_AUDIT),
    ("GET", f"{V1}/audit/tile/entries/000", Permission.READ_AUDIT),
    ("GET", f"{V1}/audit/tile/0/000", Permission.READ_AUDIT),
    ("GET", f"{V1}/audit/restorations", Permission.READ_AUDIT),
    ("GET", f"{V1}/audit/retention", Permission.READ_AUDIT),
    ("POST", f"{V1}/audit/retention", Permission.MANAGE_AUDIT),
    ("DELETE", f"{V1}/audit/retention", Permission.MANAGE_AUDIT),
    ("GET", f"{V1}/audit/holds", Permission.READ_AUDIT),
    ("POST", f"{V1}/audit/holds", Permission.MANAGE_AUDIT),
    ("POST", f"{V1}/audit/holds/x/release", Permission.MANAGE_AUDIT),
    ("GET", f"{V1}/reports", Permission.READ_AUDIT),
    ("GET", f"{V1}/reports/cra", Permission.READ_AUDIT),
    ("GET", f"{V1}/devices/x/audit", Permission.READ_AUDIT),
    ("GET", f"{V1}/devices/x/audit/export", Permission.READ_AUDIT),
    ("GET", f"{V1}/devices/x/audit/verify", Permission.READ_AUDIT),
]


def denials(world: HttpWorld) -> list[AuditRecord]:
    with world.parts.database.reading() as session:
        wanted = select(AuditRecord).where(col(AuditRecord.tag) == "api:request:denied")
        return list(session.exec(wanted))


@pytest.mark.parametrize(("method", "path", "permission"), ROUTES)
async def test_each_route_lets_in_exactly_the_roles_that_have_its_permission(
    shared: HttpWorld, method: str, path: str, permission: Permission | None
) -> None:
    for role in Role:
        client = shared.client(role)
        answer = await client.send(method, path)
        may = permission is None or permission in GRANTS[role]
        assert (answer.status_code not in (401, 403)) == may, (role, answer.status_code)


@pytest.mark.parametrize(("method", "path", "permission"), ROUTES)
async def test_no_route_lets_in_a_stranger(
    shared: HttpWorld, method: str, path: str, permission: Permission | None
) -> None:
    del permission
    client = shared.client(None)
    for headers in (
        {},
        {"authorization": "Bearer sprat_wrong"},
        {"authorization": f"Bearer sprat_{'A' * 43}"},
        {"authorization": "Basic YTpi"},
        {"authorization": "Bearer sprat-blob.gw-1.99999999999." + "A" * 43},
    ):
        answer = await client.send(method, path, headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        if method != "HEAD":
            assert error_of(answer) == (401, "not_authenticated")


async def test_the_table_of_routes_above_is_complete(world: HttpWorld) -> None:
    client = world.client()
    document = (await client.send("GET", "/openapi.json")).json()
    there = {
        (method.upper(), path)
        for path, methods in document["paths"].items()
        for method in methods
        if path.startswith((V1, "/blobs", "/image")) and not path.startswith(SIGNING_IN)
    }
    assert len(there) == len([route for route in ROUTES if route[0] != "HEAD"])


async def test_every_refusal_is_written_down(world: HttpWorld) -> None:
    client = world.client(Role.VIEWER)
    answer = await client.post("users", {"name": "me"})
    assert error_of(answer) == (403, "not_allowed")
    assert "ask for the role admin over everything" in answer.json()["error"]["message"]
    client = world.client(None)
    await client.get("devices")
    first, second = denials(world)
    assert (first.actor, first.subject) == ("user:viewer", "route/api/v1/users")
    assert second.actor == "anonymous"


async def test_a_flood_of_refusals_is_counted_and_does_not_fill_the_log(world: HttpWorld) -> None:
    client = world.client(None)
    for _ in range(130):
        await client.get("devices")
    assert len(denials(world)) == 120
    world.later(minutes=2)
    await client.get("devices")
    assert b'"unrecorded_before":10' in denials(world)[-1].body
