"""Whole runs of worlds: what a rollout promises holds to the end, and a line replays a run."""

from __future__ import annotations

import dataclasses
import json

import pytest
from simulators.world import __main__ as command
from simulators.world.failures import MIXES, Failures, parse
from simulators.world.loop import Plan, World, run
from simulators.world.report import Report
from simulators.world.truth import Fallbacks
from simulators.world.watch import BreachError

FLEET = 20_000
# Nobody is away for longer than a day or so: else a full site is waited for through weeks.
SHORT = "rough,offline_s=100000"


def without_the_clock(report: Report) -> Report:
    return dataclasses.replace(report, wall_s=0.0)


def test_a_rough_world_comes_to_its_end_and_loses_nobody() -> None:
    # The world's own watch sees what is doubled, over a limit or started too late.
    world = World(Plan(seed=7, devices=FLEET, failures=MIXES["rough"]))
    report = world.run()
    assert report.state == "FINISHED"
    assert sum(report.states.values()) == FLEET
    assert set(report.states) == {"SUCCEEDED", "FAILED", "TIMED_OUT", "REJECTED", "ROLLED_BACK"}
    assert report.states["SUCCEEDED"] > 0.87 * FLEET
    assert sum(one.ended for group in report.groups for one in group.points[-1:]) == FLEET
    # Everyone who is away for longer than an execution may take, and nobody else.
    assert 0.03 * FLEET < report.reasons["OFFLINE"] < 0.05 * FLEET
    # What the controller concluded from digests is what happened.
    assert report.fallbacks.injected > 50
    assert report.fallbacks == Fallbacks(report.fallbacks.injected, report.reasons["REVERTED"])
    assert report.fallbacks.missed == 0


@pytest.mark.parametrize("strategy", ["ladder", "careful", "rolls-back", "all-at-once"])
@pytest.mark.parametrize("mix", [SHORT, "bad-release"])
def test_every_strategy_keeps_its_promises_in_every_weather(strategy: str, mix: str) -> None:
    plan = Plan(seed=3, devices=2_000, failures=parse(mix), strategy=strategy)
    report = run(plan)
    assert report.state in ("FINISHED", "PAUSED", "ROLLED_BACK")
    assert sum(report.states.values()) == 2_000


def test_a_line_replays_a_run_whatever_the_chunks() -> None:
    plan = Plan(seed=11, devices=2_000, failures=parse(SHORT), strategy="careful")
    first = run(plan)
    assert without_the_clock(run(plan)) == without_the_clock(first)
    other = run(dataclasses.replace(plan, seed=12))
    assert other.states != first.states
    one_by_one = run(dataclasses.replace(plan, chunk=300))
    assert (one_by_one.states, one_by_one.groups) == (first.states, first.groups)


def test_after_an_abort_nothing_starts_and_the_way_back_moves_no_model() -> None:
    # The watch ends the run at the first start after the abort.
    report = run(Plan(seed=5, devices=FLEET, failures=parse("crash=0.3"), strategy="rolls-back"))
    assert report.state == "ROLLED_BACK"
    assert "ROLLBACK of the ROLLOUT" in report.abort
    assert report.downloads_back == 0
    assert "SUCCEEDED" not in report.states
    assert report.reasons["ROLLED_BACK_BY_ROLLOUT"] > 1_000


def test_a_person_takes_everything_back_without_moving_a_model() -> None:
    report = run(Plan(seed=5, devices=1_000, failures=Failures(), roll_back_s=100_000))
    assert report.state == "ROLLED_BACK"
    assert report.states == {"ROLLED_BACK": 1_000}
    assert report.reasons == {"ROLLED_BACK_BY_ROLLOUT": 1_000}
    assert (report.model_downloads, report.downloads_back) == (1_000, 0)


def test_a_breach_ends_the_run_and_says_its_line() -> None:
    world = World(Plan(seed=5, devices=500))
    world.campaigns[0].watch.aborted(0)  # so that every start is one too many
    with pytest.raises(BreachError, match=r"started .* after the abort; again with: .*--seed 5"):
        world.run()


def test_the_command_writes_a_report_and_pictures(
    tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path_factory.mktemp("world")
    words = ["--seed", "7", "--devices", "800", "--failures", "rough", "--out", str(folder)]
    assert command.main(words) == 0
    said = capsys.readouterr().out
    assert "--seed 7 --devices 800 --failures rough --strategy ladder" in said
    assert json.loads((folder / "report.json").read_text())["devices"] == 800
    for name in ("burn-up.svg", "failures.svg"):
        assert (folder / name).read_text().startswith("<svg")


def test_the_command_refuses_what_is_no_mix(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--failures", "stormy"]) == 64
    assert "there is no mix 'stormy'" in capsys.readouterr().err
