"""A device keeps its windows by itself: no controller is in this file."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from simulators.device import NOW, Device, PowerCutError
from simulators.signed import assigned, release
from simulators.timed import Timed, device_on, disk_with
from simulators.zones import CHANGES, HOUR, MINUTE, local_minutes
from sprat_agent.sync.ports import ExecutionError, RetryLaterError
from sprat_proto.assignment import Windows
from sprat_proto.manifest import Activation
from sprat_proto.states import ExecutionState, ReasonCode, Step
from sprat_proto.windows import WindowSpec

OLD = release("1.0.0", [b"old"], counter=1)
NEW = release("2.0.0", [b"new"], counter=2)
OTHER = release("3.0.0", [b"other"], counter=3)
SOAKED = release("4.0.0", [b"soaked"], counter=4, activation=Activation(soak_s=1))
TWO = WindowSpec(cron="0 2 * * *", duration_s=3600, zone="UTC")  # from two to three
NIGHT = Windows(activate=TWO)
DAY = timedelta(days=1)


async def running_old(folder: Path, disk: Timed) -> Device:
    """Return a device at midnight that has committed the old release."""
    device = device_on(folder, disk)
    device.assign(assigned(1, [OLD.wanted("e-old")]))
    await device.live()
    disk.done.clear()
    return device


def waits_of(device: Device, execution: str) -> list[tuple[str, str]]:
    return [
        (one["detail"]["phase"], one["detail"]["reason"]["code"])
        for one in device.audit()
        if one["tag"] == "agent:execution:waits" and one["subject"] == f"execution/{execution}"
    ]


async def test_activation_waits_for_the_moment_that_its_window_opens(tmp_path: Path) -> None:
    disk = disk_with(OLD, NEW)
    device = await running_old(tmp_path, disk)
    device.assign(assigned(2, [NEW.wanted("e1", windows=NIGHT)]))
    await device.live_on(device.is_settled)
    assert disk.times("download") == [NOW]
    assert disk.times("install") == [NOW + 2 * HOUR]
    assert device.answers() == NEW.digest
    assert waits_of(device, "e1") == [("WAITING_WINDOW", "WAITING_WINDOW")]
    told = [one.execution for one in device.outbox.pending(0, 100)]
    (wait,) = [one for one in told if one.reason.code == "WAITING_WINDOW"]
    assert (wait.state, wait.step) == ("IN_PROGRESS", "WAITING_WINDOW")
    assert "opens at 2026-11-24T02:00:00+00:00" in wait.reason.message
    assert not told[-1].HasField("reason")  # and success has none
    device.close()


async def test_a_download_pauses_when_its_window_closes_and_goes_on_at_the_next(
    tmp_path: Path,
) -> None:
    disk = disk_with(NEW)
    disk.stuck.add(("download", NEW.digest))
    device = device_on(tmp_path, disk)
    device.assign(assigned(1, [NEW.wanted("e1", windows=Windows(download=TWO))]))
    await device.live_on(lambda: ("DOWNLOADING", "WAITING_WINDOW") in waits_of(device, "e1"))
    assert disk.times("download stopped") == [NOW + 3 * HOUR]
    assert device.phase("e1") is Step.DOWNLOADING
    device.now = NOW + 4 * HOUR
    disk.stuck.clear()
    await device.live_on(device.is_settled)
    assert disk.times("download") == [NOW + 2 * HOUR, NOW + DAY + 2 * HOUR]
    assert device.entered("e1")["DOWNLOADING"] == 1
    assert waits_of(device, "e1") == [
        ("QUEUED", "WAITING_WINDOW"),
        ("DOWNLOADING", "WAITING_WINDOW"),
    ]
    assert device.answers() == NEW.digest
    device.close()


async def test_a_download_that_fails_for_a_while_is_not_tried_again_when_its_window_closed(
    tmp_path: Path,
) -> None:
    disk = disk_with(NEW)
    disk.takes["download"] = 25 * MINUTE
    disk.faults["download", NEW.digest] = [RetryLaterError("away") for _ in range(5)]
    device = device_on(tmp_path, disk)
    device.assign(assigned(1, [NEW.wanted("e1", windows=Windows(download=TWO))]))
    await device.live_on(device.is_settled)
    tried = disk.times("download")
    assert len(tried) == 6
    assert {at.hour for at in tried} == {2}
    assert len({at.date() for at in tried}) > 1
    device.close()


async def test_nothing_begins_before_its_time(tmp_path: Path) -> None:
    disk = disk_with(NEW)
    device = device_on(tmp_path, disk)
    later = Windows(not_before=int((NOW + 5 * HOUR).timestamp()))
    device.assign(assigned(1, [NEW.wanted("e1", windows=later)]))
    await device.live_on(device.is_settled)
    assert disk.times("download") == disk.times("install") == [NOW + 5 * HOUR]
    assert waits_of(device, "e1") == [("QUEUED", "WAITING_START")]
    device.close()


@pytest.mark.parametrize("window", ["download", "activate"])
async def test_what_misses_its_deadline_has_failed_and_leaves_nothing(
    tmp_path: Path, window: str
) -> None:
    disk = disk_with(OLD, NEW)
    device = await running_old(tmp_path, disk)
    ends = int((NOW + HOUR).timestamp())
    download, activate = (TWO, None) if window == "download" else (None, TWO)
    asked = Windows(download=download, activate=activate, deadline=ends)
    device.assign(assigned(2, [NEW.wanted("e1", windows=asked)]))
    await device.live_on(device.is_settled)
    assert device.phase("e1") is ExecutionState.FAILED
    assert device.reason("e1")["code"] == "DEADLINE_PASSED"
    assert device.answers() == OLD.digest
    assert disk.fetched == disk.installed == {OLD.digest}
    device.close()


async def test_a_download_that_takes_too_long_ends_at_the_deadline(tmp_path: Path) -> None:
    disk = disk_with(NEW)
    disk.stuck.add(("download", NEW.digest))
    device = device_on(tmp_path, disk)
    ends = Windows(deadline=int((NOW + HOUR).timestamp()))
    device.assign(assigned(1, [NEW.wanted("e1", windows=ends)]))
    await device.live_on(device.is_settled)
    assert device.now == NOW + HOUR
    assert device.reason("e1")["code"] == "DEADLINE_PASSED"
    device.close()


async def test_in_an_emergency_nothing_is_waited_for(tmp_path: Path) -> None:
    disk = disk_with(NEW)
    device = device_on(tmp_path, disk)
    asked = Windows(download=TWO, activate=TWO, not_before=1 << 40, deadline=1, override=True)
    device.assign(assigned(1, [NEW.wanted("e1", windows=asked)]))
    await device.live()
    assert disk.times("install") == [NOW]
    device.close()


async def test_a_way_back_is_not_held_and_one_to_what_never_ran_here_is(tmp_path: Path) -> None:
    disk = disk_with(OLD, NEW, OTHER)
    device = await running_old(tmp_path, disk)
    device.assign(assigned(2, [NEW.wanted("e1")]))
    await device.live()
    back = Windows(activate=TWO, is_way_back=True)
    device.assign(assigned(3, [OLD.wanted("e1.return", windows=back)]))
    await device.live()
    assert device.answers() == OLD.digest
    device.assign(assigned(4, [OTHER.wanted("e2.return", windows=back)]))
    await device.live_on(device.is_settled)
    assert disk.times("install")[-1] == NOW + 2 * HOUR
    device.close()


async def test_what_waits_does_not_hold_up_others_nor_lose_what_it_fetched(tmp_path: Path) -> None:
    disk = disk_with(NEW, OTHER)
    device = device_on(tmp_path, disk)
    held, free = NEW.wanted("e1", "a", windows=NIGHT), OTHER.wanted("e2", "b")
    device.assign(assigned(1, [held, free]))
    await device.live_on(device.is_settled)
    free_at, held_at = disk.times("install")
    assert free_at < held_at == NOW + 2 * HOUR
    assert (device.answers("a"), device.answers("b")) == (NEW.digest, OTHER.digest)
    assert len(disk.times("download")) == 2  # and not a third time
    device.close()


async def test_a_long_download_does_not_cost_another_its_window(tmp_path: Path) -> None:
    disk = disk_with(NEW, OTHER)
    device = device_on(tmp_path, disk)
    device.assign(assigned(1, [NEW.wanted("e1", "a", windows=NIGHT), OTHER.wanted("e2", "b")]))
    disk.stuck.add(("download", OTHER.digest))
    await device.live_on(lambda: device.phase_or_none("e1") is ExecutionState.SUCCEEDED)
    assert disk.times("install") == [NOW + 2 * HOUR]
    assert device.phase("e2") is Step.DOWNLOADING
    disk.stuck.clear()
    await device.live_on(device.is_settled)
    assert device.answers("b") == OTHER.digest
    device.close()


async def test_what_waits_is_superseded_at_once(tmp_path: Path) -> None:
    disk = disk_with(OLD, NEW, OTHER)
    device = await running_old(tmp_path, disk)
    device.assign(assigned(2, [NEW.wanted("e1", windows=NIGHT)]))
    await device.run_until(lambda: waits_of(device, "e1"))
    device.assign(assigned(3, [OTHER.wanted("e2")]))
    await device.live()
    assert device.phase("e1") is ExecutionState.CANCELED
    assert device.answers() == OTHER.digest
    assert disk.fetched == disk.installed == {OLD.digest, OTHER.digest}
    device.close()


async def test_while_the_time_is_not_known_windows_are_closed(tmp_path: Path) -> None:
    disk = disk_with(NEW)
    device = device_on(tmp_path, disk, NOW + 2 * HOUR)
    device.is_time_known = False
    device.assign(assigned(1, [NEW.wanted("e1", windows=NIGHT)]))
    await device.run_until(lambda: waits_of(device, "e1"))
    told = [one.execution for one in device.outbox.pending(0, 100)]
    assert "does not know what time it is" in told[-1].reason.message
    assert disk.times("install") == []
    device.is_time_known = True
    await device.live_on(device.is_settled)
    assert disk.times("install") == [NOW + 2 * HOUR]
    device.close()


@pytest.mark.parametrize(
    ("cron", "zone", "found"),
    [
        ("0 2 * * *", "Mars/Olympus", "'Mars/Olympus'"),
        ("0 25 * * *", "UTC", "'25'"),
        ("0 2 30 2 *", "UTC", "expected a window that opens"),
    ],
)
async def test_a_window_that_is_none_is_refused_with_a_reason(
    tmp_path: Path, cron: str, zone: str, found: str
) -> None:
    disk = disk_with(OLD, NEW)
    device = await running_old(tmp_path, disk)
    never = Windows(activate=WindowSpec(cron=cron, duration_s=3600, zone=zone))
    device.assign(assigned(2, [NEW.wanted("e1", windows=never)]))
    await device.live()
    assert device.phase("e1") is ExecutionState.FAILED
    assert device.reason("e1")["code"] == "WINDOW_INVALID"
    assert found in device.reason("e1")["message"]
    assert device.answers() == OLD.digest
    device.close()


async def test_what_began_within_its_window_may_end_after_it(tmp_path: Path) -> None:
    disk = disk_with(OLD, NEW)
    device = await running_old(tmp_path, disk)
    disk.takes = {"install": 40 * MINUTE, "load_candidate": 40 * MINUTE}
    device.assign(assigned(2, [NEW.wanted("e1", windows=NIGHT)]))
    await device.live_on(device.is_settled)
    start = NOW + 2 * HOUR
    assert disk.times("install") == [start]
    assert disk.times("probe")[0] == start + 80 * MINUTE
    assert device.answers() == NEW.digest
    device.close()


async def test_another_attempt_needs_a_window_of_its_own(tmp_path: Path) -> None:
    disk = disk_with(OLD, NEW)
    device = await running_old(tmp_path, disk)
    disk.takes = {"install": 90 * MINUTE}
    disk.faults["install", NEW.digest] = [RetryLaterError("busy")]
    device.assign(assigned(2, [NEW.wanted("e1", windows=NIGHT)]))
    await device.live_on(device.is_settled)
    assert disk.times("install") == [NOW + 2 * HOUR, NOW + DAY + 2 * HOUR]
    device.close()


async def test_a_failed_probe_is_rolled_back_though_the_window_has_closed(tmp_path: Path) -> None:
    disk = disk_with(OLD, NEW)
    device = await running_old(tmp_path, disk)
    disk.takes = {"load_candidate": 2 * HOUR}
    disk.defects["probe", NEW.digest] = ExecutionError(ReasonCode.PROBE_FAILED, "babble")
    device.assign(assigned(2, [NEW.wanted("e1", windows=NIGHT)]))
    await device.live_on(device.is_settled)
    assert device.phase("e1") is ExecutionState.ROLLED_BACK
    assert device.now == NOW + 4 * HOUR
    assert disk.installed == {OLD.digest}
    device.close()


async def test_a_soak_goes_on_after_a_restart_by_day(tmp_path: Path) -> None:
    disk = disk_with(OLD, SOAKED)
    device = await running_old(tmp_path, disk)
    device.assign(assigned(2, [SOAKED.wanted("e1", windows=NIGHT)]))
    await device.live_on(lambda: ("e1", "SOAKING", "entered") in device.moments)
    device.cut_power()
    again = device_on(tmp_path, disk, NOW + 12 * HOUR)
    await again.live()
    assert again.answers() == SOAKED.digest
    again.close()


ACTIVATING = ("install", "load_candidate")
CUTS = [
    None,
    ("WAITING_WINDOW", "done"),
    ("INSTALLING", "done"),
    ("PROBING", "entered"),
    ("ACTIVATING", "entered"),
]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("cron", ["30 2 * * *", "15 1,2 * * *"])
@pytest.mark.parametrize(("zone", "change", "forward"), CHANGES)
async def test_nothing_is_activated_outside_of_windows_where_clocks_change(
    tmp_path: Path,
    zone: str,
    change: datetime,
    cron: str,
    cut: tuple[str, str] | None,
    *,
    forward: bool,
) -> None:
    """The power is cut within the window, and comes back after it has closed."""
    del forward
    start = (change - 5 * HOUR).replace(minute=0)
    minute, hours = cron.split()[:2]
    openings = [
        moment
        for local, moment in local_minutes(zone, start - DAY, start + 3 * DAY).items()
        if local.minute == int(minute) and str(local.hour) in hours.split(",")
    ]
    length = 40 * MINUTE
    disk = disk_with(OLD, NEW)
    device = await running_old(tmp_path, disk)
    device.now = start
    window = WindowSpec(cron=cron, duration_s=int(length.total_seconds()), zone=zone)
    device.assign(
        assigned(2, [NEW.wanted("e1", windows=Windows(activate=window))]), NOW + 999 * DAY
    )

    def power(_execution: str, phase: str, moment: str) -> None:
        if (phase, moment) == cut:
            raise PowerCutError

    device.on_transition = power
    if cut is None:
        await device.live_on(device.is_settled)
    else:
        with pytest.raises(PowerCutError):
            await device.live_on(device.is_settled)
        assert device.answers() == OLD.digest
        device.cut_power()
        device = device_on(tmp_path, disk, device.now + length)
        await device.live_on(device.is_settled)
    assert device.answers() == NEW.digest
    activated = [at for name, at in disk.done if name in ACTIVATING]
    assert activated
    for at in activated:
        assert any(one <= at < one + length for one in openings), at
    first = min(one for one in openings if one + length > start)
    # What was begun in the window in which the power was cut is begun again at the next opening.
    second = min(one for one in openings if one >= first + length)
    expected = {None: {first}, ("WAITING_WINDOW", "done"): {second}}.get(cut, {first, second})
    assert set(activated) == expected
    device.close()


async def test_alarms_are_no_polling(tmp_path: Path) -> None:
    disk = disk_with(NEW)
    device = device_on(tmp_path, disk)
    device.assign(assigned(1, [NEW.wanted("e1", windows=NIGHT)]))
    running = asyncio.create_task(device.live())
    slept = 0.0
    while slept < 2 * 3600:
        slept += await device.sleep_on()
    await running
    assert slept == 2 * 3600  # to the second
    assert device.now == datetime(2026, 11, 24, 2, 0, tzinfo=UTC)
    device.close()
