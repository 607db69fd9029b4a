"""Executions on a device whose power may be cut anywhere."""

from __future__ import annotations

import asyncio
import itertools
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulators import power
from simulators.device import Device, Disk, PowerCutError
from simulators.signed import Release, assigned, release
from simulators.waiting import until
from sprat_agent.sync import phases
from sprat_agent.sync.executor import PROGRESS_S
from sprat_agent.sync.ports import ExecutionError, RetryLaterError, SeenRates
from sprat_agent.sync.proving import MOST_BEGUN
from sprat_proto.manifest import Activation
from sprat_proto.probes import (
    Bounds,
    FailedCheck,
    ProbeResult,
    Proof,
    ScoredText,
    SoakBounds,
    Traffic,
)
from sprat_proto.states import ExecutionState, ReasonCode, Step

OLD = release("1.0.0", [b"old"], counter=1)
NEW = release("2.0.0", [b"new"], counter=2)
BAD = release("3.0.0", [b"bad"], counter=3)
SOAKED = release("4.0.0", [b"soaked"], counter=4, activation=Activation(soak_s=3600))
SHARED = release("5.0.0", [b"s"], counter=5, activation=Activation(soak_traffic_percent=7))
WATCHED = release(
    "7.0.0",
    [b"watched"],
    counter=7,
    activation=Activation(
        soak_s=600,
        proof=Proof(soak=SoakBounds(max_error_permille=100, min_decode_permille=800)),
    ),
)

PATH = [
    Step.DOWNLOADING,
    Step.DOWNLOADED,
    Step.VERIFYING,
    Step.WAITING_WINDOW,
    Step.INSTALLING,
    Step.PROBING,
    Step.ACTIVATING,
    Step.SOAKING,
    Step.COMMITTING,
]


def disk_with(*releases: Release) -> Disk:
    return Disk({one.digest: one for one in releases})


async def device_running_old(folder: Path, disk: Disk) -> None:
    device = Device(folder, disk)
    device.assign(assigned(1, [OLD.wanted("e-old")]))
    await device.live()
    assert device.answers() == OLD.digest
    device.close()


def cut_at(phase: str, moment: str, execution: str) -> Callable[[str, str, str], None]:
    def cut(at_execution: str, at_phase: str, at_moment: str) -> None:
        if (at_execution, at_phase, at_moment) == (execution, phase, moment):
            raise PowerCutError

    return cut


@pytest.mark.parametrize(
    ("phase", "moment"),
    [
        ("QUEUED", "entered"),
        ("QUEUED", "done"),
        *itertools.product(PATH, ["entered", "done"]),
        ("SUCCEEDED", "entered"),
    ],
)
async def test_power_cut_at_any_moment_converges_and_the_old_model_answers_until_the_commit(
    tmp_path: Path, phase: str, moment: str
) -> None:
    disk = disk_with(OLD, NEW)
    await device_running_old(tmp_path, disk)
    device = Device(tmp_path, disk, cut_at(phase, moment, "e-new"))
    device.assign(assigned(2, [NEW.wanted("e-new")]))
    with pytest.raises(PowerCutError):
        await device.live()
    is_committed = phase == "SUCCEEDED"
    assert device.answers() == OLD.digest
    assert device.ledger.committed()["assistant"].wanted.digest == (
        NEW.digest if is_committed else OLD.digest
    )
    device.cut_power()

    again = Device(tmp_path, disk)
    seen: list[str] = []

    def look(_execution: str, _phase: str, _moment: str) -> None:
        seen.append(again.answers())

    again.on_transition = look
    await again.live()
    assert again.answers() == NEW.digest
    assert set(seen) <= {OLD.digest}
    assert again.phase("e-new") is ExecutionState.SUCCEEDED
    assert again.entered("e-new") == dict.fromkeys(["QUEUED", *PATH, "SUCCEEDED"], 1)
    assert again.left("e-new") == dict.fromkeys(["QUEUED", *PATH], 1)
    resumed = [one["detail"] for one in again.audit() if one["tag"] == "agent:execution:resumed"]
    assert resumed == ([{"phase": phase}] if phase in set(PATH) else [])
    assert disk.installed == {OLD.digest, NEW.digest}  # the one before is kept to go back to
    again.close()


