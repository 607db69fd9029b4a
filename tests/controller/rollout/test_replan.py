"""A device that refuses its variant by its own facts gets the next one, as long as there is one."""

from __future__ import annotations

from collections.abc import Generator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulators import controlled
from simulators.controlled import ALIAS, SMALL, TOO_LARGE, KilledError, SimDevice, World
from simulators.plain_signer import read_plan
from sprat_controller.rollout import attempts, replan
from sprat_controller.rollout.plan import DeviceFacts, Reason, plan_device
from sprat_controller.rollout.strategy import Strategy, WindowSpec
from sprat_controller.store.tables import Release, Rollout
from sprat_proto import approval, fit
from sprat_proto.audit_events import Tag, actor_name
from sprat_proto.capability import WINDOWS
from sprat_proto.states import DeviceState, ExecutionState, ReasonCode, RolloutState
from sprat_proto.v1 import link_pb2

QUEUED, IN_PROGRESS = ExecutionState.QUEUED, ExecutionState.IN_PROGRESS
REJECTED, SUCCEEDED = ExecutionState.REJECTED, ExecutionState.SUCCEEDED
VARIANTS = ("q8_0", "q5_1", "q4_0")
# Statements of the transaction that plans a device anew: kills come at each of them.
STATEMENTS = 30


