"""No activation outside of a window, both changes of clocks in three zones, no controller.

A device gets its plan and hears nothing more. What it does is held against another way to tell the
time than its own: walking over all minutes around the change (`simulators.zones`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from itertools import cycle, pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulators.device import Device, PowerCutError
from simulators.signed import assigned, release
from simulators.timed import Timed, device_on, disk_with
from simulators.zones import BERLIN, CHANGES, HOUR, LORD_HOWE, MINUTE, NEW_YORK, local_minutes
from sprat_agent.sync import holds
from sprat_agent.sync.freshness import Timekeeper, time_by
from sprat_agent.sync.phases import Phase
from sprat_agent.sync.plan import Execution, Hold
from sprat_proto.assignment import Windows
from sprat_proto.states import ExecutionState, Step
from sprat_proto.windows import WindowSpec

OLD = release("1.0.0", [b"old"], counter=1)
NEW = release("2.0.0", [b"new"], counter=2)
DAY = timedelta(days=1)
ACTIVATES: tuple[Phase, ...] = (
    Step.WAITING_WINDOW,
    Step.INSTALLING,
    Step.PROBING,
    Step.ACTIVATING,
)
DOWNLOADS: tuple[Phase, ...] = (ExecutionState.QUEUED, Step.DOWNLOADING)
ACTS = {"download": "download", "install": "activate", "load_candidate": "activate"}
# Berlin's clocks change as those of Paris.
TURNS = [
    (BERLIN if zone not in (NEW_YORK, LORD_HOWE) else zone, change) for zone, change, _ in CHANGES
]
NAMES = [f"{zone} {change:%B}" for zone, change in TURNS]


@dataclass(frozen=True)
class Rule:
    """A window of so many minutes at some minutes and hours of each day."""

    minute: int
    hours: tuple[int, ...]
    length: timedelta
    zone: str

    @property
    def spec(self) -> WindowSpec:
        cron = f"{self.minute} {','.join(map(str, self.hours))} * * *"
        return WindowSpec(cron=cron, duration_s=int(self.length.total_seconds()), zone=self.zone)

    def openings(self, around: datetime) -> list[datetime]:
        return [
            moment
            for local, moment in walked(self.zone, around).items()
            if local.minute == self.minute and local.hour in self.hours
        ]

    def is_open(self, moment: datetime, openings: list[datetime]) -> bool:
        return any(one <= moment < one + self.length for one in openings)


@cache
def walked(zone: str, change: datetime) -> dict[datetime, datetime]:
    start = change.replace(minute=0) - 4 * DAY
    return local_minutes(zone, start, start + 10 * DAY)


def outside(
    disk: Timed, windows: dict[str, Rule], change: datetime
) -> list[tuple[str, str, datetime]]:
    """Return what the device did although its window was closed."""
    openings = {name: rule.openings(change) for name, rule in windows.items()}
    return [
        (act, ACTS[act], at)
        for act, at in disk.done
        if act in ACTS
        and ACTS[act] in windows
        and not windows[ACTS[act]].is_open(at, openings[ACTS[act]])
    ]


async def with_old(folder: Path, disk: Timed, now: datetime) -> Device:
    device = device_on(folder, disk, now)
    device.assign(assigned(1, [OLD.wanted("e-old")]), now + 999 * DAY)
    await device.live()
    disk.done.clear()
    device.now = now
    return device


@pytest.mark.parametrize("hours", [(1, 2, 3), (0, 23)])
@pytest.mark.parametrize(("zone", "change"), TURNS, ids=NAMES)
def test_at_every_minute_what_may_begin_is_what_the_local_clock_says(
    zone: str, change: datetime, hours: tuple[int, ...]
) -> None:
    """Two days, minute by minute, by a clock that nothing keeps right any more."""
    begin = change - DAY
    now = begin

    def uptime() -> float:
        return (now - begin).total_seconds()

    timekeeper = Timekeeper(
        # After it lost its source, the system's clock goes wrong by hours: it is not believed.
        clock=lambda: now if now == begin else now + 5 * HOUR,
        is_synchronised=lambda: now == begin,
        uptime=uptime,
    )
    rule = Rule(30, hours, 40 * MINUTE, zone)
    openings = rule.openings(change)
    wanted = NEW.wanted("e1", windows=Windows(download=rule.spec, activate=rule.spec))
    open_minutes = 0
    for minute, phase in zip(range(2 * 24 * 60), cycle((*DOWNLOADS, *ACTIVATES)), strict=False):
        now = begin + minute * MINUTE
        is_open = rule.is_open(now, openings)
        open_minutes += is_open
        held = holds.judge(
            Execution("e1", wanted, 256, phase),
            time_by(timekeeper.now(), begin),
            was_proved=False,
            is_through=False,
        )
        assert (held is None) == is_open, (phase, now)
        if isinstance(held, Hold):
            assert held.until == min(one for one in openings if one > now)
    assert 40 <= open_minutes <= 2 * len(hours) * 40 + 40


@pytest.mark.parametrize(("zone", "change"), TURNS, ids=NAMES)
async def test_whenever_a_plan_comes_nothing_is_done_outside_of_its_windows(
    tmp_path: Path, zone: str, change: datetime
) -> None:
    """A plan every five hours from a day before the change on; then no controller."""
    windows = {
        "download": Rule(0, (0, 22), 50 * MINUTE, zone),
        "activate": Rule(30, (1, 2), 40 * MINUTE, zone),
    }
    asked = Windows(download=windows["download"].spec, activate=windows["activate"].spec)
    activations = 0
    for number in range(8):
        arrives = change.replace(minute=7) - DAY + number * 5 * HOUR
        disk = disk_with(OLD, NEW)
        device = await with_old(tmp_path / str(number), disk, arrives)
        device.assign(assigned(2, [NEW.wanted("e1", windows=asked)]), arrives + 999 * DAY)
        await device.live_on(device.is_settled)
        assert device.answers() == NEW.digest
        assert outside(disk, windows, change) == []
        fetched = min(disk.times("download"))
        assert fetched == min(one for one in at_or_after(windows["download"], arrives, change))
        installed = min(disk.times("install"))
        assert installed == min(one for one in at_or_after(windows["activate"], fetched, change))
        activations += len(disk.times("load_candidate"))
        device.close()
    assert activations == 8


def at_or_after(rule: Rule, moment: datetime, change: datetime) -> list[datetime]:
    """Return `moment` if the window is open then, else every later opening."""
    openings = rule.openings(change)
    if rule.is_open(moment, openings):
        return [moment]
    return [one for one in openings if one > moment]


HOURS = st.sets(st.integers(0, 4), min_size=1, max_size=3).map(lambda hours: tuple(sorted(hours)))
LENGTHS = st.integers(1, 300).map(lambda minutes: minutes * MINUTE)


@st.composite
def around_a_change(draw: st.DrawFn) -> tuple[datetime, dict[str, Rule]]:
    """Draw a moment of the change and two windows near it."""
    zone, change = draw(st.sampled_from(TURNS))
    return change, {
        name: Rule(draw(st.integers(0, 59)), draw(HOURS), draw(LENGTHS), zone)
        for name in ("download", "activate")
    }


CUTS = st.none() | st.tuples(
    st.sampled_from(["DOWNLOADING", "WAITING_WINDOW", "INSTALLING", "PROBING", "ACTIVATING"]),
    st.sampled_from(["entered", "done"]),
)


@settings(max_examples=25, deadline=None)
@given(
    drawn=around_a_change(),
    before_s=st.integers(0, 30 * 3600),
    cut=CUTS,
    off=st.integers(0, 30 * 60),
    takes=st.integers(0, 90),
)
async def test_whatever_the_windows_and_wherever_the_power_is_cut_nothing_is_done_outside(
    *,
    drawn: tuple[datetime, dict[str, Rule]],
    before_s: int,
    cut: tuple[str, str] | None,
    off: int,
    takes: int,
) -> None:
    change, windows = drawn
    asked = Windows(download=windows["download"].spec, activate=windows["activate"].spec)
    arrives = change - timedelta(seconds=before_s)
    with TemporaryDirectory() as folder:
        disk = disk_with(OLD, NEW)
        device = await with_old(Path(folder), disk, arrives)
        disk.takes = {"download": takes * MINUTE}
        device.assign(assigned(2, [NEW.wanted("e1", windows=asked)]), arrives + 999 * DAY)

        def power(_execution: str, phase: str, moment: str) -> None:
            if (phase, moment) == cut:
                raise PowerCutError

        device.on_transition = power
        try:
            await device.live_on(device.is_settled)
        except PowerCutError:
            device.cut_power()
            device = device_on(Path(folder), disk, device.now + off * MINUTE)
            await device.live_on(device.is_settled)
        assert device.answers() == NEW.digest
        assert outside(disk, windows, change) == []
        device.close()


def test_the_zones_here_change_their_clocks_when_these_tests_say() -> None:
    for zone, change in TURNS:
        moments = sorted(walked(zone, change).values())
        odd = [two for one, two in pairwise(moments) if two - one != MINUTE]
        assert odd, zone
        # Local minutes are passed over at the change, or come again after it.
        assert all(abs(one - change) <= HOUR for one in odd), (zone, odd)
