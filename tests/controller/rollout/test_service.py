from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace as replace_struct
from simulators.controlled import BIG, MODEL, SMALL, TINY, WEIGHTS, World, a_manifest
from sprat_controller.errors import ConflictError, NotFoundError, RequestError
from sprat_controller.fleet import inventory
from sprat_controller.rollout.plan import Action
from sprat_controller.rollout.requests import PlanRequest, RolloutEdit, RolloutRequest, Target
from sprat_controller.rollout.strategy import Deadlines, Group, Pace, Strategy, WindowSpec
from sprat_controller.store.tables import AuditRecord, Rollout
from sprat_proto import fit
from sprat_proto.assignment import ServingTerms
from sprat_proto.audit_events import Tag
from sprat_proto.policy import Aim, FitPolicy
from sprat_proto.states import ExecutionState, RolloutState
from sqlmodel import col, select

TERMS = ServingTerms(slots=4, kv_type="q8_0", is_pinned=True)
Q8 = fit.Candidate(
    *("q8_0", "", "llama.cpp", (), 0),
    a_manifest("q8_0", WEIGHTS["q8_0"], model=MODEL, release="1.0.0", counter=1).facts,
)
PLAN = PlanRequest(MODEL, "1.0.0", "assistant", context=256)


def tags(world: World) -> list[str]:
    with world.database.reading() as session:
        return list(session.exec(select(AuditRecord.tag).order_by(col(AuditRecord.seq))).all())


def test_a_plan_chooses_by_hardware_and_changes_nothing(world: World) -> None:
    world.join("big", BIG)
    world.join("small", SMALL)
    world.join("tiny", TINY)
    world.enrol("silent")
    lines = {line.device_id: line for line in world.service.plan(PLAN)}
    assert {name: (line.action, line.variant) for name, line in lines.items()} == {
        "big": (Action.INSTALL, "q8_0"),
        "small": (Action.INSTALL, "q4_0"),
        "tiny": (Action.REJECTED, None),
        "silent": (Action.REJECTED, None),
    }
    assert world.service.list() == ()
    assert tags(world) == []


def test_a_rollout_is_a_snapshot_of_its_plan(world: World) -> None:
    for name, budget in (("big", BIG), ("tiny", TINY)):
        world.join(name, budget)
    view = world.create(start=False)
    assert (view.state, view.name) == (RolloutState.READY, "talk@1.0.0")
    assert view.counts == {ExecutionState.QUEUED: 1, ExecutionState.REJECTED: 1}
    world.join("later", BIG)
    executions = {one.device_id: one for one in world.service.executions(view.id)}
    assert set(executions) == {"big", "tiny"}
    assert executions["big"].variant == "q8_0"
    reason = executions["tiny"].reason
    assert reason is not None
    assert reason["code"] == "NO_VARIANT_FITS"
    assert executions["tiny"].finished_at == world.now
    assert len(executions["tiny"].verdicts) == 2
    assert tags(world) == [Tag.ROLLOUT_CREATED]


def test_a_device_that_already_runs_the_variant_succeeds_at_once(world: World) -> None:
    device = world.join("big")
    world.create()
    world.run_due()
    device.sync()
    again = world.create()
    only = world.service.executions(again.id)[0]
    assert only.state is ExecutionState.SUCCEEDED
    assert only.reason is not None
    assert only.reason["message"] == "already runs this variant"
    world.run_due()
    assert world.state(again.id) == RolloutState.FINISHED
    assert device.version == 1


def test_all_labels_must_match_and_named_devices_must_be_among_them(world: World) -> None:
    world.join("a", site="lyon", ring="1")
    world.join("b", site="lyon", ring="2")
    world.join("c", site="oslo", ring="1")
    world.join("gone", site="lyon", ring="1")
    world.remove("gone")

    def targeted(labels: dict[str, str], *devices: str) -> list[str]:
        asked = replace(PLAN, target=Target(labels, devices))
        return [line.device_id for line in world.service.plan(asked)]

    assert targeted({}) == ["a", "b", "c"]
    assert targeted({"site": "lyon"}) == ["a", "b"]
    assert targeted({"site": "lyon", "ring": "1"}) == ["a"]
    assert targeted({}, "c", "a") == ["a", "c"]
    assert targeted({"site": "lyon"}, "c", "a") == ["a"]
    assert targeted({"site": "rome"}) == []


