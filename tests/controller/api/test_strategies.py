"""Rollouts with a strategy, through the API."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from simulators.api_fleet import enrol, publish
from simulators.http_world import Client, HttpWorld, error_of
from sprat_controller.access.policy import Role
from sprat_controller.store.tables import AuditRecord
from sprat_proto.audit_events import actor_name
from sqlmodel import col, select

WHAT: dict[str, Any] = {"model": "talk", "release": "1.0.0", "alias": "assistant"}


@pytest.fixture
async def fleet(world: HttpWorld, tmp_path: Path) -> HttpWorld:
    """Three devices, and a release."""
    for name in ("gw-1", "gw-2", "gw-3"):
        await enrol(world, name)
    await publish(world, tmp_path)
    return world


def audited(world: HttpWorld, tag: str) -> list[dict[str, Any]]:
    with world.parts.database.reading() as session:
        found = session.exec(select(AuditRecord.body).where(col(AuditRecord.tag) == tag))
        return [json.loads(body) for body in found]


async def test_a_rollout_says_its_strategy_its_groups_and_its_revision(
    fleet: HttpWorld, admin: Client
) -> None:
    del fleet
    strategy = {"groups": [{"name": "canary", "devices": 1, "soak_s": 60}, {}], "priority": 2}
    made = (await admin.post("rollouts", {**WHAT, "strategy": strategy})).json()
    shown = (await admin.get(f"rollouts/{made['id']}")).json()
    assert shown["strategy"] == strategy
    groups = [(one["name"], one["state"], one["devices"]) for one in shown["groups"]]
    assert groups == [("canary", "SCHEDULED", 1), ("1", "SCHEDULED", 2)]
    assert shown["groups"][1]["counts"] == {"QUEUED": 2}
    started = (await admin.post(f"rollouts/{made['id']}/start")).json()
    assert started["revision"] > shown["revision"]
    assert shown["abort"] is None


async def test_without_a_strategy_it_is_all_at_once(fleet: HttpWorld, admin: Client) -> None:
    del fleet
    made = (await admin.post("rollouts", WHAT)).json()
    assert (made["strategy"], made["max_in_progress"]) == ({}, 0)
    assert made["execution_timeout_s"] == 86_400
    paced = {**WHAT, "max_in_progress": 2, "execution_timeout_s": 60}
    made = (await admin.post("rollouts", paced)).json()
    assert made["strategy"] == {"pace": {"max_in_progress": 2}, "deadlines": {"execution_s": 60}}


@pytest.mark.parametrize(
    ("strategy", "sentence"),
    [
        ({"groups": [{"devices": 1}]}, "expected the last group to take all that is left"),
        ({"groups": [{"devices": 1, "filter": "town ="}, {}]}, "strategy.groups[0].filter: "),
        ({"override": "  "}, "strategy.override: expected why it must be, found only spaces"),
        (
            {"activate_window": {"cron": "0 0 31 2 *", "duration_s": 60}},
            "which never does",
        ),
    ],
)
async def test_a_strategy_that_cannot_be_is_refused_in_a_sentence_and_nothing_is_kept(
    fleet: HttpWorld, admin: Client, strategy: dict[str, Any], sentence: str
) -> None:
    del fleet
    answer = await admin.post("rollouts", {**WHAT, "strategy": strategy})
    assert error_of(answer) == (400, "invalid_rollout")
    assert sentence in answer.json()["error"]["message"]
    assert (await admin.get("rollouts")).json()["items"] == []


async def test_only_who_may_override_does_and_the_reason_is_written_down(fleet: HttpWorld) -> None:
    body = {**WHAT, "strategy": {"override": "the model tells secrets"}}
    refused = await fleet.client(Role.OPERATOR).post("rollouts", body)
    assert error_of(refused) == (403, "not_allowed")
    assert "rollouts:override" in refused.json()["error"]["message"]
    assert len(audited(fleet, "api:request:denied")) == 1
    assert audited(fleet, "operator:rollout:overridden") == []

    admin = fleet.client()
    made = (await admin.post("rollouts", body)).json()
    assert made["strategy"] == {"override": "the model tells secrets"}
    (record,) = audited(fleet, "operator:rollout:overridden")
    assert (actor_name(record["actor"]), record["subject"]) == (
        "user:admin",
        f"rollout/{made['id']}",
    )
    assert record["detail"]["reason"] == "the model tells secrets"


async def test_a_strategy_is_edited_word_by_word(fleet: HttpWorld) -> None:
    operator = fleet.client(Role.OPERATOR)
    body = {**WHAT, "strategy": {"groups": [{"devices": 1}, {}], "retries": {"attempts": 2}}}
    made = (await operator.post("rollouts", body)).json()
    path = f"/api/v1/rollouts/{made['id']}"
    wanted = {"strategy": {"groups": [{"name": "all"}], "priority": 3}, "name": "spring"}
    answer = await operator.send("PATCH", path, json={**wanted, "expected_revision": 1})
    assert answer.status_code == 200, answer.text
    shown = answer.json()
    assert shown["strategy"] == {
        "groups": [{"name": "all"}],
        "retries": {"attempts": 2},
        "priority": 3,
    }
    assert [one["name"] for one in shown["groups"]] == ["all"]
    assert (shown["name"], shown["revision"]) == ("spring", 2)
    again = await operator.send("PATCH", path, json={**wanted, "expected_revision": 1})
    assert error_of(again) == (409, "revision_changed")
    wrong = await operator.send("PATCH", path, json={"strategy": {"groups": [{"devices": 1}]}})
    assert error_of(wrong) == (400, "invalid_rollout")
    nothing = await operator.send("PATCH", path, json={"strategy": {}})
    assert error_of(nothing) == (400, "nothing_to_change")


async def test_only_who_may_override_makes_it_an_emergency_by_an_edit(fleet: HttpWorld) -> None:
    operator, admin = fleet.client(Role.OPERATOR), fleet.client(Role.ADMIN)
    made = (await operator.post("rollouts", WHAT)).json()
    path, body = f"/api/v1/rollouts/{made['id']}", {"strategy": {"override": "it leaks"}}
    refused = await operator.send("PATCH", path, json=body)
    assert refused.status_code == 403
    assert "rollouts:override" in refused.json()["error"]["message"]
    assert (await operator.get(f"rollouts/{made['id']}")).json()["strategy"] == {}
    allowed = await admin.send("PATCH", path, json=body)
    assert allowed.json()["strategy"] == {"override": "it leaks"}
