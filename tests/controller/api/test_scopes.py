"""Whoever may do something at Lima sees and touches nothing of Lyon: T37 and T38, over the API."""

from __future__ import annotations

import asyncio
import io
import json
import zipfile
from collections.abc import Generator
from typing import Any

import pytest
from simulators.api_fleet import enrol
from simulators.http_world import Client, HttpWorld, error_of
from simulators.two_sites import WHAT, TwoSites, made, two_sites

V1 = "/api/v1"
LISTS = (
    *("devices", "rollouts", "rollouts/plans", "recurring-rollouts", "enrolment-tokens"),
    *("audit?limit=1000", "devices?label=site=lyon", "devices?filter=site%20%3D%20lyon"),
    "devices?after=gw-lima",
)


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Generator[TwoSites]:
    """The two sites, for tests that change nothing that another could notice."""
    folder = tmp_path_factory.mktemp("sites")
    world = HttpWorld(folder)
    yield asyncio.run(two_sites(world, folder))
    world.close()


@pytest.fixture
def own(world: HttpWorld, tmp_path_factory: pytest.TempPathFactory) -> TwoSites:
    """Two sites of the test's own."""
    return asyncio.run(two_sites(world, tmp_path_factory.mktemp("own")))


@pytest.fixture
def lima(sites: TwoSites) -> Client:
    """An operator at Lima."""
    return sites.client("operator", "lima")


@pytest.mark.parametrize("path", LISTS)
async def test_t37_no_list_shows_what_is_elsewhere(
    sites: TwoSites, lima: Client, path: str
) -> None:
    shown = await lima.get(path)
    assert shown.status_code == 200
    assert "lyon" not in shown.text
    everything = (await sites.client("operator").get(path)).text
    assert "lyon" in everything


async def test_t37_guessing_ids_is_answered_as_if_nothing_were_there(
    sites: TwoSites, lima: Client
) -> None:
    device, rollout = "gw-lyon", sites.ids["rollout_id"]
    paths = [
        *((f"devices/{device}{more}", device) for more in ("", "/why", "/audit", "/audit/verify")),
        *((f"rollouts/{rollout}{more}", rollout) for more in ("", "/executions", "/approval")),
        (f"rollouts/plans/{sites.ids['plan_id']}", sites.ids["plan_id"]),
        (f"recurring-rollouts/{sites.ids['recurrence_id']}", sites.ids["recurrence_id"]),
    ]
    for path, name in paths:
        there = await lima.get(path)
        nothing = await lima.get(path.replace(name, "nothing"))
        assert there.status_code == nothing.status_code == 404
        assert there.json() == {
            "error": {
                **nothing.json()["error"],
                "message": nothing.json()["error"]["message"].replace("nothing", name),
            }
        }


async def test_t37_naming_a_device_elsewhere_is_naming_one_that_is_not_there(
    lima: Client,
) -> None:
    for path in ("rollouts", "rollouts/plan", "rollouts/plans"):
        there = await lima.post(path, {**WHAT, "devices": ["gw-lyon", "gw-lima"]})
        nothing = await lima.post(path, {**WHAT, "devices": ["nothing", "gw-lima"]})
        assert error_of(there) == error_of(nothing) == (404, "device_not_found")
        assert (
            there.json()["error"]["message"].replace("gw-lyon", "nothing")
            == (nothing.json()["error"]["message"])
        )


async def test_a_plan_for_everybody_is_for_those_in_scope(lima: Client) -> None:
    shown = (await lima.post("rollouts/plan", WHAT)).json()
    assert [line["device_id"] for line in shown["devices"]] == ["gw-lima"]


async def test_a_rollout_to_both_sites_is_seen_as_far_as_it_is_ones_own(
    sites: TwoSites, lima: Client
) -> None:
    shown = (await lima.get(f"rollouts/{sites.both}")).json()
    assert sum(shown["counts"].values()) == 1
    assert [group["devices"] for group in shown["groups"]] == [1]
    runs = (await lima.get(f"rollouts/{sites.both}/executions")).json()["items"]
    assert [run["device_id"] for run in runs] == ["gw-lima"]
    listed = (await lima.get("rollouts")).json()["items"]
    assert {one["id"]: sum(one["counts"].values()) for one in listed} == {sites.both: 1}
    whole = (await sites.client("operator").get(f"rollouts/{sites.both}")).json()
    assert sum(whole["counts"].values()) == 2