@pytest.mark.parametrize("moment", ["entered", "done"])
async def test_power_cut_while_rolling_back_rolls_back(tmp_path: Path, moment: str) -> None:
    disk = disk_with(OLD, BAD)
    await device_running_old(tmp_path, disk)
    disk.defects["probe", BAD.digest] = ExecutionError(
        ReasonCode.PROBE_FAILED, "babble", expected="words", found="babble"
    )
    device = Device(tmp_path, disk, cut_at("ROLLING_BACK", moment, "e-bad"))
    device.assign(assigned(2, [BAD.wanted("e-bad")]))
    with pytest.raises(PowerCutError):
        await device.live()
    device.cut_power()
    again = Device(tmp_path, disk)
    await again.live()
    assert again.phase("e-bad") is ExecutionState.ROLLED_BACK
    assert again.reason("e-bad")["code"] == "PROBE_FAILED"
    assert again.reason("e-bad")["found"] == "babble"
    assert again.answers() == OLD.digest
    assert disk.installed == disk.fetched == {OLD.digest}
    assert set(again.entered("e-bad").values()) == {1}
    again.close()


@pytest.mark.parametrize(
    ("method", "state"),
    [
        ("download", ExecutionState.FAILED),
        ("verify", ExecutionState.FAILED),
        ("install", ExecutionState.FAILED),
        ("load_candidate", ExecutionState.ROLLED_BACK),
        ("probe", ExecutionState.ROLLED_BACK),
    ],
)
@pytest.mark.parametrize("is_bug", [False, True])
async def test_a_failure_leaves_the_old_model_and_nothing_else(
    tmp_path: Path, method: str, state: ExecutionState, *, is_bug: bool
) -> None:
    disk = disk_with(OLD, BAD)
    await device_running_old(tmp_path, disk)
    disk.defects[method, BAD.digest] = (
        ZeroDivisionError("a bug") if is_bug else ExecutionError(ReasonCode.LOAD_FAILED, "no")
    )
    device = Device(tmp_path, disk)
    device.assign(assigned(2, [BAD.wanted("e-bad")]))
    await device.live()
    assert device.phase("e-bad") is state
    assert device.reason("e-bad")["code"] == ("INTERNAL_ERROR" if is_bug else "LOAD_FAILED")
    assert device.answers() == OLD.digest
    assert disk.installed == disk.fetched == {OLD.digest}
    device.assign(assigned(3, [BAD.wanted("e-bad")]))
    count = len(device.moments)
    await device.live()
    assert len(device.moments) == count  # what ended is not run again
    device.close()


async def test_what_passes_is_tried_again_in_the_same_phase(tmp_path: Path) -> None:
    disk = disk_with(NEW)
    disk.faults["download", NEW.digest] = [RetryLaterError("away")] * 5
    device = Device(tmp_path, disk)
    device.assign(assigned(1, [NEW.wanted("e1")]))
    await device.live()
    assert device.entered("e1")["DOWNLOADING"] == 1
    assert device.answers() == NEW.digest
    device.close()


@pytest.mark.parametrize(
    ("method", "phase"),
    [("download", Step.DOWNLOADING), ("verify", Step.VERIFYING), ("probe", Step.PROBING)],
)
async def test_a_newer_assignment_takes_the_place_of_what_is_under_way(
    tmp_path: Path, method: str, phase: Step
) -> None:
    disk = disk_with(OLD, BAD, NEW)
    await device_running_old(tmp_path, disk)
    disk.stuck.add((method, BAD.digest))
    device = Device(tmp_path, disk)
    device.assign(assigned(2, [BAD.wanted("e-bad")]))

    def is_stuck() -> bool:
        return ("e-bad", str(phase), "entered") in device.moments

    await device.run_until(is_stuck)
    running = asyncio.create_task(device.live())
    device.assign(assigned(3, [NEW.wanted("e-new")]))
    await running
    assert device.phase("e-bad") is ExecutionState.CANCELED
    assert device.reason("e-bad")["code"] == "SUPERSEDED"
    assert device.answers() == NEW.digest
    assert disk.installed == {OLD.digest, NEW.digest}
    device.close()


async def test_what_was_fetched_is_kept_for_a_new_execution_of_the_same(tmp_path: Path) -> None:
    disk = disk_with(NEW)
    disk.stuck.add(("verify", NEW.digest))
    device = Device(tmp_path, disk)
    device.assign(assigned(1, [NEW.wanted("e1")]))
    await device.run_until(lambda: ("e1", "VERIFYING", "entered") in device.moments)
    device.assign(assigned(2, [NEW.wanted("e2")]))
    await device.run_until(lambda: ("e2", "QUEUED", "entered") in device.moments)
    assert disk.fetched == {NEW.digest}
    disk.stuck.clear()
    await device.live()
    assert device.answers() == NEW.digest
    device.close()


