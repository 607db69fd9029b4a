"""A disk that takes nothing more, from any moment of an execution on (T47)."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from simulators.device import Device, Disk
from simulators.full_disk import FullState, assert_unbroken
from simulators.signed import assigned, release
from sprat_agent.sync.ports import ExecutionError
from sprat_proto.states import ExecutionState, ReasonCode, Step

OLD = release("1.0.0", [b"old"], counter=1)
NEW = release("2.0.0", [b"new"], counter=2)
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


class Filled:
    """A device that runs OLD and is assigned NEW; its disk is full from one moment on."""

    def __init__(self, folder: Path, phase: str, moment: str) -> None:
        self.device = Device(folder, Disk({one.digest: one for one in (OLD, NEW)}))
        self.full = FullState(self.device.state)
        self._at = (phase, moment)

    async def begin(self) -> None:
        """Live until the disk has refused what comes after that moment, again and again."""
        self.device.assign(assigned(1, [OLD.wanted("e-old")]))
        await self.device.live()
        self.device.on_transition = self._look
        self.device.assign(assigned(2, [NEW.wanted("e-new")]))
        await self.device.run_until(lambda: self.full.refused >= 5)
        self.device.on_transition = None

    def _look(self, execution: str, phase: str, moment: str) -> None:
        if (execution, phase, moment) == ("e-new", *self._at):
            self.full.fill()

    def committed(self) -> str:
        return self.device.ledger.committed()["assistant"].wanted.digest

    def assert_audit_is_whole(self) -> None:
        assert_unbroken(self.device.journal.batch(100_000, 1 << 30))


@pytest.mark.parametrize(
    ("phase", "moment"),
    [("QUEUED", "entered"), ("QUEUED", "done"), *itertools.product(PATH, ["entered", "done"])],
)
async def test_t47_a_disk_full_at_any_moment_activates_nothing_and_loses_no_audit(
    tmp_path: Path, phase: str, moment: str
) -> None:
    filled = Filled(tmp_path, phase, moment)
    await filled.begin()
    device = filled.device
    assert filled.full.is_full
    assert device.phase("e-new") == phase
    assert device.answers() == filled.committed() == OLD.digest
    filled.assert_audit_is_whole()
    before = device.audit()

    filled.full.empty()
    await device.live()
    assert device.phase("e-new") is ExecutionState.SUCCEEDED
    assert device.answers() == filled.committed() == NEW.digest
    assert device.entered("e-new") == dict.fromkeys(["QUEUED", *PATH, "SUCCEEDED"], 1)
    assert device.left("e-new") == dict.fromkeys(["QUEUED", *PATH], 1)
    filled.assert_audit_is_whole()
    assert device.audit()[: len(before)] == before
    device.close()


@pytest.mark.parametrize("moment", ["entered", "done"])
async def test_t47_a_disk_full_while_rolling_back_keeps_the_old_model(
    tmp_path: Path, moment: str
) -> None:
    filled = Filled(tmp_path, "ROLLING_BACK", moment)
    device = filled.device
    device.disk.defects["probe", NEW.digest] = ExecutionError(
        ReasonCode.PROBE_FAILED, "babble", expected="words", found="babble"
    )
    await filled.begin()
    assert device.phase("e-new") == "ROLLING_BACK"
    assert device.answers() == filled.committed() == OLD.digest
    filled.full.empty()
    await device.live()
    assert device.phase("e-new") is ExecutionState.ROLLED_BACK
    assert device.reason("e-new")["found"] == "babble"
    assert device.answers() == filled.committed() == OLD.digest
    assert device.disk.installed == {OLD.digest}
    filled.assert_audit_is_whole()
    device.close()


@pytest.mark.parametrize("phase", [Step.DOWNLOADING, Step.COMMITTING])
async def test_t47_a_power_cut_on_a_full_disk_changes_nothing_either(
    tmp_path: Path, phase: str
) -> None:
    filled = Filled(tmp_path, phase, "done")
    await filled.begin()
    filled.device.cut_power()
    again = Device(tmp_path, filled.device.disk)
    await again.live()
    assert again.phase("e-new") is ExecutionState.SUCCEEDED
    assert again.entered("e-new") == dict.fromkeys(["QUEUED", *PATH, "SUCCEEDED"], 1)
    assert_unbroken(again.journal.batch(100_000, 1 << 30))
    again.close()