@pytest.mark.parametrize("verb", ["start", "pause", "resume", "stop", "retry-failed", "roll-back"])
async def test_a_rollout_to_both_sites_is_changed_by_who_has_both(
    sites: TwoSites, lima: Client, verb: str
) -> None:
    before = (await sites.client("admin").get(f"rollouts/{sites.both}")).json()
    refused = await lima.post(f"rollouts/{sites.both}/{verb}")
    assert error_of(refused) == (403, "outside_scope")
    assert "lyon" not in refused.text
    approval = await lima.get(f"rollouts/{sites.both}/approval")
    assert error_of(approval) == (403, "outside_scope")
    assert (await sites.client("admin").get(f"rollouts/{sites.both}")).json() == before


async def test_names_of_other_devices_are_not_in_the_target_that_is_shown(own: TwoSites) -> None:
    body = {**WHAT, "devices": ["gw-lyon", "gw-lima"], "name": "named"}
    named = (await own.make("rollouts", body))["id"]
    shown = (await own.client("viewer", "lima").get(f"rollouts/{named}")).json()
    assert shown["target"]["devices"] == ["gw-lima"]


async def test_a_record_of_a_rollout_to_both_is_for_who_sees_all_of_it(
    sites: TwoSites, lima: Client
) -> None:
    about = f"audit?limit=1000&subject=rollout/{sites.both}"
    assert (await lima.get(about)).json()["items"] == []
    assert (await sites.client("auditor").get(about)).json()["items"]
    mine = (await lima.get("audit?limit=1000")).json()["items"]
    assert {item["body"]["subject"] for item in mine} == {"device/gw-lima"}


async def test_a_device_is_relabelled_within_the_scope_of_who_does_it(own: TwoSites) -> None:
    lima = own.client("operator", "lima")
    away = await lima.send("PATCH", f"{V1}/devices/gw-lima", json={"labels": {"site": "lyon"}})
    assert error_of(away) == (403, "outside_scope")
    labels = {"site": "lima", "ring": "canary"}
    stays = await lima.send("PATCH", f"{V1}/devices/gw-lima", json={"labels": labels})
    assert stays.json()["labels"] == labels
    taken = await lima.send("PATCH", f"{V1}/devices/gw-lyon", json={"labels": {"site": "lima"}})
    assert error_of(taken) == (404, "device_not_found")


async def test_a_device_that_was_moved_is_gone_at_once(own: TwoSites) -> None:
    lima, path = own.client("operator", "lima"), "devices/gw-lima"
    assert (await lima.get(path)).status_code == 200
    moved = {"labels": {"site": "lyon"}}
    await own.world.client().send("PATCH", f"{V1}/{path}", json=moved)
    assert error_of(await lima.get(path)) == (404, "device_not_found")
    assert (await own.client("operator", "lyon").get(path)).status_code == 200


async def test_who_enrols_names_devices_of_their_own_scope(lima: Client) -> None:
    body: dict[str, Any] = {"device_id": "new-1"}
    for labels in ({}, {"site": "lyon"}):
        refused = await lima.post("enrolment-tokens", {**body, "labels": labels})
        assert error_of(refused) == (403, "outside_scope")
    made(await lima.post("enrolment-tokens", {**body, "labels": {"site": "lima"}}))


async def test_of_a_name_that_is_taken_elsewhere_nothing_more_is_told(lima: Client) -> None:
    """Names are one device's for ever, so that one is taken cannot be hidden; all else can."""
    said: set[str] = set()
    for name in ("gw-lyon", "gone-lyon"):
        refused = await lima.post(
            "enrolment-tokens", {"device_id": name, "labels": {"site": "lima"}}
        )
        assert error_of(refused) == (409, "device_exists")
        said.add(refused.text.replace(name, "NAME"))
    assert len(said) == 1


async def test_a_batch_has_no_names_to_be_told_by(own: TwoSites) -> None:
    token = own.world.admit("ann", "operator", "device = kiosk-*")
    body = {"prefix": "kiosk", "count": 2}
    refused = await own.world.client_of(token).post("enrolment-tokens", body)
    assert error_of(refused) == (403, "outside_scope")


async def test_what_a_scoped_subject_rolls_out_never_grows_beyond_the_scope(own: TwoSites) -> None:
    lima = own.client("operator", "lima")
    body = {**WHAT, "strategy": {"membership": "CONTINUOUS"}}
    shown = made(await lima.post("rollouts", body))
    assert sum(shown["counts"].values()) == 1
    kept = own.world.parts.rollouts.get(shown["id"]).target
    assert kept.scope == "site = lima"
    recurring = {"model": "talk", "channel": "stable", "alias": "a", "cron": "0 2 * * *"}
    added = made(await lima.post("recurring-rollouts", recurring))
    assert own.world.parts.recurrences.get(added["id"]).target.scope == "site = lima"
    plan = made(await lima.post("rollouts/plans", WHAT))
    assert [line["device_id"] for line in plan["devices"]] == ["gw-lima"]
    wider = own.client("operator")
    applied = made(await wider.post(f"rollouts/plans/{plan['id']}/apply", {}))
    assert sum(applied["counts"].values()) == 1