async def test_a_download_is_told_of_as_long_as_bytes_come_and_not_when_it_hangs(
    tmp_path: Path,
) -> None:
    disk = disk_with(NEW)
    disk.stuck.add(("download", NEW.digest))
    received = 0
    device = Device(tmp_path, disk, fetched=lambda: received)
    device.assign(assigned(1, [NEW.wanted("e1")]))

    def told() -> list[tuple[str, str]]:
        pending = [one.execution for one in device.outbox.pending(0, 100)]
        return [(one.state, one.step) for one in pending]

    running = asyncio.create_task(device.executor.run())
    await until(lambda: device.alarms)
    downloading = ("IN_PROGRESS", "DOWNLOADING")
    assert told().count(downloading) == 1
    for count, expected in ((1, 2), (2, 3), (2, 3), (5, 4)):
        received = count
        await until(lambda: device.alarms)
        assert await device.sleep_on() == PROGRESS_S
        await until(lambda: device.alarms)
        assert told().count(downloading) == expected
    assert device.entered("e1")["DOWNLOADING"] == 1
    assert not any(one["tag"] == "agent:execution:waits" for one in device.audit())
    running.cancel()
    await asyncio.wait({running})
    device.close()


async def test_a_candidate_that_dies_while_it_soaks_is_rolled_back(tmp_path: Path) -> None:
    disk = disk_with(OLD, SOAKED)
    await device_running_old(tmp_path, disk)
    device = Device(tmp_path, disk)
    device.assign(assigned(2, [SOAKED.wanted("e1")]))
    running = asyncio.create_task(device.live())
    await until(lambda: ("e1", "SOAKING", "entered") in device.moments)
    device.workers.crash("assistant")
    await running
    assert device.phase("e1") is ExecutionState.ROLLED_BACK
    assert device.reason("e1")["code"] == "WORKER_CRASHED"
    assert device.answers() == OLD.digest
    device.close()


async def test_a_soak_goes_on_where_the_power_cut_left_it(tmp_path: Path) -> None:
    brief = release("6.0.0", [b"brief"], counter=6, activation=Activation(soak_s=2))
    disk = disk_with(brief)
    device = Device(tmp_path, disk, watch_slice_s=1)
    device.assign(assigned(1, [brief.wanted("e1")]))
    await device.run_until(lambda: [one.watched_s for one in device.ledger.executions()] == [1])
    assert device.phase("e1") is Step.SOAKING
    device.cut_power()
    again = Device(tmp_path, disk, watch_slice_s=1)
    await again.live()
    assert [one.watched_s for one in again.ledger.executions()] == [2]
    assert again.phase("e1") is ExecutionState.SUCCEEDED
    assert again.workers.probes == [brief.digest] * 2  # loaded anew, and at the end of the soak
    again.close()


async def test_a_failed_probe_at_the_end_of_the_soak_says_so(tmp_path: Path) -> None:
    disk = disk_with(OLD, NEW)
    await device_running_old(tmp_path, disk)
    device = Device(tmp_path, disk)

    def spoil(_execution: str, phase: str, moment: str) -> None:
        if (phase, moment) == ("SOAKING", "entered"):
            disk.defects["probe", NEW.digest] = ExecutionError(ReasonCode.PROBE_FAILED, "babble")

    device.on_transition = spoil
    device.assign(assigned(2, [NEW.wanted("e1")]))
    await device.live()
    assert device.reason("e1")["code"] == "SOAK_FAILED"
    assert device.answers() == OLD.digest
    device.close()


async def test_what_the_probe_measured_is_told_and_audited(tmp_path: Path) -> None:
    disk = disk_with(OLD, NEW)
    await device_running_old(tmp_path, disk)
    device = Device(tmp_path, disk)
    measured = ProbeResult(
        score_permille=250,
        prompts=4,
        passed=1,
        perplexity_milli=9999,
        failed=(FailedCheck("Who?", "A fish.", "A bird."),),
    )
    device.workers.results[NEW.digest] = measured
    disk.defects["probe", NEW.digest] = ExecutionError(ReasonCode.PROBE_FAILED, "babble")
    device.assign(assigned(2, [NEW.wanted("e1")]))
    await device.live()
    pending = [one.execution for one in device.outbox.pending(0, 100)]
    told = [one for one in pending if one.execution_id == "e1"]
    assert {one.probe.perplexity_milli for one in told if one.HasField("probe")} == {9999}
    assert [one.step for one in told if not one.HasField("probe")][-1] == "PROBING"
    assert (told[-1].state, told[-1].probe.passed) == ("ROLLED_BACK", 1)
    assert [one.found for one in told[-1].probe.failed] == ["A bird."]
    (audited,) = probed(device, "e1")
    assert audited["phase"] == "PROBING"
    assert audited["probe"]["perplexity_milli"] == 9999
    assert device.answers() == OLD.digest
    device.close()


