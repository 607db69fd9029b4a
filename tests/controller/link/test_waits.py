"""What a device says while it waits for its window."""

from __future__ import annotations

from collections.abc import Generator

import pytest
from simulators.controlled import World
from sprat_proto.states import ExecutionState
from sprat_proto.v1 import link_pb2

WAITS = link_pb2.Reason(code="WAITING_WINDOW", message="it opens at two")


@pytest.fixture
def world() -> Generator[World]:
    made = World()
    made.publish("1.0.0")
    yield made
    made.close()


def report(seq: int, execution_id: str, step: str, *, waits: bool = False) -> link_pb2.Report:
    said = link_pb2.ExecutionReport(execution_id=execution_id, step=step, state="IN_PROGRESS")
    if waits:
        said.reason.CopyFrom(WAITS)
    return link_pb2.Report(seq=seq, at_ms=1, execution=said)


def test_a_wait_is_the_reason_while_it_lasts_and_no_longer(world: World) -> None:
    device, rollout, execution = world.under_way()
    device.say(report=report(1, execution, "DOWNLOADING", waits=True))
    now = world.first_execution(rollout)
    assert (now.state, now.step) == (ExecutionState.IN_PROGRESS, "DOWNLOADING")
    assert now.reason is not None
    assert now.reason["code"] == "WAITING_WINDOW"
    device.say(report=report(2, execution, "DOWNLOADED"))
    assert world.first_execution(rollout).reason is None


def test_a_success_does_not_say_that_it_waits(world: World) -> None:
    device, rollout, execution = world.under_way()
    device.say(report=report(1, execution, "WAITING_WINDOW", waits=True))
    digest = world.first_execution(rollout).digest
    done = link_pb2.ExecutionReport(
        execution_id=execution, state="SUCCEEDED", running_digest=digest or ""
    )
    device.say(report=link_pb2.Report(seq=2, at_ms=1, execution=done))
    ended = world.first_execution(rollout)
    assert (ended.state, ended.reason) == (ExecutionState.SUCCEEDED, None)