async def test_who_edits_a_rollout_confines_it_to_their_scope(own: TwoSites) -> None:
    rollout = own.ids["rollout_id"]
    body = {"strategy": {"membership": "CONTINUOUS"}}
    lyon = own.client("operator", "lyon")
    edited = await lyon.send("PATCH", f"{V1}/rollouts/{rollout}", json=body)
    assert edited.status_code == 200, edited.text
    assert own.world.parts.rollouts.get(rollout).target.scope == "site = lyon"


async def test_overriding_needs_the_permission_over_the_same_devices(own: TwoSites) -> None:
    ann = own.world.admit("ann", "admin", "site = lima")
    body = {**WHAT, "strategy": {"override": "it tells secrets"}}
    shown = made(await own.world.client_of(ann).post("rollouts", body))
    assert sum(shown["counts"].values()) == 1


async def test_a_bundle_is_for_devices_of_ones_scope_and_groups_that_are_all_in_it(
    lima: Client,
) -> None:
    there = await lima.post("bundles", {"devices": ["gw-lyon"]})
    nothing = await lima.post("bundles", {"devices": ["nothing"]})
    assert error_of(there) == error_of(nothing) == (404, "device_not_found")


async def test_fit_of_hardware_elsewhere_is_not_told(lima: Client) -> None:
    body = {"model": "talk", "context": 256}
    for what in ({"device": "gw-lyon"}, {"hardware_class": "class-lyon"}):
        assert (await lima.post("fit", {**body, **what})).status_code == 404
    classes = (await lima.post("fit/matrix", {"models": ["talk"], "context": 256})).json()
    assert [one["hardware_class"] for one in classes["classes"]] == ["class-lima"]


@pytest.mark.parametrize("framework", ["eu-ai-act", "iso-27001", "iec-62443", "cra"])
async def test_a_report_has_nothing_of_what_is_elsewhere(sites: TwoSites, framework: str) -> None:
    auditor = sites.client("auditor", "lima")
    for query in ("", "?device=gw-lima", "?filter=site%20!=%20x", "?filter=label.rack%20exists"):
        made_of = await auditor.get(f"reports/{framework}{query}")
        assert made_of.status_code == 200, made_of.text
        assert b"lyon" not in contents(made_of.content), query
    everything = await sites.client("auditor").get(f"reports/{framework}")
    assert b"lyon" in contents(everything.content)
    there = await auditor.get(f"reports/{framework}?device=gw-lyon")
    nothing = await auditor.get(f"reports/{framework}?device=nothing")
    assert error_of(there) == error_of(nothing) == (404, "device_not_found")
    assert there.text.replace("gw-lyon", "nothing") == nothing.text


@pytest.mark.parametrize(
    ("role", "where", "is_told"),
    [
        ("auditor", "everywhere", True),
        ("operator", "everywhere", False),  # reads the audit log, and nothing of users
        ("auditor", "lima", False),
    ],
)
async def test_a_report_tells_who_used_what_last_to_who_may_see_users(
    sites: TwoSites, role: str, where: str, *, is_told: bool
) -> None:
    answer = await sites.client(role, where).get("reports/iso-27001")
    with zipfile.ZipFile(io.BytesIO(answer.content)) as made_of:
        tables = json.loads(made_of.read("report.json"))["tables"]
    assert bool(tables["last_used"]["statements"]) is is_told


def contents(data: bytes) -> bytes:
    """Return all that is in a zip file."""
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        return b"".join(file.read(name) for name in file.namelist())


async def test_several_scopes_are_one(own: TwoSites) -> None:
    grant = {"subject": "viewer-lima", "role": "viewer", "scope": "site = lyon"}
    await own.make("bindings", grant)
    # The token is of the role and everywhere: what its owner was given more, it does more.
    shown = (await own.client("viewer", "lima").get("devices")).json()["items"]
    assert [one["id"] for one in shown] == ["gw-lima", "gw-lyon"]


async def test_a_new_device_is_there_for_who_has_its_site(own: TwoSites) -> None:
    await enrol(own.world, "gw-2-lyon", site="lyon")
    for where, names in (("lyon", ["gw-2-lyon", "gw-lyon"]), ("lima", ["gw-lima"])):
        items = (await own.client("viewer", where).get("devices")).json()["items"]
        assert [one["id"] for one in items] == names
