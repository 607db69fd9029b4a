from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import fields
from simulators.controlled import ALIAS, World
from sprat_controller.link import inbound
from sprat_controller.store.tables import (
    DesiredModel,
)
from sprat_proto.audit_events import Tag, actor_name
from sprat_proto.probes import MAX_SAID, ProbeResult
from sprat_proto.states import DeviceState, ExecutionState, RolloutState
from sprat_proto.v1 import link_pb2
from sqlmodel import select

IN_PROGRESS, SUCCEEDED = ExecutionState.IN_PROGRESS, ExecutionState.SUCCEEDED


def report(seq: int, execution_id: str, state: str, **more: Any) -> link_pb2.Report:
    said = link_pb2.ExecutionReport(execution_id=execution_id, state=state, **more)
    return link_pb2.Report(seq=seq, at_ms=1, execution=said)


def acked(answers: list[link_pb2.ControllerMessage]) -> list[int]:
    return [one.report_ack.up_to for one in answers if one.HasField("report_ack")]


def test_reports_move_an_execution_to_its_end_and_wake_the_runner(world: World) -> None:
    device, rollout, _ = world.under_way()
    device.heartbeat()
    device.send_reports()
    assert (world.first_execution(rollout).step, world.states(rollout)["a"]) == (
        "DOWNLOADING",
        IN_PROGRESS,
    )
    woken = world.woken
    device.finish()
    device.send_reports()
    ended = world.first_execution(rollout)
    assert (ended.state, ended.step, ended.finished_at) == (SUCCEEDED, None, world.now)
    assert world.woken == woken + 1
    assert device.reports == []
    # Known before the next heartbeat.
    assert world.device("a").state == DeviceState.IN_SYNC


def test_a_repeated_report_is_acknowledged_again_and_one_too_early_is_not_kept(
    world: World,
) -> None:
    device, rollout, execution = world.under_way()
    first = report(1, execution, "IN_PROGRESS", step="VERIFYING")
    early = report(3, execution, "FAILED")
    assert acked(device.say(report=early)) == [0]
    assert acked(device.say(report=first)) == [1]
    assert acked(device.say(report=first)) == [1]
    assert acked(device.say(report=early)) == [1]
    assert world.states(rollout)["a"] is IN_PROGRESS
    assert world.first_execution(rollout).step == "VERIFYING"


def test_a_report_waiting_on_the_device_is_progress(world: World) -> None:
    device, rollout, execution = world.under_way()
    device.say(report=report(1, execution, "QUEUED"))
    assert world.states(rollout)["a"] is IN_PROGRESS


def test_success_without_the_assigned_digest_is_a_failure(world: World) -> None:
    device, rollout, execution = world.under_way()
    device.say(report=report(1, execution, "SUCCEEDED", running_digest="0" * 64))
    ended = world.first_execution(rollout)
    assert ended.state is ExecutionState.FAILED
    assert ended.reason is not None
    assert ended.reason["code"] == "DIGEST_MISMATCH"
    assert (ended.reason["expected"], ended.reason["found"]) == (ended.digest, "0" * 64)


def test_a_failure_keeps_its_reason_and_answers_with_the_way_back(world: World) -> None:
    device, rollout, execution = world.under_way()
    said = report(1, execution, "ROLLED_BACK")
    said.execution.reason.CopyFrom(
        link_pb2.Reason(code="PROBE_FAILED", message="m" * 9999, expected="x\n", found="y")
    )
    answers = device.say(report=said)
    assert [one.WhichOneof("body") for one in answers] == ["report_ack", "assignment"]
    ended = world.first_execution(rollout)
    assert ended.state is ExecutionState.ROLLED_BACK
    assert ended.reason == {
        "code": "PROBE_FAILED",
        "message": "m" * inbound.MAX_SENTENCE,
        "expected": "x?",
        "found": "y",
    }
    with world.database.reading() as session:
        assert session.exec(select(DesiredModel)).all() == []


def probed(**figures: int) -> link_pb2.Probe:
    said = {"score_permille": 900, "prompts": 10, "passed": 9, "perplexity_milli": 7_100}
    missed = link_pb2.FailedCheck(check="Who?", expected="A fish.", found="A\nbird." + "x" * 999)
    return link_pb2.Probe(**{**said, **figures}, failed=[missed])


def test_what_the_probe_measured_is_kept_with_the_execution(world: World) -> None:
    device, rollout, execution = world.under_way()
    device.say(report=report(1, execution, "IN_PROGRESS", step="PROBING"))
    assert world.first_execution(rollout).probe is None
    said = report(2, execution, "IN_PROGRESS", step="SOAKING", probe=probed())
    device.say(report=said)
    kept = world.first_execution(rollout).probe
    assert kept is not None
    assert set(kept) == {one.name for one in fields(ProbeResult)}
    assert (kept["passed"], kept["perplexity_milli"], kept["took_ms"]) == (9, 7_100, 0)
    found = ("A?bird." + "x" * 999)[:MAX_SAID]
    assert kept["failed"] == [{"check": "Who?", "expected": "A fish.", "found": found}]
    # A later report that says nothing of it takes nothing away.
    device.say(report=report(3, execution, "ROLLED_BACK"))
    assert world.first_execution(rollout).probe == kept