def test_a_filter_must_match_beside_labels_and_names(world: World) -> None:
    world.join("a", BIG, site="lyon", ring="1")
    world.join("b", SMALL, site="lyon", ring="2")
    world.join("c", BIG, site="oslo")
    world.enrol("new")
    limit = f"memory_budget > {SMALL}"

    def targeted(filter_: str, *devices: str, **labels: str) -> list[str]:
        asked = replace(PLAN, target=Target(labels, devices, filter_))
        return [line.device_id for line in world.service.plan(asked)]

    assert targeted(limit) == ["a", "c"]
    assert targeted(f"not {limit}") == ["b", "new"]
    assert targeted(limit, site="lyon") == ["a"]
    assert targeted(limit, "b", "c") == ["c"]
    assert targeted("label.ring = 2 or not site exists") == ["b", "new"]


def test_a_rollout_keeps_its_filter_and_obeys_it_at_each_turn(world: World) -> None:
    world.join("a", ring="1")
    world.join("b", ring="1")
    world.join("c", ring="2")
    view = world.create(target=Target(filter="label.ring = 1"), start=False)
    assert world.service.get(view.id).target == Target(filter="label.ring = 1")
    assert set(world.states(view.id)) == {"a", "b"}
    with world.database.transaction() as session:
        inventory.relabel(session, "b", {"ring": "2"}, actor="token:ann", now=world.now)
    world.service.start(view.id, "token:ann")
    world.run_due()
    assert world.states(view.id) == {
        "a": ExecutionState.IN_PROGRESS,
        "b": ExecutionState.CANCELED,
    }


def test_what_is_no_filter_is_refused_with_its_place(world: World) -> None:
    world.join("a")
    wrong = replace(PLAN, target=Target(filter="site = lyon or"))
    for ask in (
        lambda: world.service.plan(wrong),
        lambda: world.service.create(RolloutRequest(wrong), "ann"),
    ):
        with pytest.raises(RequestError) as caught:
            ask()
        assert caught.value.code == "bad_filter"
        assert caught.value.details["position"] == 15


def test_what_does_not_exist_is_named(world: World) -> None:
    world.join("a")
    cases: list[tuple[dict[str, Any], str, str]] = [
        ({"model": "nope"}, "model_not_found", "'nope'"),
        ({"release": "9.9.9"}, "release_not_found", "it has 1.0.0"),
        ({"target": Target(devices=("a", "ghost"))}, "device_not_found", "ghost"),
    ]
    for changes, code, part in cases:
        with pytest.raises(NotFoundError) as caught:
            world.service.plan(replace(PLAN, **changes))
        assert caught.value.code == code
        assert part in caught.value.message
    for ask in (world.service.get, world.service.executions):
        with pytest.raises(NotFoundError):
            ask("ghost")
    with pytest.raises(NotFoundError):
        world.service.stop("ghost", "token:ann")


@pytest.mark.parametrize(
    "changes",
    [
        {"plan": replace(PLAN, alias="Not A Name")},
        {"plan": replace(PLAN, release="one")},
        {"plan": replace(PLAN, context=1)},
        {"plan": replace(PLAN, target=Target(devices=("x",) * 10_001))},
        {"plan": replace(PLAN, target=Target({"site": "rome"}))},
        {"max_in_progress": -1},
        {"execution_timeout_s": 0},
        {"start_at": datetime(2026, 11, 24)},  # noqa: DTZ001 - a naive moment is the point
    ],
)
def test_an_impossible_request_is_refused_and_leaves_nothing(
    world: World, changes: dict[str, Any]
) -> None:
    world.join("a")
    with pytest.raises(RequestError):
        world.service.create(replace(RolloutRequest(PLAN), **changes), "token:ann")
    assert world.service.list() == ()
    assert tags(world) == []


@pytest.mark.parametrize(
    ("terms", "sentence"),
    [
        ({"slots": 65}, "slots: expected 1 to 64, or 0 to have each device decide, found 65"),
        ({"slots": -1}, "slots: expected 1 to 64, or 0 to have each device decide, found -1"),
        ({"kv_type": "q2_k"}, "kv_type: expected f16 or q8_0, found 'q2_k'"),
    ],
)
def test_impossible_terms_are_refused_with_one_sentence(
    world: World, terms: dict[str, Any], sentence: str
) -> None:
    world.join("a")
    with pytest.raises(RequestError) as caught:
        world.service.plan(replace(PLAN, terms=ServingTerms(**terms)))
    assert caught.value.message == sentence


def test_how_a_model_is_served_is_kept_shown_and_audited(world: World) -> None:
    world.join("a")
    view = world.create(terms=TERMS)
    shown = world.service.get(view.id)
    assert (shown.slots, shown.kv_type, shown.pinned) == (4, "q8_0", True)
    detail = world.audited(Tag.ROLLOUT_CREATED)[-1]["detail"]
    assert detail["serving"] == {"slots": 4, "kv_type": "q8_0", "is_pinned": True}
    plain = world.service.get(world.create().id)
    assert (plain.slots, plain.kv_type, plain.pinned) == (0, "f16", False)
    assert world.audited(Tag.ROLLOUT_CREATED)[-1]["detail"]["serving"] == {}