def probed(device: Device, execution_id: str) -> list[dict[str, Any]]:
    """Return what audit says of the execution's probes."""
    return [
        one["detail"]
        for one in device.audit()
        if one["tag"] == "agent:execution:probed" and one["subject"] == f"execution/{execution_id}"
    ]


SLOW = Traffic(requests=20, rated=20, decoded=700, decode_us=100_000_000)


@pytest.mark.parametrize(
    ("traffic", "found"),
    [
        (Traffic(requests=20, errors=3), "150 (3 of 20)"),
        (SLOW, "7.000 tokens a second over 20 answers"),
    ],
)
async def test_real_requests_that_go_badly_end_the_soak_at_once(
    tmp_path: Path, traffic: Traffic, found: str
) -> None:
    disk = disk_with(OLD, WATCHED)
    await device_running_old(tmp_path, disk)
    device = Device(tmp_path, disk, watch_slice_s=1)
    device.workers.rates[OLD.digest] = SeenRates(decode_milli_tps=10_000, samples=9)
    device.workers.requests[WATCHED.digest] = traffic
    device.assign(assigned(2, [WATCHED.wanted("e1")]))
    await device.live()
    assert device.phase("e1") is ExecutionState.ROLLED_BACK
    reason = device.reason("e1")
    assert (reason["code"], reason["found"]) == ("SOAK_FAILED", found)
    assert [one.watched_s for one in device.ledger.executions()] == [0, 1]
    assert device.answers() == OLD.digest
    device.close()


async def soaking(folder: Path, disk: Disk, traffic: Traffic, watched_s: int) -> None:
    """Soak WATCHED for a while from where it is, then lose power."""
    device = Device(folder, disk, watch_slice_s=1)
    device.workers.requests[WATCHED.digest] = traffic
    device.assign(assigned(2, [WATCHED.wanted("e1")]))
    await device.run_until(lambda: device.ledger.executions()[-1].watched_s == watched_s)
    assert device.phase("e1") is Step.SOAKING
    device.cut_power()


async def test_requests_before_a_power_cut_count_after_it(tmp_path: Path) -> None:
    disk = disk_with(OLD, WATCHED)
    await device_running_old(tmp_path, disk)
    await soaking(tmp_path, disk, Traffic(requests=6, errors=3), 1)  # of 10 that it takes to judge
    again = Device(tmp_path, disk, watch_slice_s=1)
    again.workers.requests[WATCHED.digest] = Traffic(requests=4)
    await again.live()
    assert again.reason("e1")["found"] == "300 (3 of 10)"
    assert again.answers() == OLD.digest
    again.close()


async def test_a_power_cut_does_not_lose_the_rate_that_a_candidate_is_held_to(
    tmp_path: Path,
) -> None:
    disk = disk_with(OLD, WATCHED)
    await device_running_old(tmp_path, disk)
    first = Device(tmp_path, disk, watch_slice_s=1)
    first.workers.rates[OLD.digest] = SeenRates(decode_milli_tps=10_000, samples=9)
    disk.stuck.add(("load_candidate", WATCHED.digest))
    first.assign(assigned(2, [WATCHED.wanted("e1")]))
    await first.run_until(lambda: first.ledger.proving(first.ledger.executions()[-1]).begun)
    first.cut_power()  # in PROBING
    disk.stuck.clear()
    again = Device(tmp_path, disk, watch_slice_s=1)  # which has seen no request to OLD
    again.workers.requests[WATCHED.digest] = SLOW
    await again.live()
    assert again.workers.asked[0][1] == 10_000
    assert again.reason("e1")["code"] == "SOAK_FAILED"
    assert again.answers() == OLD.digest
    again.close()


async def test_what_ends_the_agent_at_each_proof_is_given_up(tmp_path: Path) -> None:
    disk = disk_with(OLD, NEW)
    await device_running_old(tmp_path, disk)
    disk.stuck.add(("probe", NEW.digest))
    for _ in range(MOST_BEGUN):
        device = Device(tmp_path, disk)
        device.assign(assigned(2, [NEW.wanted("e1")]))
        await device.run_until(lambda device=device: device.workers.probes)
        device.cut_power()
    last = Device(tmp_path, disk)
    await last.live()
    assert last.phase("e1") is ExecutionState.ROLLED_BACK
    assert last.reason("e1")["code"] == "PROBE_FAILED"
    assert last.workers.probes == []
    assert last.answers() == OLD.digest
    last.close()