@pytest.mark.parametrize(
    "figures", [{"score_permille": 1001}, {"passed": 11}, {"peak_bytes": 1 << 60}]
)
def test_figures_that_no_probe_has_are_left_out_and_said(
    world: World, figures: dict[str, int]
) -> None:
    device, rollout, execution = world.under_way()
    said = report(1, execution, "IN_PROGRESS", step="SOAKING", probe=probed(**figures))
    device.say(report=said)
    found = world.first_execution(rollout)
    assert (found.step, found.probe) == ("SOAKING", None)
    (refused,) = world.audited(Tag.DEVICE_MESSAGE_REFUSED)
    assert "with figures of a probe" in str(refused)


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({"execution_id": "nobody"}, "FAILED"),
        ({"execution_id": "x" * 100_000}, "FAILED"),
        ({}, "TIMED_OUT"),
        ({}, "REMOVED"),
        ({}, "EXPLODED"),
        ({}, ""),
        ({"step": "DANCING"}, "IN_PROGRESS"),
    ],
)
def test_a_report_that_makes_no_sense_is_written_down_and_blocks_nothing(
    world: World, changes: dict[str, Any], state: str
) -> None:
    device, rollout, execution = world.under_way()
    said = report(1, **{"execution_id": execution, "state": state, **changes})
    assert acked(device.say(report=said)) == [1]
    assert world.states(rollout)["a"] is IN_PROGRESS
    refused = world.audited(Tag.DEVICE_MESSAGE_REFUSED)
    assert [(actor_name(one["actor"]), one["outcome"]) for one in refused] == [
        ("device:a", "denied")
    ]
    assert "report 1" in refused[0]["detail"]["found"]


def test_a_device_cannot_speak_for_another(world: World) -> None:
    _, rollout, execution = world.under_way()
    other = world.join("b")
    other.say(report=report(1, execution, "FAILED"))
    assert world.states(rollout)["a"] is IN_PROGRESS
    assert len(world.audited(Tag.DEVICE_MESSAGE_REFUSED)) == 1


def test_a_device_cannot_end_what_was_not_given_to_it(world: World) -> None:
    device = world.join("a")
    view = world.create(start=False)
    execution = world.first_execution(view.id)
    device.say(
        report=report(1, execution.id, "SUCCEEDED", running_digest=execution.digest),
    )
    assert world.states(view.id)["a"] is ExecutionState.QUEUED
    assert len(world.audited(Tag.DEVICE_MESSAGE_REFUSED)) == 1


def test_a_late_report_is_written_down_and_changes_nothing(world: World) -> None:
    device, rollout, _ = world.under_way()
    device.heartbeat()
    world.service.stop(rollout, "token:ann")
    world.run_due()
    device.finish()
    device.send_reports()
    assert world.states(rollout)["a"] is ExecutionState.CANCELED
    late = world.audited(Tag.EXECUTION_REPORTED_LATE)
    assert [one["detail"]["reported"] for one in late] == ["IN_PROGRESS", "SUCCEEDED"]
    assert late[-1]["detail"]["is"] == "CANCELED"
    assert world.state(rollout) == RolloutState.STOPPED


def test_reports_that_are_lost_for_good_are_passed_over_and_said(world: World) -> None:
    device, rollout, execution = world.under_way()
    device.hello(next_report_seq=8)
    lost = world.audited(Tag.DEVICE_REPORTS_LOST)
    assert [one["detail"] for one in lost] == [{"first": 1, "last": 7}]
    digest = world.first_execution(rollout).digest
    device.say(report=report(8, execution, "SUCCEEDED", running_digest=digest))
    assert world.states(rollout)["a"] is SUCCEEDED


def test_hello_acknowledges_what_the_device_still_keeps(world: World) -> None:
    device, _, execution = world.under_way()
    device.say(heard=False, report=report(1, execution, "IN_PROGRESS"))
    assert acked(device.hello(next_report_seq=1)) == [1]
    assert acked(device.hello(next_report_seq=2)) == []


def test_what_was_superseded_and_committed_all_the_same_is_gone_back_from(world: World) -> None:
    world.publish("2.0.0", counter=2)
    world.publish("3.0.0", counter=3)
    device = world.join("a")
    world.create("1.0.0")
    world.run_due()
    device.sync()
    world.run_due()
    proved = device.committed[ALIAS].digest
    world.create("2.0.0")
    world.run_due()
    device.heartbeat()
    device.finish()  # committed, and nobody has heard of it yet
    world.create("3.0.0")
    world.run_due()
    device.hear(world.pushed[-1][1])
    device.finish(ExecutionState.FAILED)
    assert device.committed[ALIAS].digest != proved
    device.send_reports()
    device.sync()
    assert device.committed[ALIAS].digest == proved
    assert world.device("a").state == DeviceState.IN_SYNC