def test_a_policy_is_kept_shown_and_audited(world: World) -> None:
    world.join("a")
    asked = FitPolicy(aim=Aim.SMALLEST, max_memory_bytes=BIG)
    view = world.create(policy=asked)
    shown = world.service.get(view.id).policy
    assert shown is not None
    assert (shown["aim"], shown["max_memory_bytes"]) == ("smallest", BIG)
    assert world.audited(Tag.ROLLOUT_CREATED)[-1]["detail"]["policy"] == {
        "aim": "smallest",
        "max_memory_bytes": BIG,
    }
    (execution,) = world.service.executions(view.id)
    assert execution.variant == "q4_0"
    assert [one["code"] for one in execution.verdicts] == [None, "LARGER"]


def test_a_policy_that_asks_for_nothing_is_another_than_the_release_s_own(world: World) -> None:
    world.join("a")
    plain = world.service.get(world.create(policy=FitPolicy()).id)
    assert plain.policy is not None
    assert world.audited(Tag.ROLLOUT_CREATED)[-1]["detail"]["policy"] == {}
    own = world.service.get(world.create().id)
    assert own.policy is None
    assert "policy" not in world.audited(Tag.ROLLOUT_CREATED)[-1]["detail"]


def test_an_impossible_policy_is_refused_with_one_sentence(world: World) -> None:
    world.join("a")
    with pytest.raises(RequestError) as caught:
        world.service.plan(replace(PLAN, policy=FitPolicy(min_context=4096)))
    assert caught.value.message == (
        "policy.min_context: expected at most the 256 tokens of context that this is planned with,"
        " found 4096"
    )


def test_what_other_aliases_hold_counts_by_how_they_are_served(world: World) -> None:
    """One slot leaves room for the larger variant; 64 do not."""
    alone = fit.need(Q8, 256).memory
    for name, slots in (("one", 1), ("many", 64)):
        world.join(name, 2 * alone + 2 * fit.MIB)
        device = Target(devices=(name,))
        world.create(alias="other", target=device, terms=ServingTerms(slots=slots))
    world.run_due()
    lines = {line.device_id: line.variant for line in world.service.plan(PLAN)}
    assert lines == {"one": "q8_0", "many": "q4_0"}


def test_every_change_by_an_operator_is_in_the_audit_log(world: World) -> None:
    world.join("a")
    view = world.create()
    for change in (world.service.pause, world.service.resume, world.service.stop):
        change(view.id, "token:ann")
    assert tags(world) == [
        Tag.ROLLOUT_CREATED,
        Tag.ROLLOUT_STARTED,
        Tag.ROLLOUT_PAUSED,
        Tag.ROLLOUT_RESUMED,
        Tag.ROLLOUT_STOPPED,
    ]
    assert world.woken == 5


def test_a_change_that_the_state_does_not_allow_changes_nothing(world: World) -> None:
    world.join("a")
    view = world.create(start=False)
    with pytest.raises(ConflictError) as caught:
        world.service.pause(view.id, "token:ann")
    assert caught.value.details["possible"] == ["edit", "submit", "schedule", "start", "stop"]
    assert world.service.get(view.id) == view
    assert tags(world) == [Tag.ROLLOUT_CREATED]


def test_the_newest_rollouts_come_first(world: World) -> None:
    world.join("a")
    created: list[str] = []
    for _ in range(3):
        created.insert(0, world.create(start=False).id)
        world.wait(seconds=1)
    assert [view.id for view in world.service.list()] == created
    assert [view.id for view in world.service.list(limit=1)] == created[:1]
    assert [view.id for view in world.service.list(id_beginning=created[1])] == created[1:2]
    assert world.service.list(id_beginning="%") == ()


def test_a_scheduled_rollout_waits_for_its_moment_in_its_row(world: World) -> None:
    device = world.join("a")
    at = world.now + timedelta(hours=2)
    view = world.create(start=False, start_at=at)
    assert view.state is RolloutState.SCHEDULED
    world.wait(hours=2, seconds=-1)
    world.run_due()
    assert world.state(view.id) == RolloutState.SCHEDULED
    device.heartbeat()
    world.wait(seconds=1)
    world.run_due()
    assert world.state(view.id) == RolloutState.RUNNING
    assert Tag.ROLLOUT_DUE in tags(world)
    device.sync()
    world.run_due()
    done = world.service.get(view.id)
    assert (done.state, done.started_at, done.finished_at) == (RolloutState.FINISHED, at, at)


LADDERED = Strategy(
    groups=(Group(name="canary", devices=1), Group(percent=50), Group(name="rest")),
    pace=Pace(starts_per_minute=30),
    priority=7,
)


