"""Each scenario comes to what its words promise, reckoned here without the world's own watch."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from simulators.world import __main__ as command
from simulators.world.campaign import CLASSES, Campaign
from simulators.world.columns import NEVER, NOTHING, code_number, state_number
from simulators.world.draws import Bools
from simulators.world.failures import parse
from simulators.world.known import BEFORE
from simulators.world.loop import World, scenario
from simulators.world.report import Report
from simulators.world.strategies import SCENARIOS
from sprat_controller.link.fallbacks import Account
from sprat_proto.states import ExecutionState, ReasonCode

BEGAN = datetime(2026, 1, 5, tzinfo=UTC)


def played(name: str, devices: int, *, seed: int = 7) -> tuple[World, Report]:
    world = World(scenario(name, seed=seed, devices=devices))
    return world, world.run()


def those_in(campaign: Campaign, state: ExecutionState) -> Bools:
    used = slice(campaign.columns.count)
    return campaign.columns.state[used] == state_number(state)


def test_who_enrols_later_joins_and_succeeds() -> None:
    world, report = played("joins", 1_000)
    enrolled = world.ground.devices.enrolled_ms
    (campaign,) = world.campaigns
    assert report.joined == (enrolled > 0).sum() > 200
    assert report.states == {"SUCCEEDED": 1_000}
    # Each once, and given it after it came, within a minute and a tick of the planner's.
    assert sorted(campaign.device.tolist()) == list(range(1_000))
    waited = campaign.columns.started_ms - enrolled[campaign.device]
    assert (waited >= 0).all()
    joined = enrolled[campaign.device] > 0
    last = campaign.columns.group == len(campaign.strategy.groups) - 1
    had_begun = joined & (enrolled[campaign.device] > 2 * 3_600_000)
    assert last[had_begun].all()
    first_try = campaign.columns.number == 1
    assert (waited[had_begun & first_try] <= 65_000).all()
    # Positions of those that join are behind all that were there.
    assert (np.flatnonzero(joined) >= 1_000 - report.joined).all()
    assert sum(group.devices for group in report.groups) == 1_000


def test_a_slower_hardware_class_fails_its_gate_and_the_others_pass() -> None:
    world, report = played("gates", 4_000)
    (campaign,) = world.campaigns
    assert (report.state, report.starts) == ("PAUSED", 40)
    decided = campaign.book.groups[0].judgement
    assert decided is not None
    assert decided.verdict == "FAIL"
    (gate,) = report.gates
    slow = CLASSES[SCENARIOS["gates"].failures.slow_class]
    assert gate.classes == {name: "FAILED" if name == slow else "HEALTHY" for name in CLASSES}
    assert f"{slow}: failed (expected a decode rate" in gate.said


def test_where_no_class_is_slower_every_gate_passes() -> None:
    plan = scenario("gates", seed=7, devices=1_000)
    report = World(replace(plan, failures=parse("none"))).run()
    assert report.state == "FINISHED"
    assert report.states == {"SUCCEEDED": 1_000}
    assert [(one.group, one.verdict) for one in report.gates] == [
        ("canary", "PASS"),
        ("10 %", "PASS"),
    ]


def test_one_crash_each_on_many_devices_fails_the_gate() -> None:
    plan = scenario("gates", seed=7, devices=1_000)
    report = World(replace(plan, failures=parse("crash=0.4"))).run()
    assert report.state == "PAUSED"
    assert report.gates[0].verdict == "FAIL"
    assert "crashes" in report.gates[0].said


def test_nothing_is_activated_outside_the_window_by_a_devices_own_clock() -> None:
    world, report = played("windows", 2_000)
    (campaign,) = world.campaigns
    devices = world.ground.devices
    assert report.states == {"SUCCEEDED": 2_000}
    assert report.reasons == {}
    installed = campaign.installed_ms
    assert (installed != NOTHING).all()
    paris = ZoneInfo("Europe/Paris")
    clocks = devices.local_ms(campaign.device, installed).tolist()
    local = [(BEGAN + timedelta(milliseconds=one)).astimezone(paris) for one in clocks]
    minutes = [one.hour * 60 + one.minute for one in local]
    assert all(90 <= one < 270 for one in minutes)  # 01:30 to 04:30
    # Devices of which the clock is wrong obey it, so by ours some were outside.
    ours = [(BEGAN + timedelta(milliseconds=one)).astimezone(paris) for one in installed.tolist()]
    assert not all(90 <= one.hour * 60 + one.minute < 270 for one in ours)


def test_a_download_that_was_cut_off_goes_on_in_the_evening_and_is_not_tried_again() -> None:
    world, report = played("windows", 2_000)
    (campaign,) = world.campaigns
    fetched = campaign.fetched_ms
    clocks = world.ground.devices.local_ms(campaign.device, fetched).tolist()
    hours = [(BEGAN + timedelta(milliseconds=one)).hour for one in clocks]
    assert all(hour >= 20 or hour < 4 for hour in hours)
    # The world was started three minutes before four: many were at it then, and ended at night.
    first = campaign.columns.group == 0
    was_begun = campaign.columns.started_ms < 4 * 3_600_000
    assert (first & was_begun & (fetched >= 20 * 3_600_000)).sum() > 50
    assert (campaign.columns.number == 1)[first].mean() > 0.9
    assert report.model_downloads == 2_000


def test_a_device_in_the_penalty_box_is_left_alone_by_every_rollout() -> None:
    world, report = played("penalty", 2_000)
    first, second = world.campaigns
    assert report.state == "FINISHED, FINISHED"
    failed = those_in(first, ExecutionState.FAILED)
    devices = first.device[failed]
    assert report.penalised == len(devices) > 100
    until = first.ended_ms[failed] + 6 * 3_600_000
    started = second.columns.started_ms[second.book.rows_of_devices(devices)]
    assert (started >= until).all()
    # Nobody else waits: the others were given the second as it was planned.
    fine = first.device[~failed]
    others = second.columns.started_ms[second.book.rows_of_devices(fine)]
    assert (others <= 3_600_000 + 5_000).all()
    assert (first.columns.tries[failed] == 1).all()


def test_of_two_equals_the_newer_takes_what_the_older_has_not_finished() -> None:
    world, report = played("newer", 2_000)
    older, newer = world.campaigns
    assert report.state == "FINISHED, FINISHED"
    assert those_in(newer, ExecutionState.SUCCEEDED).all()
    succeeded = those_in(older, ExecutionState.SUCCEEDED)
    assert (succeeded | those_in(older, ExecutionState.CANCELED)).all()
    assert report.reasons == {"SUPERSEDED": 2_000 - int(succeeded.sum())}
    # Some were under way, and ended just when the newer began on them: never two at once.
    began = newer.columns.started_ms[newer.book.rows_of_devices(older.device)]
    was_under_way = ~succeeded & (older.columns.number > 0)
    assert was_under_way.sum() > 50
    assert (older.ended_ms <= began).all()
    assert (older.columns.started_ms[was_under_way] <= began[was_under_way]).all()
    assert (world.ground.truth.running == newer.digest).all()


def test_higher_priority_goes_first_though_it_is_older() -> None:
    world, report = played("priority", 2_000)
    first, second = world.campaigns
    assert report.state == "FINISHED, FINISHED"
    assert those_in(first, ExecutionState.SUCCEEDED).all()
    superseded = those_in(second, ExecutionState.CANCELED)
    # What it took from the newer one ended just then; what it was at work on, the newer waited for.
    rows = first.book.rows_of_devices(second.device)
    began, ended = first.columns.started_ms[rows], first.ended_ms[rows]
    assert superseded.any()
    assert (second.ended_ms[superseded] == began[superseded]).all()
    others = ~superseded
    second_began, second_ended = second.columns.started_ms, second.ended_ms
    apart = (second_began >= ended) | (second_ended <= began)
    assert apart[others].all()
    last = np.where(ended > second_ended, first.digest, second.digest)
    last[superseded] = first.digest
    assert (world.ground.truth.running[second.device] == last).all()


def test_silent_fallbacks_are_concluded_of_those_devices_that_fell_back_and_of_no_others() -> None:
    world, report = played("fallbacks", 20_000)
    (campaign,) = world.campaigns
    # What really runs, device by device, against what the controller's book says of it.
    runs_old = world.ground.truth.running[campaign.device] == BEFORE
    went_back = those_in(campaign, ExecutionState.ROLLED_BACK)
    fell_back = went_back & (campaign.columns.reason == code_number(ReasonCode.REVERTED))
    fell = world.ground.truth.fell_ms[campaign.device] != NEVER
    assert (fell == fell_back).all()
    proved = those_in(campaign, ExecutionState.SUCCEEDED)
    assert not (runs_old & proved).any()
    assert (runs_old & fell_back).sum() == fell_back.sum() > 1_000
    assert report.fallbacks.injected == report.fallbacks.noticed == fell_back.sum()
    assert (report.fallbacks.missed, report.fallbacks.false) == (0, 0)
    assert report.reasons["REVERTED"] == fell_back.sum()


def test_a_controller_that_does_not_look_at_digests_misses_every_fallback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So what is counted comes of the controller's own code, not of what was injected."""

    def settle(before: Account, *_: object) -> Account:
        return before

    monkeypatch.setattr("sprat_controller.link.fallbacks.settle", settle)
    _, report = played("fallbacks", 2_000)
    assert report.fallbacks.injected > 100
    assert report.fallbacks.noticed == 0
    assert report.fallbacks.missed == report.fallbacks.injected
    assert "REVERTED" not in report.reasons


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_is_replayed_from_its_line(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []
    for _ in range(2):
        words = ["--seed", "5", "--devices", "300", "--scenario", name]
        assert command.main(words) == 0
        lines = capsys.readouterr().out.splitlines()
        assert "--seed 5 --devices 300" in lines[0]
        assert f"--scenario {name}" in lines[0]
        said.append("\n".join(lines).split(" of virtual time")[0] + "\n".join(lines[2:]))
    assert said[0] == said[1]
