"""A variant that does not fit is refused by what is true of the device when the work begins."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulators.device import PROFILE, Device, Disk, PowerCutError
from simulators.signed import Release, assigned, release
from sprat_agent.sync.ports import SeenRates
from sprat_proto import fit
from sprat_proto.assignment import ServingTerms
from sprat_proto.candidates import candidate_of
from sprat_proto.fit import MIB
from sprat_proto.policy import FitPolicy
from sprat_proto.states import ExecutionState, ReasonCode, Step

OLD = release("1.0.0", [b"old"], counter=1)
NEW = release("2.0.0", [b"new"], counter=2)
THIRD = release("3.0.0", [b"third"], counter=3)


def need_of(one: Release, context: int = 256, *, slots: int = 1) -> int:
    return fit.need(candidate_of(one.manifest, one.digest), context, slots).memory


def disk() -> Disk:
    return Disk({one.digest: one for one in (OLD, NEW, THIRD)})


async def device_running_old(folder: Path, on: Disk) -> Device:
    device = Device(folder, on)
    device.assign(assigned(1, [OLD.wanted("e-old")]))
    await device.live()
    return device


def with_budget(bytes_: int) -> fit.Profile:
    return replace(PROFILE, memory_budget_bytes=bytes_)


async def test_what_the_memory_does_not_hold_is_refused_before_anything_is_fetched(
    tmp_path: Path,
) -> None:
    device = await device_running_old(tmp_path, disk())
    told: list[int] = []
    before = device.outbox.last_seq()
    device.executor.on_rejected = lambda: told.append(len(device.outbox.pending(before, 99)))
    device.profile = with_budget(need_of(NEW) - 1)
    device.assign(assigned(2, [NEW.wanted("e-new")]))
    await device.live()
    assert device.phase("e-new") is ExecutionState.REJECTED
    reason = device.reason("e-new")
    assert reason["code"] == ReasonCode.INSUFFICIENT_MEMORY
    assert reason["message"].startswith("talk@2.0.0+q4_0 needs ")
    assert reason["expected"] == f"{need_of(NEW)} bytes of memory"
    assert reason["found"] == f"{need_of(NEW) - 1} bytes"
    assert device.answers() == OLD.digest
    assert device.disk.fetched == device.disk.installed == {OLD.digest}
    # The controller hears of the hardware before it hears of the refusal.
    assert told == [0]
    assert device.outbox.pending(before, 99)[-1].execution.state == "REJECTED"
    device.close()


async def test_what_other_aliases_hold_is_not_free(tmp_path: Path) -> None:
    device = await device_running_old(tmp_path, disk())
    both = [OLD.wanted("e-old"), NEW.wanted("e-new", "second")]
    device.profile = with_budget(need_of(OLD) + need_of(NEW) - 1)
    device.assign(assigned(2, both))
    await device.live()
    assert device.reason("e-new")["code"] == ReasonCode.INSUFFICIENT_MEMORY
    assert "are held by its other aliases" in device.reason("e-new")["message"]
    device.profile = with_budget(need_of(OLD) + need_of(NEW))
    device.assign(assigned(3, [OLD.wanted("e-old"), NEW.wanted("e-new.2", "second")]))
    await device.live()
    assert device.phase("e-new.2") is ExecutionState.SUCCEEDED
    device.close()


async def test_all_other_aliases_count_each_with_its_own_slots(tmp_path: Path) -> None:
    device = await device_running_old(tmp_path, disk())
    four = ServingTerms(slots=4)
    two = [OLD.wanted("e-old"), NEW.wanted("e-new", "second", terms=four)]
    device.assign(assigned(2, two))
    await device.live()
    assert device.phase("e-new") is ExecutionState.SUCCEEDED
    exact = need_of(OLD) + need_of(NEW, slots=4) + need_of(THIRD)
    device.profile = with_budget(exact - 1)
    device.assign(assigned(3, [*two, THIRD.wanted("e-3", "third")]))
    await device.live()
    assert device.reason("e-3")["code"] == ReasonCode.INSUFFICIENT_MEMORY
    device.profile = with_budget(exact)
    device.assign(assigned(4, [*two, THIRD.wanted("e-3.2", "third")]))
    await device.live()
    assert device.phase("e-3.2") is ExecutionState.SUCCEEDED
    device.close()


@pytest.mark.parametrize(
    ("changes", "code", "found"),
    [
        ({"disk_free_bytes": 64 * MIB}, ReasonCode.INSUFFICIENT_DISK, f"{64 * MIB} bytes"),
        ({"runtimes": ()}, ReasonCode.RUNTIME_MISSING, "none"),
        ({"arch": "riscv64"}, ReasonCode.WRONG_HARDWARE, ""),
    ],
)
async def test_every_fact_is_the_one_of_now(
    tmp_path: Path, changes: dict[str, Any], code: ReasonCode, found: str
) -> None:
    device = await device_running_old(tmp_path, disk())
    device.profile = replace(PROFILE, **changes)
    device.assign(assigned(2, [NEW.wanted("e-new")]))
    await device.live()
    assert device.phase("e-new") is ExecutionState.REJECTED
    assert (device.reason("e-new")["code"], device.reason("e-new")["found"]) == (code, found)
    device.close()


@pytest.mark.parametrize(
    ("seen", "code"),
    [
        (SeenRates(), None),  # the controller may know it of its class
        (SeenRates(4999, 0, 3), ReasonCode.TOO_SLOW),
        (SeenRates(5000, 0, 3), None),
    ],
)
async def test_a_policy_of_rates_is_held_to_what_is_known_here(
    tmp_path: Path, seen: SeenRates, code: ReasonCode | None
) -> None:
    device = await device_running_old(tmp_path, disk())
    device.workers.rates[NEW.digest] = seen
    policy = FitPolicy(min_decode_milli_tps=5000)
    device.assign(assigned(2, [NEW.wanted("e-new", policy=policy)]))
    await device.live()
    if code is None:
        assert device.phase("e-new") is ExecutionState.SUCCEEDED
    else:
        assert device.reason("e-new")["code"] == code
    device.close()


def when(phase: str, moment: str, do: Callable[[], None]) -> Callable[[str, str, str], None]:
    def look(_execution: str, at_phase: str, at_moment: str) -> None:
        if (at_phase, at_moment) == (phase, moment):
            do()

    return look


async def test_what_changes_during_the_download_counts_too(tmp_path: Path) -> None:
    device = await device_running_old(tmp_path, disk())

    def shrink() -> None:
        device.profile = with_budget(1)

    device.on_transition = when(Step.DOWNLOADED, "entered", shrink)
    device.assign(assigned(2, [NEW.wanted("e-new")]))
    await device.live()
    assert device.phase("e-new") is ExecutionState.REJECTED
    assert device.left("e-new")[Step.INSTALLING] == 1
    assert device.disk.fetched == {OLD.digest}
    assert device.answers() == OLD.digest
    device.close()


async def test_a_full_disk_is_no_reason_once_all_is_there(tmp_path: Path) -> None:
    device = await device_running_old(tmp_path, disk())

    def fill() -> None:
        device.profile = replace(PROFILE, disk_free_bytes=0)

    device.on_transition = when(Step.DOWNLOADED, "entered", fill)
    device.assign(assigned(2, [NEW.wanted("e-new")]))
    await device.live()
    assert device.phase("e-new") is ExecutionState.SUCCEEDED
    device.close()


@pytest.mark.parametrize(
    ("phase", "moment"),
    [
        *itertools.product([Step.DOWNLOADING, Step.INSTALLING], ["entered", "done"]),
        (ExecutionState.REJECTED, "entered"),
    ],
)
async def test_a_power_cut_around_a_refusal_costs_nothing(
    tmp_path: Path, phase: str, moment: str
) -> None:
    on = disk()
    device = await device_running_old(tmp_path, on)

    def cut() -> None:
        raise PowerCutError

    def shrink(_execution: str, at_phase: str, at_moment: str) -> None:
        if phase != Step.INSTALLING or at_phase == Step.INSTALLING:
            device.profile = with_budget(1)
        when(phase, moment, cut)("", at_phase, at_moment)

    device.on_transition = shrink
    device.assign(assigned(2, [NEW.wanted("e-new")]))
    with pytest.raises(PowerCutError):
        await device.live()
    device.cut_power()
    again = Device(tmp_path, on)
    again.profile = with_budget(1)
    await again.live()
    assert again.phase("e-new") is ExecutionState.REJECTED
    assert set(again.entered("e-new").values()) == {1}
    assert again.answers() == OLD.digest
    await again.effects.clean()  # as the end of the next execution does
    assert on.fetched == {OLD.digest}
    again.close()


@settings(max_examples=25, deadline=None)
@given(short=st.integers(-(1 << 30), 1 << 30))
async def test_it_is_exactly_the_rule_that_chose(short: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        device = Device(Path(folder), disk())
        device.profile = with_budget(max(0, need_of(NEW) - short))
        device.assign(assigned(1, [NEW.wanted("e")]))
        await device.live()
        verdict = fit.judge(candidate_of(NEW.manifest, NEW.digest), device.profile, fit.Terms(256))
        fits = device.phase("e") is ExecutionState.SUCCEEDED
        assert fits == verdict.fits == (short <= 0)
        device.close()
