from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from simulators.controlled import ALIAS, World
from sprat_controller.rollout.requests import PlanRequest
from sprat_proto.states import ExecutionState
from sprat_proto.v1 import link_pb2

IN_PROGRESS, SUCCEEDED = ExecutionState.IN_PROGRESS, ExecutionState.SUCCEEDED
PLAN = PlanRequest("talk", "1.0.0", ALIAS, context=256)

texts = st.text(max_size=80) | st.sampled_from([ALIAS, "1.0.0", "q8_0", "0" * 64, "LOADED", ""])
numbers = st.integers(0, (1 << 64) - 1) | st.integers(0, 5)
running = st.builds(
    link_pb2.RunningModel,
    alias=texts,
    model=texts,
    release=texts,
    variant=texts,
    digest=texts,
    state=texts,
    decode_milli_tps=numbers,
    prefill_milli_tps=numbers,
    rate_samples=st.integers(0, (1 << 32) - 1),
)
small = st.integers(0, (1 << 32) - 1) | st.integers(0, 1100)
measurements = st.builds(
    link_pb2.Measured,
    at_ms=st.integers(-(1 << 63), (1 << 63) - 1),
    engine=texts,
    threads=small,
    bandwidth=numbers,
    step_ns=numbers,
    layer_ns=numbers,
    kv_fs=numbers,
    look_fs=numbers,
    costs=st.lists(
        st.builds(
            link_pb2.TypeCost,
            kind=texts | st.sampled_from(["q4_0", "f16"]),
            decode_fs=numbers,
            prefill_fs=numbers,
        ),
        max_size=3,
    ),
)
profiles = st.builds(
    link_pb2.HardwareProfile,
    arch=texts,
    cores=st.integers(0, (1 << 32) - 1),
    cpu_features=st.lists(texts, max_size=300),
    memory_bytes=numbers,
    memory_budget_bytes=numbers,
    disk_free_bytes=numbers,
    os=texts,
    simulated=st.booleans(),
    runtimes=st.lists(texts, max_size=3),
    processor=texts,
    core_kinds=st.lists(
        st.builds(link_pb2.CoreKind, count=small, capacity=small, max_mhz=small), max_size=20
    ),
    cpu_quota_milli=numbers,
    memory_limit_bytes=numbers,
    memory_available_bytes=numbers,
    throttle_permille=st.none() | small,
    power=texts | st.sampled_from(["", "mains", "battery"]),
    measured=st.none() | measurements,
)
executions = (
    st.sampled_from(["id-00002", "id-00001", ".return", "id-00002.return", "id-00002.2"]) | texts
)
hellos = st.builds(
    link_pb2.Hello,
    capability=st.integers(0, (1 << 32) - 1),
    agent_version=texts,
    profile=profiles,
    assignment_version=numbers,
    running=st.lists(running, max_size=3),
    next_report_seq=numbers,
    next_audit_seq=numbers,
    audit_size=st.none() | numbers,
)
heartbeats = st.builds(
    link_pb2.Heartbeat,
    assignment_version=numbers,
    running=st.lists(running, max_size=3),
    memory_free_bytes=numbers,
    disk_free_bytes=numbers,
)
reasons = st.builds(link_pb2.Reason, code=texts, message=texts, expected=texts, found=texts)
said = st.builds(
    link_pb2.ExecutionReport,
    execution_id=executions,
    state=st.sampled_from([str(state) for state in ExecutionState]) | texts,
    step=texts,
    reason=st.none() | reasons,
    running_digest=texts,
)
reports = st.builds(link_pb2.Report, seq=numbers, execution=said)
trails = st.builds(
    link_pb2.AuditBatch,
    records=st.lists(
        st.builds(
            link_pb2.AuditRecord,
            seq=numbers,
            body=st.binary(max_size=40),
            seal=st.binary(max_size=40),
        ),
        max_size=4,
    ),
    checkpoint=texts | st.just("sprat/devices/a/audit\n1\nAAAA\n\n\N{EM DASH} a AAAA\n"),
)
messages = st.one_of(
    hellos.map(lambda hello: link_pb2.DeviceMessage(hello=hello)),
    heartbeats.map(lambda beat: link_pb2.DeviceMessage(heartbeat=beat)),
    reports.map(lambda report: link_pb2.DeviceMessage(report=report)),
    trails.map(lambda batch: link_pb2.DeviceMessage(audit=batch)),
    st.just(link_pb2.DeviceMessage()),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(messages, min_size=1, max_size=12))
def test_no_message_ever_crashes_the_controller_or_reaches_beyond_its_device(
    spoken: list[link_pb2.DeviceMessage],
) -> None:
    world = World()
    world.publish("1.0.0")
    world.join("a")
    other = world.join("b")
    view = world.create()
    world.run_due()
    for message in spoken:
        world.conversation.receive("a", "mqtt", message)
        # What is kept can always be read again.
        world.service.executions(view.id)
    assert world.states(view.id)["b"] is IN_PROGRESS
    other.sync()
    assert world.states(view.id)["b"] is SUCCEEDED
    world.service.plan(PLAN)
    world.close()