async def test_power_cuts_in_a_soak_that_goes_on_are_no_reason_to_give_up(tmp_path: Path) -> None:
    disk = disk_with(OLD, WATCHED)
    await device_running_old(tmp_path, disk)
    for number in range(1, MOST_BEGUN + 2):
        await soaking(tmp_path, disk, Traffic(requests=1), number)
    again = Device(tmp_path, disk)
    execution = again.ledger.executions()[-1]
    assert again.ledger.proving(execution).traffic == Traffic(requests=MOST_BEGUN + 1)
    again.close()


async def test_the_end_of_a_soak_asks_the_answers_once_more_and_no_rates(tmp_path: Path) -> None:
    strict = Proof(
        min_score_permille=900,
        text=ScoredText("text", 5000),
        bounds=Bounds(1, 800, 1000, 1100),
    )
    proved = release(
        "8.0.0", [b"proved"], counter=8, activation=Activation(probe_timeout_s=7, proof=strict)
    )
    device = Device(tmp_path, disk_with(proved))
    device.assign(assigned(1, [proved.wanted("e1")]))
    await device.live()
    first, last = (activation for activation, _ in device.workers.asked)
    assert first == proved.manifest.activation
    assert last.probe_timeout_s == 7
    assert last.terms == Proof(min_score_permille=900, bounds=Bounds(max_memory_permille=1100))
    assert len(probed(device, "e1")) == 1
    device.close()


async def test_the_signed_share_of_traffic_is_given_while_it_soaks(tmp_path: Path) -> None:
    device = Device(tmp_path, disk_with(SHARED))
    device.assign(assigned(1, [SHARED.wanted("e1")]))
    await device.live()
    assert device.workers.shares == {"assistant": 7}
    device.close()


async def test_a_release_that_is_too_old_is_refused_and_one_that_ran_here_is_not(
    tmp_path: Path,
) -> None:
    between = release("1.5.0", [b"between"], counter=1)
    disk = disk_with(OLD, NEW, between)
    await device_running_old(tmp_path, disk)
    device = Device(tmp_path, disk)
    device.assign(assigned(2, [NEW.wanted("e2")]))
    await device.live()
    device.assign(assigned(3, [between.wanted("e3")]))
    await device.live()
    assert device.phase("e3") is ExecutionState.FAILED
    assert device.reason("e3")["code"] == "RELEASE_TOO_OLD"
    device.assign(assigned(4, [OLD.wanted("e4")]))
    await device.live()
    assert device.phase("e4") is ExecutionState.SUCCEEDED
    assert device.answers() == OLD.digest
    device.close()


async def test_what_is_in_quarantine_is_refused_before_a_byte_is_fetched(tmp_path: Path) -> None:
    disk = disk_with(OLD, NEW)
    await device_running_old(tmp_path, disk)
    device = Device(tmp_path, disk)
    for _ in range(3):
        device.crashes.note(NEW.digest)
    device.assign(assigned(2, [NEW.wanted("e-new")]))
    await device.live()
    assert device.phase("e-new") is ExecutionState.FAILED
    assert device.reason("e-new")["code"] == "QUARANTINED"
    assert device.reason("e-new")["found"] == "3 crashes"
    assert disk.fetched == disk.installed == {OLD.digest}
    assert device.answers() == OLD.digest
    device.close()


async def test_what_runs_already_succeeds_without_being_run_again(tmp_path: Path) -> None:
    disk = disk_with(OLD)
    await device_running_old(tmp_path, disk)
    device = Device(tmp_path, disk)
    device.assign(assigned(2, [OLD.wanted("e-again")]))
    await device.live()
    assert device.entered("e-again") == {"QUEUED": 1, "SUCCEEDED": 1}
    device.close()


async def test_an_alias_that_is_assigned_no_longer_stops_answering(tmp_path: Path) -> None:
    disk = disk_with(OLD)
    await device_running_old(tmp_path, disk)
    device = Device(tmp_path, disk)
    device.assign(assigned(2, []))
    await device.live()
    assert device.answers() == ""
    assert device.ledger.committed() == {}
    assert disk.installed == set()
    device.close()


