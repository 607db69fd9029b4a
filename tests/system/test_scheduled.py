"""A rollout that starts at a time, and one that is paused, resumed and stopped."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from processes import wait_for
from simulators.fleet import ALIAS, MODEL, Fleet, ask


def now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 - the test stands outside, beside a real clock


def test_a_rollout_starts_at_its_time_even_over_a_restart_of_the_controller(fleet: Fleet) -> None:
    agent = fleet.agent("timed-1")
    fleet.wait_online(["timed-1"])
    at = now() + timedelta(seconds=8)
    rollout = fleet.start_rollout("1.0.0", ["timed-1"], "--at", at.isoformat())
    shown = fleet.sprat("rollout", "show", rollout, "-o", "json")
    assert shown["state"] == "SCHEDULED"
    fleet.controller.kill()
    fleet.controller.start()
    executions = fleet.wait_finished(rollout)
    assert executions["timed-1"]["state"] == "SUCCEEDED"
    assert datetime.fromisoformat(executions["timed-1"]["started_at"]) >= at
    assert ask(agent)[1] == fleet.digests["1.0.0"]


def test_a_stopped_rollout_ends_with_a_state_per_device(fleet: Fleet) -> None:
    fleet.enrolled("never-online")
    agent = fleet.agent("waits-1")
    fleet.wait_online(["waits-1"])
    # The first device is declared absent: the rollout cannot finish by itself.
    plan = fleet.sprat(
        *("rollout", "plan", f"{MODEL}@1.0.0", "--alias", ALIAS, "--device", "never-online"),
        *("-o", "json"),
    )
    assert plan["devices"][0]["action"] == "REJECTED"
    assert plan["devices"][0]["reason"]["code"] == "NO_PROFILE"
    agent.terminate()
    rollout = fleet.start_rollout("1.0.0", ["waits-1"])
    fleet.sprat("rollout", "pause", rollout, "-o", "json")
    fleet.sprat("rollout", "resume", rollout, "-o", "json")
    fleet.sprat("rollout", "stop", rollout, "--yes", "-o", "json")
    wait_for(
        "the rollout to be stopped",
        lambda: fleet.state(rollout) == "STOPPED",
    )
    assert fleet.executions(rollout)["waits-1"]["state"] == "CANCELED"
