"""A device is measured when nothing else goes on, once, and gives way at any time."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import pytest
from simulators.waiting import until
from sprat_agent.measuring.kept import KeptMeasurement
from sprat_agent.measuring.occasion import basis
from sprat_agent.measuring.watch import Measuring, Pace, Surroundings
from sprat_agent.state import State
from sprat_proto.fit import MIB, Profile
from sprat_proto.rates import Measured, TypeCost

ENGINE = "llama.cpp 1"
FOUND = Measured(1, ENGINE, 2, 10**10, 1, 2, 3, (TypeCost("q4_0", 4, 5),))
PROFILE = Profile("x86_64", 2, (), 1 << 32, 1 << 31, 1 << 30, (), "Linux", False, ("llama.cpp",))  # noqa: FBT003 - in order of the fields
PACE = Pace(quiet_s=0.02, look_s=0.01, give_way_s=0.01, crowded_s=600, again_s=0.01)


@dataclass
class Device:
    """What goes on, as the test says."""

    is_busy: bool = False
    has_work: bool = False
    is_crowded: bool = False
    available: int = 1 << 34
    unspoken: int = 1 << 31

    def around(self) -> Surroundings:
        return Surroundings(
            lambda: self.is_busy,
            lambda: self.has_work,
            lambda: self.is_crowded,
            lambda: self.available,
            lambda: self.unspoken,
        )


def says(folder: Path, *, holds: bool = False) -> tuple[str, ...]:
    """Return a child's command: it notes that it runs, and says what it found when it may."""
    script = (
        "import pathlib, sys, time\n"
        f"folder = pathlib.Path({str(folder)!r})\n"
        "with (folder / 'runs').open('a') as runs: runs.write('x')\n"
        f"while {holds} and not (folder / 'go').exists(): time.sleep(0.01)\n"
        f"print({msgspec.json.encode(FOUND).decode()!r})\n"
    )
    return (sys.executable, "-c", script)


def left(folder: Path) -> list[Path]:
    return list(folder.glob("worker-*"))


def runs(folder: Path) -> int:
    file = folder / "runs"
    return len(file.read_text()) if file.exists() else 0


@pytest.fixture
def state(tmp_path: Path) -> Generator[State]:
    state = State(tmp_path / "state")
    yield state
    state.close()


@contextmanager
def running(
    measuring: Measuring,
) -> Generator[asyncio.Task[None]]:
    task = asyncio.create_task(measuring.run())
    try:
        yield task
    finally:
        task.cancel()


def a_measuring(
    state: State,
    folder: Path,
    device: Device,
    *,
    holds: bool = False,
    engine: str = ENGINE,
    command: tuple[str, ...] = (),
    pace: Pace = PACE,
) -> Measuring:
    return Measuring(
        PROFILE,
        engine,
        KeptMeasurement(state),
        folder,
        around=device.around(),
        pace=pace,
        command=command or says(folder, holds=holds),
    )


async def test_it_is_measured_once_and_kept_over_restarts(state: State, tmp_path: Path) -> None:
    measuring = a_measuring(state, tmp_path, Device())
    told: list[Measured | None] = []
    measuring.on_measured = lambda: told.append(measuring.measured)
    await measuring.run()
    assert told == [FOUND]
    again = a_measuring(state, tmp_path, Device())
    assert again.measured == FOUND
    await again.run()
    assert runs(tmp_path) == 1


async def test_another_engine_makes_it_due_again(state: State, tmp_path: Path) -> None:
    await a_measuring(state, tmp_path, Device()).run()
    newer = a_measuring(state, tmp_path, Device(), engine="llama.cpp 2")
    assert newer.measured is None
    await newer.run()
    assert runs(tmp_path) == 2
    assert KeptMeasurement(state).find(basis(PROFILE, ENGINE)) is None


@pytest.mark.parametrize("field", ["is_busy", "has_work", "is_crowded"])
async def test_nothing_is_measured_while_something_goes_on(
    state: State, tmp_path: Path, field: str
) -> None:
    device = replace(Device(), **{field: True})
    with running(a_measuring(state, tmp_path, device)) as task:
        await asyncio.wait([task], timeout=0.2)
        assert runs(tmp_path) == 0
        setattr(device, field, False)
        await task
    assert runs(tmp_path) == 1


@pytest.mark.parametrize("is_told", [True, False])
async def test_it_gives_way_and_begins_anew(state: State, tmp_path: Path, *, is_told: bool) -> None:
    device = Device()
    measuring = a_measuring(state, tmp_path, device, holds=True)
    with running(measuring) as task:
        await until(lambda: runs(tmp_path) == 1)
        if is_told:
            measuring.give_way()
        else:
            device.is_busy = True
            await until(lambda: not left(tmp_path))
            device.is_busy = False
        await until(lambda: runs(tmp_path) == 2)
        assert measuring.measured is None
        (tmp_path / "go").touch()
        await task
    assert measuring.measured == FOUND


async def test_other_programs_are_not_waited_for_for_ever(state: State, tmp_path: Path) -> None:
    device = Device(is_crowded=True)
    await a_measuring(state, tmp_path, device, pace=replace(PACE, crowded_s=0.1)).run()
    assert runs(tmp_path) == 1


async def test_without_memory_to_spare_it_waits(state: State, tmp_path: Path) -> None:
    device = Device(unspoken=10 * MIB)
    with running(a_measuring(state, tmp_path, device)) as task:
        await asyncio.wait([task], timeout=0.2)
        assert runs(tmp_path) == 0
        device.unspoken = 1 << 31
        await task
    assert runs(tmp_path) == 1


async def test_a_child_that_fails_is_tried_again_and_said(
    state: State, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = "import pathlib, sys; pathlib.Path({!r}).exists() or sys.exit('broken'); {}"
    found = f"print({msgspec.json.encode(FOUND).decode()!r})"
    mended = tmp_path / "mended"
    command = (sys.executable, "-c", broken.format(str(mended), found))
    measuring = a_measuring(state, tmp_path, Device(), command=command)
    with running(measuring) as task:
        await until(lambda: "could not be measured" in caplog.text)
        mended.touch()
        await task
    assert "said: broken" in caplog.text
    assert measuring.measured == FOUND


async def test_when_the_agent_ends_so_does_the_child(state: State, tmp_path: Path) -> None:
    with running(a_measuring(state, tmp_path, Device(), holds=True)) as task:
        await until(lambda: runs(tmp_path) == 1)
        task.cancel()
        await asyncio.wait([task])
    assert not left(tmp_path)
