"""The words that are stored and travel: they may be added to, never renamed."""

from __future__ import annotations

import re
from enum import StrEnum

import pytest
from sprat_proto import capability, states
from sprat_proto.states import (
    DeviceState,
    ExecutionState,
    ModelState,
    ReasonCode,
    RolloutState,
    Step,
)

# As released with capability 1.
RELEASED: dict[type[StrEnum], str] = {
    DeviceState: "UNKNOWN REGISTERED PENDING IN_SYNC ERROR",
    RolloutState: "CREATING WAITING_FOR_APPROVAL APPROVAL_DENIED READY SCHEDULED STARTING RUNNING"
    " PAUSED FINISHED STOPPING STOPPED ROLLING_BACK ROLLED_BACK",
    ExecutionState: "QUEUED IN_PROGRESS SUCCEEDED FAILED TIMED_OUT REJECTED CANCELED REMOVED"
    " ROLLED_BACK",
    Step: "DOWNLOADING DOWNLOADED VERIFYING WAITING_WINDOW INSTALLING PROBING ACTIVATING SOAKING"
    " COMMITTING ROLLING_BACK",
    ModelState: "LOADED COLD",
    ReasonCode: "INSUFFICIENT_MEMORY INSUFFICIENT_DISK RUNTIME_MISSING LOWER_QUALITY"
    " NO_VARIANT_FITS NO_PROFILE SIGNATURE_INVALID SIGNER_UNKNOWN DIGEST_MISMATCH SIZE_MISMATCH"
    " MANIFEST_INVALID MODEL_FILE_INVALID RELEASE_TOO_OLD DOWNLOAD_FAILED BLOB_NOT_FOUND"
    " LOAD_FAILED WORKER_CRASHED PROBE_FAILED SOAK_FAILED SUPERSEDED DEADLINE_PASSED"
    " STOPPED_BY_OPERATOR DEVICE_REMOVED INTERNAL_ERROR",
}


@pytest.mark.parametrize("kind", RELEASED, ids=lambda kind: kind.__name__)
def test_released_names_are_never_renamed(kind: type[StrEnum]) -> None:
    assert set(RELEASED[kind].split()) <= {one.value for one in kind}
    assert all(one.name == one.value for one in kind)


def test_an_execution_is_final_unless_it_waits_or_runs() -> None:
    going_on = {one for one in ExecutionState if not one.is_final}
    assert going_on == {ExecutionState.QUEUED, ExecutionState.IN_PROGRESS}


def test_every_capability_has_its_dated_line() -> None:
    lines = re.findall(r"^(\d+) \(\d{4}-\d\d-\d\d\): .+", str(capability.__doc__), re.MULTILINE)
    assert [int(number) for number in lines] == list(range(1, capability.CAPABILITY + 1))
    assert states.__doc__
