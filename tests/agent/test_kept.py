"""How much waits for the controller."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulators.device import Device, Disk
from sprat_agent import kept
from sprat_agent.kept import Kept, kept_blocking
from sprat_proto.v1.link_pb2 import ExecutionReport


@settings(max_examples=20)
@given(records=st.integers(0, 9), reports=st.integers(0, 9), acknowledged=st.integers(0, 9))
def test_it_is_what_was_written_and_not_acknowledged(
    tmp_path_factory: pytest.TempPathFactory, records: int, reports: int, acknowledged: int
) -> None:
    device = Device(tmp_path_factory.mktemp("device"), Disk())
    report = ExecutionReport(execution_id="e")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kept, "_SLICE", 2)  # more than one slice is read
        for _ in range(records):
            device.journal.append("a:b:c", "it", {"text": "ü"})
        with device.state.transaction() as connection:
            for _ in range(reports):
                device.outbox.write(connection, 1, report)
        bodies = [len(one.body) for one in device.journal.batch(100, 1 << 20)]
        device.journal.acknowledge(min(acknowledged, records))
        device.outbox.acknowledge(acknowledged)
        found = kept_blocking(device.state)
    left = max(0, reports - acknowledged)
    assert found["report"] == Kept(left, left * report.ByteSize())
    assert found["audit"] == Kept(max(0, records - acknowledged), sum(bodies[acknowledged:]))
    device.close()