@pytest.fixture(autouse=True)
def three_variants(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(controlled.WEIGHTS, "q5_1", 150)


@pytest.fixture
def world() -> Generator[World]:
    made = World()
    made.publish("1.0.0")
    yield made
    made.close()


def refuse(device: SimDevice, reason: link_pb2.Reason = TOO_LARGE) -> None:
    """Have the device refuse what it is to bring, and the planner do what follows."""
    (wanted,) = device.under_way()
    device.finish(REJECTED)
    device.reports[-1].execution.reason.CopyFrom(reason)
    device.send_reports()
    device.world.run_due()
    device.heartbeat()
    assert all(one.execution_id != wanted.execution_id for one in device.under_way())


def tried(device: SimDevice) -> str | None:
    models = device.under_way()
    return models[0].variant if models else None


def test_a_device_that_refuses_a_variant_gets_the_next_best_one(world: World) -> None:
    device, rollout, execution = world.under_way()
    device.heartbeat()
    assert (tried(device), device.under_way()[0].execution_id) == ("q8_0", execution)
    refuse(device)
    assert (tried(device), device.under_way()[0].execution_id) == ("q5_1", f"{execution}.2")
    refuse(device)
    assert (tried(device), device.under_way()[0].execution_id) == ("q4_0", f"{execution}.3")
    device.sync()
    world.run_due()
    view = world.first_execution(rollout)
    assert (view.id, view.state, view.variant, view.reason) == (
        execution,
        SUCCEEDED,
        "q4_0",
        None,
    )
    assert world.service.get(rollout).counts == {SUCCEEDED: 1}
    assert world.state(rollout) == RolloutState.FINISHED
    assert world.device("a").state == DeviceState.IN_SYNC
    assert set(device.runs.values()) == {1}


def test_each_refusal_is_kept_with_the_numbers_of_the_device(world: World) -> None:
    device, rollout, _ = world.under_way()
    device.heartbeat()
    refuse(device)
    verdicts = world.first_execution(rollout).verdicts
    assert [one["variant"] for one in verdicts] == [*VARIANTS]
    assert (verdicts[0]["code"], verdicts[0]["fits"]) == ("INSUFFICIENT_MEMORY", False)
    assert verdicts[0]["message"] == "refused by the device: it is too large"
    assert (verdicts[0]["expected"], verdicts[0]["found"]) == ("1 byte", "2 bytes")
    assert verdicts[0]["need"]["memory"] > 0
    assert verdicts[1]["code"] is None
    assert verdicts[2]["code"] == "LOWER_QUALITY"
    (record,) = world.audited(Tag.EXECUTION_REPLANNED)
    assert actor_name(record["actor"]) == "planner"
    detail = record["detail"]
    assert (detail["from"], detail["to"], detail["attempt"]) == (IN_PROGRESS, QUEUED, 1)
    assert (detail["refused"], detail["next"]) == (verdicts[0]["digest"], verdicts[1]["digest"])
    assert detail["because"]["found"] == "2 bytes"


def test_what_the_device_told_last_counts(world: World) -> None:
    device, rollout, _ = world.under_way()
    device.heartbeat()
    device.budget = SMALL  # it has less than it had told
    device.hello()
    refuse(device)
    assert tried(device) == "q4_0"
    codes = [one["code"] for one in world.first_execution(rollout).verdicts]
    assert codes == ["INSUFFICIENT_MEMORY", "INSUFFICIENT_MEMORY", None]
    assert "by_device" not in world.first_execution(rollout).verdicts[1]


def test_an_agent_that_was_set_back_is_not_told_of_windows(world: World) -> None:
    device = world.join("a")
    night = WindowSpec(cron="0 2 * * *", duration_s=3600, zone="Europe/Berlin")
    rollout = world.create(strategy=Strategy(activate_window=night)).id
    world.run_due()
    device.heartbeat()
    device.capability = WINDOWS - 1
    device.hello()
    refuse(device)
    assert tried(device) is None
    view = world.first_execution(rollout)
    assert view.state == REJECTED
    assert view.reason is not None
    assert "cannot be told windows" in view.reason["message"]


def test_none_left_is_an_end_that_names_each_refusal(world: World) -> None:
    device, rollout, _ = world.under_way()
    device.heartbeat()
    for _ in VARIANTS:
        refuse(device)
    view = world.first_execution(rollout)
    assert (view.state, world.state(rollout)) == (REJECTED, RolloutState.FINISHED)
    assert view.reason is not None
    assert view.reason["code"] == "NO_VARIANT_FITS"
    assert all(f"{name}: refused by the device" in view.reason["message"] for name in VARIANTS)
    assert device.under_way() == []
    assert len(world.audited(Tag.EXECUTION_REPLANNED)) == len(VARIANTS) - 1


def test_the_former_model_answers_through_all_of_it(world: World) -> None:
    device = world.join("a")
    world.create()
    world.run_due()
    device.sync()
    before = device.committed[ALIAS].digest
    world.publish("2.0.0", counter=2)
    view = world.create("2.0.0")
    world.run_due()
    device.heartbeat()
    for _ in VARIANTS:
        refuse(device)
        assert device.committed[ALIAS].digest == before
    assert world.states(view.id) == {"a": REJECTED}
    assert world.device("a").state == DeviceState.IN_SYNC


@pytest.mark.parametrize("code", ["SIGNATURE_INVALID", "NOT_APPROVED", "QUARANTINED", "NOVEL"])
def test_a_refusal_for_another_reason_is_the_end(world: World, code: str) -> None:
    device, rollout, _ = world.under_way()
    device.heartbeat()
    refuse(device, link_pb2.Reason(code=code, message="no"))
    view = world.first_execution(rollout)
    assert view.state is REJECTED
    assert view.reason is not None
    assert view.reason["code"] == code


def test_a_paused_rollout_keeps_the_next_choice_for_later(world: World) -> None:
    device, rollout, execution = world.under_way()
    device.heartbeat()
    world.service.pause(rollout, "token:ann")
    refuse(device)
    assert world.states(rollout) == {"a": QUEUED}
    assert device.under_way() == []
    world.service.resume(rollout, "token:ann")
    world.run_due()
    device.heartbeat()
    assert [one.execution_id for one in device.under_way()] == [f"{execution}.2"]


def test_each_attempt_has_its_whole_time(world: World) -> None:
    device = world.join("a")
    view = world.create(execution_timeout_s=300)
    world.run_due()
    device.heartbeat()
    world.wait(seconds=299)
    refuse(device)
    world.wait(seconds=299)
    world.run_due()
    assert world.states(view.id) == {"a": IN_PROGRESS}
    world.wait(seconds=1)
    world.run_due()
    assert world.states(view.id) == {"a": ExecutionState.TIMED_OUT}


def test_an_attempt_that_is_stopped_returns_the_device(world: World) -> None:
    device, rollout, _ = world.under_way()
    device.heartbeat()
    refuse(device)
    world.service.stop(rollout, "token:ann")
    world.run_due()
    device.sync()
    assert (world.states(rollout), device.committed) == ({"a": ExecutionState.CANCELED}, {})


def test_what_a_device_says_of_a_former_or_later_attempt_changes_nothing(world: World) -> None:
    device, rollout, execution = world.under_way()
    device.heartbeat()
    refuse(device)
    device.send_reports()
    before = world.first_execution(rollout)
    for attempt in (1, 3, 4):
        device.last_seq += 1
        name = attempts.name_of(execution, attempt)
        said = link_pb2.ExecutionReport(execution_id=name, state="REJECTED", reason=TOO_LARGE)
        device.say(report=link_pb2.Report(seq=device.last_seq, execution=said))
    assert world.first_execution(rollout) == before
    assert len(world.audited(Tag.EXECUTION_REPORTED_LATE)) == 3


def test_a_device_cannot_refuse_what_it_was_not_given(world: World) -> None:
    device = world.join("a")
    view = world.create(start=False)
    said = link_pb2.ExecutionReport(
        execution_id=world.first_execution(view.id).id, state="REJECTED", reason=TOO_LARGE
    )
    device.say(report=link_pb2.Report(seq=1, execution=said))
    assert world.states(view.id) == {"a": QUEUED}
    assert len(world.audited(Tag.DEVICE_MESSAGE_REFUSED)) == 1


def test_of_a_release_that_was_retired_meanwhile_nothing_more_comes(world: World) -> None:
    device, rollout, _ = world.under_way()
    device.heartbeat()
    with world.database.transaction() as session:
        session.get_one(Release, ("talk", "1.0.0")).retired_at = world.now
    refuse(device)
    view = world.first_execution(rollout)
    assert view.state is REJECTED
    assert view.reason is not None
    assert "1 of 3 variants were tried" in view.reason["message"]
    assert "was retired by its publisher" in view.reason["message"]


@pytest.mark.parametrize("signed", [("q8_0",), ("q8_0", "q4_0")])
def test_only_what_was_approved_comes_into_question(world: World, signed: Sequence[str]) -> None:
    device, rollout, _ = world.under_way()
    device.heartbeat()
    digests = {one["variant"]: one["digest"] for one in world.first_execution(rollout).verdicts}
    spec = approval.RolloutSpec(
        schema=1,
        rollout_id=rollout,
        alias=ALIAS,
        digests=[digests[name] for name in signed],
        groups=["default"],
        context=256,
        max_in_progress=0,
        run_until=0,
        requested_by="ann",
        requester_key_id="",
        not_after=1 << 33,
    )
    with world.database.transaction() as session:
        session.get_one(Rollout, rollout).spec = approval.encode(spec)
    refuse(device)
    assert tried(device) == (None if len(signed) == 1 else "q4_0")


@pytest.mark.parametrize("statement", range(STATEMENTS))
def test_a_kill_anywhere_costs_nothing_and_repeats_nothing(world: World, statement: int) -> None:
    device, rollout, execution = world.under_way()
    device.heartbeat()
    device.finish(REJECTED)
    try:
        with world.killed_after(statement):
            device.send_reports()
            world.run_due()
    except KilledError:
        pass
    assert world.first_execution(rollout).state in (IN_PROGRESS, QUEUED)
    device.send_reports()
    world.run_due()
    device.heartbeat()
    assert [one.execution_id for one in device.under_way()] == [f"{execution}.2"]
    assert len(world.audited(Tag.EXECUTION_REPLANNED)) == 1
    device.sync()
    world.run_due()
    assert world.states(rollout) == {"a": SUCCEEDED}


def test_the_newest_plan_is_sent_again_when_both_pushes_were_lost(world: World) -> None:
    device, _, execution = world.under_way()
    device.heartbeat()
    device.finish(REJECTED)
    for report in list(device.reports):
        device.say(heard=False, report=report)
    world.run_due()
    newest = world.pushed[-1][1].assignment
    assert [one.execution_id for one in read_plan(newest).models] == [f"{execution}.2"]
    device.heartbeat()
    assert tried(device) == "q5_1"


# What is pure

DIGESTS = {name: str(number) * 64 for number, name in enumerate(VARIANTS)}


def candidates(names: Sequence[str]) -> list[fit.Candidate]:
    made: list[fit.Candidate] = []
    for name in names:
        one = controlled.a_manifest(name, 100, model="talk", release="1.0.0", counter=1)
        hardware = tuple(one.hardware_ids)
        made.append(fit.Candidate(name, DIGESTS[name], one.runtime, hardware, 0, one.facts))
    return made


PROFILE = fit.Profile(
    arch="x86_64",
    cores=4,
    cpu_features=(),
    memory_bytes=1 << 40,
    memory_budget_bytes=1 << 40,
    disk_free_bytes=1 << 40,
    accelerators=(),
    os="linux",
    simulated=True,
    runtimes=("llama.cpp",),
)


@given(
    order=st.permutations(VARIANTS),
    first=st.sets(st.sampled_from(VARIANTS), min_size=1),
    messages=st.lists(st.text(max_size=20), min_size=3, max_size=3),
)
def test_what_the_device_said_is_never_judged_again(
    order: Sequence[str], first: set[str], messages: Sequence[str]
) -> None:
    """Whatever is judged anew, refusals stay as they were and what is chosen is always listed."""
    device = DeviceFacts("a", PROFILE)
    line = plan_device(device, candidates(sorted(first)), 256)
    known = replan.merged([], line)
    said: dict[str, str] = {}
    for name, message in zip(order, messages, strict=True):
        reason = Reason(ReasonCode.INSUFFICIENT_MEMORY, message, "1", "2")
        known = replan.refused(known, DIGESTS[name], reason)
        if any(one["digest"] == DIGESTS[name] for one in known):
            said[name] = message
        left = [one for one in VARIANTS if one not in said]
        line = plan_device(device, candidates(left), 256)
        before, known = known, replan.merged(known, line)
        assert [one["digest"] for one in known][: len(before)] == [one["digest"] for one in before]
        own = {one["variant"]: one["message"] for one in known if one.get("by_device")}
        assert own == {name: f"refused by the device: {text}" for name, text in said.items()}
        assert line.digest is None or line.digest in [one["digest"] for one in known]


@given(st.integers(1, 64))
def test_the_name_of_each_attempt_leads_back_to_its_execution(attempt: int) -> None:
    name = attempts.name_of("0b5f", attempt)
    assert attempts.execution_of(name) == "0b5f"
    assert (name == "0b5f") is (attempt == 1)
    assert attempts.execution_of(attempts.way_back("0b5f")) == "0b5f"
