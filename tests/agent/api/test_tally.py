"""What is counted of executions and events."""

from __future__ import annotations

from pathlib import Path

import pytest
from simulators.device import Device, Disk
from simulators.signed import assigned, release
from sprat_agent.api.tally import Tally
from sprat_agent.sync.ports import ExecutionError
from sprat_proto.states import ExecutionState, ReasonCode

BAD = release()


@pytest.mark.parametrize(
    ("method", "code", "count"),
    [
        ("download", ReasonCode.SIGNATURE_INVALID, 1),
        ("verify", ReasonCode.DIGEST_MISMATCH, 1),
        ("install", ReasonCode.NOT_RELEASED, 1),
        ("download", ReasonCode.INSUFFICIENT_DISK, 0),  # nothing was wrong with what came
        ("load_candidate", ReasonCode.DIGEST_MISMATCH, 0),  # the worker's event tells of it
    ],
)
async def test_what_is_not_as_it_was_signed_is_counted_when_it_is_taken_in(
    tmp_path: Path, method: str, code: ReasonCode, count: int
) -> None:
    tally = Tally()
    disk = Disk({BAD.digest: BAD}, defects={(method, BAD.digest): ExecutionError(code, "no")})
    device = Device(tmp_path, disk)
    device.ledger.on_failed = tally.failed
    device.assign(assigned(1, [BAD.wanted("e")]))
    await device.live()
    assert device.phase("e") in {ExecutionState.FAILED, ExecutionState.ROLLED_BACK}
    assert tally.verify_failures == {"download": count, "load": 0}
    device.close()


def test_events_of_other_things_are_nothing_to_it() -> None:
    tally = Tally()
    tally.note("application:inference:answered", {"alias": "a", "ms": 1})
    tally.note("agent:model:refused", {"alias": "a", "code": "LOAD_FAILED"})
    assert not tally.loads
    assert not tally.crashes
    assert tally.verify_failures == {"download": 0, "load": 0}