async def test_a_success_is_told_only_when_the_new_model_answers(tmp_path: Path) -> None:
    device = Device(tmp_path, disk_with(NEW))
    told: list[tuple[str, str]] = []

    def look() -> None:
        told.extend(
            (one.execution.state, device.answers()) for one in device.outbox.pending(0, 100)
        )

    device.outbox.on_ready = look
    device.assign(assigned(1, [NEW.wanted("e1")]))
    await device.live()
    successes = [answers for state, answers in told if state == "SUCCEEDED"]
    assert successes
    assert set(successes) == {NEW.digest}
    device.close()


async def test_a_commit_whose_promotion_fails_is_loaded_as_committed(tmp_path: Path) -> None:
    device = Device(tmp_path, disk_with(NEW))

    def kill_candidate(_execution: str, phase: str, _moment: str) -> None:
        if phase == "SUCCEEDED":
            device.workers.crash("assistant")

    device.on_transition = kill_candidate
    device.assign(assigned(1, [NEW.wanted("e1")]))
    await device.live()
    assert device.answers() == NEW.digest
    device.close()


MOMENTS = st.sampled_from([*itertools.product([*PATH, "ROLLING_BACK"], ["entered", "done"])])
STORIES = st.lists(
    st.tuples(st.sampled_from(["old", "new", "bad", "none"]), st.lists(MOMENTS, max_size=3)),
    min_size=1,
    max_size=5,
)


@settings(max_examples=60, deadline=None)
@given(story=STORIES)
def test_in_the_end_any_story_of_assignments_and_power_cuts_converges(
    story: list[tuple[str, list[tuple[str, str]]]],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(live_through(Path(folder), story))


async def live_through(folder: Path, story: list[tuple[str, list[tuple[str, str]]]]) -> None:
    releases = {"old": OLD, "new": NEW, "bad": BAD}
    disk = disk_with(*releases.values())
    disk.defects["probe", BAD.digest] = ExecutionError(ReasonCode.PROBE_FAILED, "babble")
    expected, proved = "", set[str]()
    for number, (name, cuts) in enumerate(story, start=1):
        execution = f"e{number}"
        models = [releases[name].wanted(execution)] if name in releases else []
        first = Device(folder, disk)
        first.assign(assigned(number, models))
        first.close()
        for phase, moment in cuts:
            device = Device(folder, disk, cut_at(phase, moment, execution))
            try:
                await device.live()
            except PowerCutError:
                assert device.answers() == expected
            device.cut_power()
        device = Device(folder, disk)
        await device.live()
        if name == "none":
            expected = ""
        elif name == "new" or (
            name == "old" and (OLD.digest in proved or NEW.digest not in proved)
        ):
            expected = releases[name].digest
            proved.add(expected)
        assert device.answers() == expected
        for known in device.ledger.executions():
            assert phases.is_final(known.phase)
            assert set(device.entered(known.execution_id).values()) <= {1}
            assert set(device.left(known.execution_id).values()) <= {1}
        device.close()


POINTS = [40, pytest.param(200, marks=pytest.mark.full)]


@pytest.mark.parametrize("points", POINTS)
async def test_t12_power_cuts_in_an_activation_go_on_with_the_old_model_or_the_new(
    tmp_path: Path, points: int
) -> None:
    """Cut at every statement of SQLite, and at random ends of its log, from download to commit."""
    disk = disk_with(OLD, NEW)
    await device_running_old(tmp_path / "device", disk)
    device = Device(tmp_path / "device", disk)
    held: list[tuple[set[str], set[str]]] = []

    def note() -> None:
        held.append((set(disk.fetched), set(disk.installed)))

    copies = tmp_path / "copies"
    with power.watched(device.state, tmp_path / "device", copies, note) as taken:
        device.assign(assigned(2, [NEW.wanted("e-new")]))
        await device.live()
    device.close()
    chance = random.Random(7)  # noqa: S311 - which disks
    for number, copy in enumerate(power.cuts(taken, tmp_path / "cuts", points, chance)):
        at = number if number < len(taken) else -1
        fetched, installed = held[at]
        again = Device(copy, Disk(disk.releases, fetched=set(fetched), installed=set(installed)))
        await again.boot()
        assert again.answers() in {OLD.digest, NEW.digest}
        await again.live()
        newest = again.ledger.assignment()
        expected = NEW.digest if newest and newest.version == 2 else OLD.digest
        assert again.answers() == expected
        assert again.ledger.committed()["assistant"].wanted.digest == expected
        again.close()
