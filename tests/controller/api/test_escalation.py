"""Attempts of people to get what they were not given, each by its name; T39 and T40."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import httpx
import pytest
from simulators.api_fleet import enrol
from simulators.http_world import Client, HttpWorld, error_of
from simulators.two_sites import made
from sprat_controller.access.actor import SubjectKind
from sprat_controller.access.policy import Permission, Role
from sprat_controller.access.snapshot import Policies
from sprat_controller.api.app import make_app

V1 = "/api/v1"


async def somebody(world: HttpWorld, name: str, *permissions: str, scope: str = "") -> Client:
    """Return a client of somebody with a role of these permissions."""
    body = {"name": f"role-of-{name}", "permissions": permissions}
    made(await world.client().post("roles", body))
    return world.client_of(world.admit(name, f"role-of-{name}", scope))


async def held(client: Client) -> set[str]:
    """Return the permissions that a client has, wherever."""
    who: dict[str, Any] = (await client.get("whoami")).json()
    return {one["permission"] for one in who["permissions"]}


async def patch(client: Client, path: str, body: object) -> httpx.Response:
    return await client.send("PATCH", f"{V1}/{path}", json=body)


async def delete(client: Client, path: str) -> httpx.Response:
    return await client.send("DELETE", f"{V1}/{path}")


async def binding_of(world: HttpWorld, subject: str) -> str:
    items = (await world.client().get(f"bindings?subject={subject}")).json()["items"]
    return items[0]["id"]


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.ADMIN])
async def test_01_nobody_makes_themselves_a_token_of_an_administrator(
    world: HttpWorld, role: Role
) -> None:
    client = world.client(role)
    refused = await client.post("tokens", {"name": "mine", "role": "admin"})
    assert error_of(refused) == (403, "cannot_grant")


async def test_02_an_operator_does_not_bind_themselves_to_admin(world: HttpWorld) -> None:
    body = {"subject": "operator", "role": "admin"}
    refused = await world.client(Role.OPERATOR).post("bindings", body)
    assert error_of(refused) == (403, "not_allowed")


async def test_03_t39_who_manages_users_does_not_give_what_they_lack(world: HttpWorld) -> None:
    ann = await somebody(world, "ann", "users:manage", "fleet:read")
    for subject in ("ann", "viewer"):
        for role in ("admin", "operator", "publisher"):
            refused = await ann.post("bindings", {"subject": subject, "role": role})
            assert error_of(refused) == (403, "cannot_grant")
    assert await held(ann) == {"users:manage", "fleet:read"}


async def test_04_who_manages_users_does_not_make_a_user_with_more(world: HttpWorld) -> None:
    ann = await somebody(world, "ann", "users:manage")
    refused = await ann.post("users", {"name": "puppet", "role": "admin"})
    assert error_of(refused) == (403, "cannot_grant")
    users = (await world.client().get("users")).json()["items"]
    assert "user:puppet" not in {one["id"] for one in users}


async def test_05_what_is_given_on_is_within_the_givers_scope(world: HttpWorld) -> None:
    ann = await somebody(world, "ann", "users:manage")
    grant = {"subject": "ann", "role": "operator", "scope": "site = lyon"}
    made(await world.client().post("bindings", grant))
    world.named["ann"] = world.token_of("user:ann", "all", "admin")
    ann = world.client_of(world.named["ann"])
    given = made(await ann.post("bindings", {"subject": "viewer", "role": "operator"}))
    assert given["scope"] == "site = lyon"
    # In other words it would be wider: it is what both say.
    body = {"subject": "viewer", "role": "operator", "scope": "site = lyon or site = lima"}
    given = made(await ann.post("bindings", body))
    assert given["scope"] == "(site = lyon or site = lima) and site = lyon"


async def test_06_who_makes_roles_makes_none_of_what_they_lack(world: HttpWorld) -> None:
    ann = await somebody(world, "ann", "roles:manage", "fleet:read")
    body = {"name": "mine", "permissions": ["fleet:read", "trust:manage"]}
    assert error_of(await ann.post("roles", body)) == (403, "cannot_grant")


async def test_07_who_makes_roles_does_not_widen_their_own(world: HttpWorld) -> None:
    ann = await somebody(world, "ann", "roles:manage")
    everything = [permission.value for permission in Permission]
    refused = await patch(ann, "roles/role-of-ann", {"permissions": everything})
    assert error_of(refused) == (403, "cannot_grant")
    assert await held(ann) == {"roles:manage"}


async def test_08_who_manages_tokens_makes_none_for_somebody_with_more(world: HttpWorld) -> None:
    ann = await somebody(world, "ann", "tokens:manage", "fleet:read")
    for role in ("admin", "operator", "viewer"):
        body = {"name": "mine", "role": role, "subject": "admin"}
        assert error_of(await ann.post("tokens", body)) == (403, "cannot_grant")
    body = {"name": "mine", "role": "role-of-ann", "subject": "admin"}
    token = made(await ann.post("tokens", body))["token"]
    assert await held(world.client_of(token)) == {"tokens:manage", "fleet:read"}


async def test_09_an_administrator_of_some_devices_administers_nobody(world: HttpWorld) -> None:
    client = world.client_of(world.admit("ann", "admin", "site = lyon"))
    for path, body in (
        ("users", {"name": "x"}),
        ("roles", {"name": "x", "permissions": ["fleet:read"]}),
        ("bindings", {"subject": "ann", "role": "admin"}),
    ):
        assert error_of(await client.post(path, body)) == (403, "not_allowed")


async def test_10_a_narrow_token_makes_no_wide_one(world: HttpWorld) -> None:
    narrow = world.client_of(world.token_of("user:admin", "narrow", "viewer"))
    refused = await narrow.post("tokens", {"name": "wide", "role": "admin"})
    assert error_of(refused) == (403, "cannot_grant")


async def test_11_a_token_of_a_site_makes_one_of_that_site(world: HttpWorld) -> None:
    narrow = world.client_of(world.token_of("user:admin", "narrow", "viewer", "site = lyon"))
    token = made(await narrow.post("tokens", {"name": "wide", "role": "viewer"}))
    assert token["scope"] == "site = lyon"


async def test_12_a_token_makes_none_that_outlives_it(world: HttpWorld) -> None:
    body = {"name": "short", "role": "viewer", "expires_days": 1}
    short = made(await world.client(Role.VIEWER).post("tokens", body))
    client = world.client_of(short["token"])
    longer = made(await client.post("tokens", {"name": "long", "role": "viewer"}))
    assert longer["expires_at"] == short["expires_at"]


async def test_13_what_a_thief_made_of_a_token_goes_with_it(world: HttpWorld) -> None:
    viewer = world.client(Role.VIEWER)
    stolen = made(await viewer.post("tokens", {"name": "stolen", "role": "viewer"}))
    thief = world.client_of(stolen["token"])
    kept = made(await thief.post("tokens", {"name": "kept", "role": "viewer"}))
    await delete(viewer, f"tokens/{stolen['id']}")
    answer = await world.client_of(kept["token"]).get("whoami")
    assert error_of(answer) == (401, "not_authenticated")


async def test_14_who_manages_users_does_not_disable_an_administrator(world: HttpWorld) -> None:
    ann = await somebody(world, "ann", "users:manage")
    assert error_of(await ann.post("users/admin/disable")) == (403, "cannot_grant")
    assert (await world.client().get("whoami")).status_code == 200


async def test_15_who_manages_users_does_not_take_from_an_administrator(world: HttpWorld) -> None:
    ann = await somebody(world, "ann", "users:manage")
    refused = await delete(ann, f"bindings/{await binding_of(world, 'admin')}")
    assert error_of(refused) == (403, "cannot_grant")


async def test_16_no_role_stands_for_one_that_is_there(world: HttpWorld) -> None:
    ann = await somebody(world, "ann", "roles:manage")
    body = {"name": "viewer", "permissions": ["roles:manage"]}
    assert error_of(await ann.post("roles", body)) == (409, "name_taken")
    refused = await patch(ann, "roles/viewer", {"permissions": ["roles:manage"]})
    assert error_of(refused) == (404, "role_not_found")
    assert error_of(await delete(ann, "roles/viewer")) == (404, "role_not_found")


async def test_17_nobody_takes_the_name_of_somebody_else(world: HttpWorld) -> None:
    admin = world.client()
    made(await admin.post("users", {"name": "ci", "kind": "service"}))
    for body in ({"name": "ci"}, {"name": "viewer", "kind": "service"}):
        assert error_of(await admin.post("users", body)) == (409, "name_taken")
    for name in ("user:admin", "system:x", "admin\n", "Admin", ""):
        assert error_of(await admin.post("users", {"name": name})) == (422, "invalid_request")
    for kind in ("device", "system"):
        refused = await admin.post("users", {"name": "x", "kind": kind})
        assert error_of(refused) == (422, "invalid_request")


async def test_18_nobody_says_for_whom_a_service_acts(world: HttpWorld) -> None:
    body = {"name": "ci", "kind": "service", "owner_id": "user:viewer"}
    assert error_of(await world.client().post("users", body)) == (422, "invalid_request")
    made_now = made(await world.client().post("users", {"name": "ci", "kind": "service"}))
    assert made_now["owner_id"] == "user:admin"


async def test_19_nobody_labels_a_device_into_their_own_scope(world: HttpWorld) -> None:
    await enrol(world, "gw-1", site="lima")
    ann = world.client_of(world.admit("ann", "operator", "site = lyon"))
    refused = await patch(ann, "devices/gw-1", {"labels": {"site": "lyon"}})
    assert error_of(refused) == (404, "device_not_found")


async def test_20_nobody_says_the_scope_of_a_rollout_themselves(world: HttpWorld) -> None:
    ann = world.client_of(world.admit("ann", "operator", "site = lyon"))
    what = {"model": "talk", "release": "1.0.0", "alias": "a"}
    for more in ({"scope": ""}, {"target": {"scope": ""}}, {"created_by": "user:admin"}):
        refused = await ann.post("rollouts", {**what, **more})
        assert error_of(refused) == (422, "invalid_request")


async def test_21_a_scope_is_not_what_a_device_says_of_itself(world: HttpWorld) -> None:
    body = {"subject": "viewer", "role": "operator", "scope": "hardware_class = pi5"}
    assert error_of(await world.client().post("bindings", body)) == (400, "bad_scope")


async def test_22_headers_that_proxies_set_are_nobody(world: HttpWorld) -> None:
    stranger = world.client(None)
    for name in ("x-forwarded-user", "x-remote-user", "x-auth-request-user", "cookie"):
        answer = await stranger.get("users", headers={name: "admin"})
        assert error_of(answer) == (401, "not_authenticated")


async def test_23_a_device_is_no_operator(world: HttpWorld) -> None:
    await enrol(world, "gw-1")
    credential, _ = world.parts.blob_credentials.mint("gw-1", world.now)
    device = world.client_of(credential)
    for path in ("whoami", "devices", "users"):
        assert error_of(await device.get(path)) == (401, "not_authenticated")


async def test_24_the_last_administrator_stays(world: HttpWorld) -> None:
    admin = world.client()
    binding = await binding_of(world, "admin")
    assert error_of(await delete(admin, f"bindings/{binding}")) == (409, "last_administrator")
    assert error_of(await admin.post("users/admin/disable")) == (409, "last_administrator")
    world.admit("second", "admin", "site = lyon")
    assert error_of(await admin.post("users/admin/disable")) == (409, "last_administrator")
    other = world.client_of(world.admit("third", "admin"))
    assert (await other.post("users/admin/disable")).status_code == 200
    assert error_of(await admin.get("whoami")) == (401, "not_authenticated")


async def test_25_a_role_that_somebody_has_is_not_removed_to_be_made_anew(
    world: HttpWorld,
) -> None:
    await somebody(world, "ann", "fleet:read")
    answer = await delete(world.client(), "roles/role-of-ann")
    assert error_of(answer) == (409, "role_in_use")


async def test_26_who_holds_it_at_a_site_does_not_take_it_from_who_has_it_everywhere(
    world: HttpWorld,
) -> None:
    await somebody(world, "ann", "users:manage")
    mine = {"subject": "ann", "role": "operator", "scope": "site = lyon"}
    made(await world.client().post("bindings", mine))
    ann = world.client_of(world.token_of("user:ann", "all", "admin"))
    world.admit("wide", "operator")
    world.admit("near", "operator", "site = lyon and group = kiosks")
    assert error_of(await ann.post("users/wide/disable")) == (403, "cannot_grant")
    wide = f"bindings/{await binding_of(world, 'wide')}"
    assert error_of(await delete(ann, wide)) == (403, "cannot_grant")
    await world.client().post("users/wide/disable")
    assert error_of(await ann.post("users/wide/enable")) == (403, "cannot_grant")
    for verb in ("disable", "enable"):
        assert (await ann.post(f"users/near/{verb}")).status_code == 200
    near = await delete(ann, f"bindings/{await binding_of(world, 'near')}")
    assert near.status_code == 204


async def test_27_nor_disables_whom_a_service_with_more_acts_for(world: HttpWorld) -> None:
    ann = await somebody(world, "ann", "users:manage", "fleet:read", "models:read", "rollouts:read")
    world.admit("bob", "viewer")
    service = world.admit("ci", "operator", kind=SubjectKind.SERVICE, owner="user:bob")
    assert error_of(await ann.post("users/bob/disable")) == (403, "cannot_grant")
    assert (await world.client_of(service).get("whoami")).status_code == 200
    assert (await world.client().post("users/bob/disable")).status_code == 200
    assert error_of(await ann.post("users/bob/enable")) == (403, "cannot_grant")
    assert (await world.client_of(service).get("whoami")).status_code == 401
    await world.client().post("users/ci/disable")
    # A service that is disabled itself gets nothing back with its owner.
    assert (await ann.post("users/bob/enable")).status_code == 200


async def test_28_what_is_over_everything_is_no_part_of_a_role_over_some(
    world: HttpWorld,
) -> None:
    await somebody(world, "ann", "users:manage")
    for scope in ("site = lyon", "site = lima"):
        mine = {"subject": "ann", "role": "admin", "scope": scope}
        made(await world.client().post("bindings", mine))
    ann = world.client_of(world.token_of("user:ann", "all", "admin"))
    world.admit("bob", "viewer", "site = paris")
    # Over a site an administrator has nothing that is about all devices: Ann holds what Bob gets.
    given = made(
        await ann.post("bindings", {"subject": "bob", "role": "admin", "scope": "site = lyon"})
    )
    assert "site = lyon" in given["scope"]
    bob = world.client_of(world.token_of("user:bob", "all", "admin"))
    assert "users:manage" not in await held(bob)
    assert "fleet:change" in await held(bob)
    assert error_of(await bob.post("users", {"name": "x"})) == (403, "not_allowed")


async def test_t40_a_token_wider_than_its_owner_does_what_the_owner_may(world: HttpWorld) -> None:
    wide = world.client_of(world.token_of("user:viewer", "wide", "admin"))
    assert await held(wide) == await held(world.client(Role.VIEWER))
    refused = await wide.post("users", {"name": "x"})
    assert error_of(refused) == (403, "not_allowed")
    assert "user:viewer is viewer over everything" in refused.json()["error"]["message"]


async def test_t40_a_token_is_worth_less_at_once_when_its_owner_is_demoted(
    world: HttpWorld,
) -> None:
    ann = world.client_of(world.admit("ann", "operator"))
    assert (await ann.get("devices")).status_code == 200
    await delete(world.client(), f"bindings/{await binding_of(world, 'ann')}")
    begun = time.monotonic()
    assert error_of(await ann.get("devices")) == (403, "not_allowed")
    assert time.monotonic() - begun < 1


@pytest.mark.parametrize("who", ["themselves", "whom they act for"])
async def test_t40_a_token_of_somebody_disabled_is_nobodys(world: HttpWorld, who: str) -> None:
    world.admit("ann", "operator")
    service = world.admit("ci", "operator", kind=SubjectKind.SERVICE, owner="user:ann")
    client, admin = world.client_of(service), world.client()
    assert (await client.get("devices")).status_code == 200
    user = "ci" if who == "themselves" else "ann"
    assert (await admin.post(f"users/{user}/disable")).json()["disabled_at"]
    assert error_of(await client.get("devices")) == (401, "not_authenticated")
    assert (await admin.post(f"users/{user}/enable")).json()["disabled_at"] is None
    assert (await client.get("devices")).status_code == 200


async def test_t40_a_custom_role_takes_away_at_once_what_it_no_longer_allows(
    world: HttpWorld,
) -> None:
    ann = await somebody(world, "ann", "fleet:read", "rollouts:read")
    assert (await ann.get("rollouts")).status_code == 200
    changed = await patch(world.client(), "roles/role-of-ann", {"permissions": ["fleet:read"]})
    assert changed.json()["permissions"] == ["fleet:read"]
    assert error_of(await ann.get("rollouts")) == (403, "not_allowed")
    assert (await ann.get("devices")).status_code == 200


@pytest.mark.parametrize("form", ["spart_{secret}{sum}", "sprat_{secret}AAAAAA", "{secret}{sum}"])
async def test_t40_a_token_of_another_form_is_nobodys(world: HttpWorld, form: str) -> None:
    token = world.tokens[Role.ADMIN].removeprefix("sprat_")
    wrong = form.format(secret=token[:43], sum=token[43:])
    answer = await world.client_of(wrong).get("whoami")
    assert error_of(answer) == (401, "not_authenticated")


async def test_what_a_replica_took_away_is_gone_on_the_other(world: HttpWorld) -> None:
    token = world.admit("ann", "operator")
    other = Client(make_app(replace(world.parts, policies=Policies()), "0.0.0"), token)
    assert (await other.get("devices")).status_code == 200
    await delete(world.client(), f"bindings/{await binding_of(world, 'ann')}")
    assert error_of(await other.get("devices")) == (403, "not_allowed")


async def test_every_attempt_is_written_down(world: HttpWorld) -> None:
    await enrol(world, "gw-1", site="lyon")
    ann = world.client_of(world.admit("ann", "operator", "site = lyon"))
    await ann.post("tokens", {"name": "wide", "role": "admin"})
    await patch(ann, "devices/gw-1", {"labels": {"site": "lima"}})
    await ann.post("users", {"name": "x"})
    denied = (await world.client().get("audit?tag=api:request:denied")).json()["items"]
    codes = [item["body"]["detail"]["code"] for item in denied]
    assert codes == ["cannot_grant", "outside_scope", "not_allowed"]
    assert {item["body"]["actor"]["id"] for item in denied} == {"ann"}
