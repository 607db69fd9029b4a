"""No rollout begins that could not be recorded, and all goes on as soon as it could (T47)."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from simulators.device import Device, Disk
from simulators.full_disk import assert_unbroken, fill, small_disk
from simulators.signed import assigned, release
from sprat_agent.audit.journal import Room
from sprat_agent.reserve import Reserve
from sprat_proto.assignment import Windows
from sprat_proto.states import ExecutionState, Step

OLD = release("1.0.0", [b"old"], counter=1)
NEW = release("2.0.0", [b"new"], counter=2)
NEWER = release("3.0.0", [b"newer"], counter=3)
MIB = 1 << 20
PATH = [
    "QUEUED",
    *(Step.DOWNLOADING, Step.DOWNLOADED, Step.VERIFYING, Step.WAITING_WINDOW, Step.INSTALLING),
    *(Step.PROBING, Step.ACTIVATING, Step.SOAKING, Step.COMMITTING),
]


def a_disk() -> Disk:
    return Disk({one.digest: one for one in (OLD, NEW, NEWER)})


def fill_up(device: Device) -> None:
    """Have happen what has nothing to do with rollouts, until the journal is full."""
    while not device.journal.fill().is_full:
        device.journal.append("agent:test:written", "test", {"text": "x" * 1000})


def recorded(device: Device, tag: str) -> list[dict[str, object]]:
    return [one for one in device.audit() if one["tag"] == tag]


async def test_a_full_journal_refuses_what_begins_and_no_longer_once_it_is_brought_over(
    tmp_path: Path,
) -> None:
    device = Device(tmp_path, a_disk(), room=Room(full_bytes=40_000))
    device.assign(assigned(1, [OLD.wanted("e-old")]))
    await device.live()
    fill_up(device)
    device.assign(assigned(2, [NEW.wanted("e-new")]))
    await device.live()
    assert device.phase("e-new") is ExecutionState.REJECTED
    reason = device.reason("e-new")
    assert reason["code"] == "AUDIT_FULL"
    assert "wait on this device for its controller" in reason["message"]
    assert reason["expected"] == "at most 30000 bytes of records"
    assert device.answers() == OLD.digest
    assert NEW.digest not in device.disk.fetched
    assert len(recorded(device, "agent:journal:full")) == 1
    assert_unbroken(device.journal.batch(100_000, 1 << 30))

    # What the controller has acknowledged makes room, without a restart.
    device.journal.acknowledge(device.journal.next_seq() - 1)
    device.assign(assigned(3, [NEW.wanted("e-again")]))
    device.executor.wake()
    await device.live()
    assert device.phase("e-again") is ExecutionState.SUCCEEDED
    assert device.answers() == NEW.digest
    device.close()


async def test_what_is_under_way_when_the_journal_becomes_full_comes_to_its_end(
    tmp_path: Path,
) -> None:
    def watch(_execution: str, phase: str, moment: str) -> None:
        if (phase, moment) == (Step.DOWNLOADING, "done"):
            fill_up(device)

    device = Device(tmp_path, a_disk(), watch, room=Room(full_bytes=40_000))
    device.assign(assigned(1, [OLD.wanted("e-old")]))
    await device.live()
    assert device.journal.fill().is_full
    assert device.phase("e-old") is ExecutionState.SUCCEEDED
    device.close()


async def test_the_way_back_to_what_was_proved_here_is_open(tmp_path: Path) -> None:
    device = Device(tmp_path, a_disk(), room=Room(full_bytes=40_000))
    for version, one in ((1, OLD), (2, NEW)):
        device.assign(assigned(version, [one.wanted(f"e-{version}")]))
        await device.live()
    fill_up(device)
    back = Windows(is_way_back=True)
    device.assign(assigned(3, [NEWER.wanted("e-no", windows=back)]))
    await device.live()
    assert device.reason("e-no")["code"] == "AUDIT_FULL"
    device.assign(assigned(4, [OLD.wanted("e-back", windows=back)]))
    await device.live()
    assert device.phase("e-back") is ExecutionState.SUCCEEDED
    assert device.answers() == OLD.digest
    device.close()


@pytest.mark.parametrize(("phase", "moment"), [*itertools.product(PATH, ["entered", "done"])])
async def test_t47_a_real_disk_full_at_any_step_loses_no_audit_and_refuses_what_follows(
    tmp_path: Path, phase: str, moment: str
) -> None:
    with small_disk(tmp_path / "disk", 16 * MIB) as folder:
        reserve = Reserve(folder, 4 * MIB)
        device = Device(folder, a_disk(), room=Room(reserve=reserve))
        device.assign(assigned(1, [OLD.wanted("e-old")]))
        await device.live()

        def watch(execution: str, at: str, when: str) -> None:
            if (execution, at, when) == ("e-new", phase, moment):
                fill(folder, 0)

        device.on_transition = watch
        device.assign(assigned(2, [NEW.wanted("e-new")]))
        await device.live()
        assert not reserve.is_whole
        ended = device.phase("e-new")
        began = phase != "QUEUED" and (phase, moment) != (Step.DOWNLOADING, "entered")
        # It is refused before anything is fetched, or goes on to its end: never half of it.
        assert ended is (ExecutionState.SUCCEEDED if began else ExecutionState.REJECTED)
        running = NEW if began else OLD
        assert device.answers() == running.digest
        assert device.ledger.committed()["assistant"].wanted.digest == running.digest

        device.assign(assigned(3, [NEWER.wanted("e-newer")]))
        await device.live()
        assert device.phase("e-newer") is ExecutionState.REJECTED
        assert device.reason("e-newer")["code"] == "INSUFFICIENT_DISK"
        assert "lives on the space that is reserved" in device.reason("e-newer")["message"]
        before = device.journal.batch(100_000, 1 << 30)
        assert_unbroken(before)
        assert len(recorded(device, "agent:reserve:given")) == 1

        # The power is cut on the full disk, and comes back; then somebody makes room.
        device.cut_power()
        again = Reserve(folder, 4 * MIB)
        device = Device(folder, device.disk, room=Room(reserve=again))
        await device.live()
        assert device.answers() == running.digest
        assert device.journal.batch(100_000, 1 << 30)[: len(before)] == before
        (folder / "filler").unlink()
        device.assign(assigned(4, [NEWER.wanted("e-last")]))
        await device.live()
        assert again.is_whole
        assert device.phase("e-last") is ExecutionState.SUCCEEDED
        assert device.answers() == NEWER.digest
        records = device.journal.batch(100_000, 1 << 30)
        assert_unbroken(records)
        assert records[: len(before)] == before
        assert b"agent:reserve:restored" in b"".join(one.body for one in records)
        device.close()


async def test_t47_a_disk_that_somebody_fills_for_ever_holds_everything_up_and_loses_nothing(
    tmp_path: Path,
) -> None:
    with small_disk(tmp_path / "disk", 16 * MIB) as folder:
        reserve = Reserve(folder, 1 * MIB)
        device = Device(folder, a_disk(), room=Room(reserve=reserve))
        device.assign(assigned(1, [OLD.wanted("e-old")]))
        await device.live()
        number = itertools.count()
        is_filling = True

        def watch(_execution: str, _phase: str, _moment: str) -> None:
            if is_filling:
                fill(folder, 0).rename(folder / f"more-{next(number)}")

        device.on_transition = watch
        device.assign(assigned(2, [NEW.wanted("e-new")]))
        await device.run_until(lambda: device.phase_or_none("e-new") is not None)
        assert device.answers() == OLD.digest
        before = device.journal.batch(100_000, 1 << 30)
        is_filling = False
        for more in folder.glob("more-*"):
            more.unlink()
        await device.live()
        assert device.is_settled()
        records = device.journal.batch(100_000, 1 << 30)
        assert_unbroken(records)
        assert records[: len(before)] == before
        device.close()