def test_a_strategy_is_frozen_whole_and_cuts_the_devices_into_groups(world: World) -> None:
    for number in range(6):
        world.join(f"d{number}", BIG if number % 2 else SMALL, site=f"s{number % 3}")
    view = world.create(start=False, strategy=LADDERED, max_in_progress=4, execution_timeout_s=60)
    assert [(one.name, one.devices, one.state) for one in view.groups] == [
        ("canary", 1, "SCHEDULED"),
        ("1", 3, "SCHEDULED"),
        ("rest", 2, "SCHEDULED"),
    ]
    assert [sum(one.counts.values()) for one in view.groups] == [1, 3, 2]
    paced = replace_struct(
        LADDERED,
        pace=Pace(starts_per_minute=30, max_in_progress=4),
        deadlines=Deadlines(execution_s=60),
    )
    assert view.strategy == paced
    assert (view.max_in_progress, view.execution_timeout_s) == (4, 60)
    executions = world.service.executions(view.id)
    assert [one.group for one in executions] == [0, 1, 1, 1, 2, 2]
    assert {one.device_id: one.site for one in executions} == {
        f"d{number}": f"s{number % 3}" for number in range(6)
    }
    # As `grouping` draws them: another release draws others, another rollout of it the same.
    again = world.service.executions(world.create(start=False, strategy=LADDERED).id)
    assert [one.device_id for one in again] == [one.device_id for one in executions]
    with world.database.reading() as session:
        stored = session.exec(select(Rollout).where(col(Rollout.id) == view.id)).one()
        assert stored.priority == 7
        assert stored.strategy is not None
        # No later default changes it: what is as by default stands there too.
        assert stored.strategy["retries"] == {
            "attempts": 0,
            "base_s": 30,
            "ceiling_s": 3600,
            "penalty_s": 86400,
        }


def test_a_strategy_that_contradicts_itself_is_refused_and_keeps_nothing(world: World) -> None:
    world.join("a")
    wrong = Strategy(groups=(Group(devices=1, percent=5), Group()))
    with pytest.raises(RequestError, match=r"groups\[0\]: expected devices or percent, found both"):
        world.create(strategy=wrong)
    never = Strategy(activate_window=WindowSpec(cron="0 0 30 2 *", duration_s=60))
    with pytest.raises(RequestError, match=r"the activate window: .*never"):
        world.create(strategy=never)
    assert world.service.list() == ()


def test_an_edit_changes_the_pace_of_the_frozen_strategy(world: World) -> None:
    world.join("a")
    view = world.create(start=False, strategy=LADDERED)
    edited = world.service.edit(view.id, RolloutEdit(max_in_progress=9), "token:bob")
    assert edited.strategy.pace == Pace(starts_per_minute=30, max_in_progress=9)
    assert edited.strategy.groups == LADDERED.groups
    assert edited.revision == view.revision + 1


def test_devices_that_know_no_windows_are_not_in_a_rollout_that_has_them(world: World) -> None:
    old = world.join("old")
    old.hello(capability=4)
    world.join("new")
    night = WindowSpec(cron="0 2 * * *", duration_s=7200, zone="Europe/Paris")
    view = world.create(start=False, strategy=Strategy(download_window=night))
    states = {one.device_id: one.state for one in world.service.executions(view.id)}
    assert states == {"old": ExecutionState.REJECTED, "new": ExecutionState.QUEUED}


def test_a_plan_says_that_a_device_would_not_go_back_to_what_it_never_proved(world: World) -> None:
    world.publish("1.1.0", counter=2)
    went_on, fresh = world.join("a"), world.join("b")
    only_a = Target(devices=("a",))
    world.create("1.1.0", target=only_a)
    world.run_due()
    went_on.sync()
    world.run_due()
    assert fresh.running() == []

    plan = world.service.plan(PlanRequest(MODEL, "1.0.0", "assistant"))
    by_device = {one.device_id: one for one in plan}
    assert by_device["b"].action is Action.INSTALL
    refused = by_device["a"]
    assert refused.action is Action.REJECTED
    assert refused.reason is not None
    assert (refused.reason.code, refused.reason.found) == ("RELEASE_TOO_OLD", "release counter 1")
    assert "has proved talk@1.1.0" in refused.reason.message
    # Nothing is tried there.
    view = world.create("1.0.0")
    assert world.states(view.id)["a"] is ExecutionState.REJECTED


def test_a_device_may_go_back_to_what_it_proved_before(world: World) -> None:
    world.publish("1.1.0", counter=2)
    device = world.join("a")
    for release in ("1.0.0", "1.1.0"):
        world.create(release)
        world.run_due()
        device.sync()
        world.run_due()
        world.wait(seconds=1)
    (line,) = world.service.plan(PlanRequest(MODEL, "1.0.0", "assistant"))
    assert (line.action, line.reason) == (Action.INSTALL, None)
