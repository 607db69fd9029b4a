"""What the device says of itself: its hardware, what runs, how far it has come."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sprat_proto import rates
from sprat_proto.capability import CAPABILITY
from sprat_proto.fit import Profile
from sprat_proto.v1 import link_pb2
from sprat_proto.v1.link_pb2 import HardwareProfile, Heartbeat, Hello, RunningModel

from sprat_agent.audit.journal import Journal
from sprat_agent.sync.dialogue import Voice
from sprat_agent.sync.ledger import Ledger
from sprat_agent.sync.outbox import Outbox
from sprat_agent.sync.ports import ModelMetrics, Workers


@dataclass(frozen=True)
class Trust:
    """How far the device trusts, asked each time anew."""

    director_root_version: Callable[[], int]
    director_version: Callable[[], int]
    is_stale: Callable[[], bool]


class Speaker:
    """Makes the messages in which the device speaks of itself."""

    def __init__(
        self,
        profile: Callable[[], Profile],
        ledger: Ledger,
        workers: Workers,
        *,
        outbox: Outbox,
        journal: Journal,
        trust: Trust,
        version: str,
        disk_free: Callable[[], int],
        memory_free: Callable[[], int],
    ) -> None:
        """Speak of this device, asked each time anew; sizes are in bytes, `version` the agent's."""
        self._profile = profile
        self._ledger = ledger
        self._workers = workers
        self._outbox = outbox
        self._journal = journal
        self._trust = trust
        self._version = version
        self._disk_free = disk_free
        self._memory_free = memory_free

    def voice(self, device_id: str, boot_id: str) -> Voice:
        """Return what a dialogue needs."""
        return Voice(device_id, boot_id, self.hello, self.heartbeat)

    def hello(self) -> Hello:
        """Return the first message of a connection."""
        return Hello(
            capability=CAPABILITY,
            agent_version=self._version,
            profile=hardware(self._profile()),
            assignment_version=self._ledger.assignment_version(),
            running=self._running(),
            next_report_seq=self._outbox.oldest_unacknowledged(),
            next_audit_seq=self._journal.oldest_unacknowledged(),
            audit_size=self._journal.next_seq() - 1,
            director_root_version=self._trust.director_root_version(),
            director_version=self._trust.director_version(),
            newest_report_seq=self._outbox.last_seq(),
        )

    def heartbeat(self) -> Heartbeat:
        """Return what runs now and what is free."""
        return Heartbeat(
            assignment_version=self._ledger.assignment_version(),
            running=self._running(),
            memory_free_bytes=self._memory_free(),
            disk_free_bytes=self._disk_free(),
            plan_is_stale=self._trust.is_stale(),
            director_root_version=self._trust.director_root_version(),
            director_version=self._trust.director_version(),
            # After what runs was looked at: what explains it is among the reports.
            newest_report_seq=self._outbox.last_seq(),
            metrics=[metrics(one) for one in self._workers.metrics()],
        )

    def _running(self) -> list[RunningModel]:
        return [
            RunningModel(
                alias=one.loadable.alias,
                model=one.loadable.model,
                release=one.loadable.release,
                variant=one.loadable.variant,
                digest=one.loadable.digest,
                state=one.state,
                decode_milli_tps=one.seen.decode_milli_tps,
                prefill_milli_tps=one.seen.prefill_milli_tps,
                rate_samples=one.seen.samples,
            )
            for one in self._workers.running()
        ]


def metrics(found: ModelMetrics) -> link_pb2.ModelMetrics:
    """Return the metrics of a model as a message."""
    return link_pb2.ModelMetrics(
        alias=found.alias,
        digest=found.digest,
        window_s=found.window_s,
        requests=found.requests,
        errors=found.errors,
        decode_milli_tps=found.decode_milli_tps,
        ttft_p95_ms=found.ttft_p95_ms,
        peak_bytes=found.peak_bytes,
        declared_bytes=found.declared_bytes,
        crashes=found.crashes,
    )


def hardware(profile: Profile) -> HardwareProfile:
    """Return the profile as a message."""
    return HardwareProfile(
        arch=profile.arch,
        cores=profile.cores,
        cpu_features=profile.cpu_features,
        memory_bytes=profile.memory_bytes,
        memory_budget_bytes=profile.memory_budget_bytes,
        disk_free_bytes=profile.disk_free_bytes,
        accelerators=profile.accelerators,
        os=profile.os,
        simulated=profile.simulated,
        runtimes=profile.runtimes,
        processor=profile.processor,
        core_kinds=[
            link_pb2.CoreKind(count=kind.count, capacity=kind.capacity, max_mhz=kind.max_mhz)
            for kind in profile.core_kinds
        ],
        cpu_quota_milli=profile.cpu_quota_milli,
        memory_limit_bytes=profile.memory_limit_bytes,
        memory_available_bytes=profile.memory_available_bytes,
        throttle_permille=profile.throttle_permille,
        power=profile.power,
        measured=profile.measured and measured(profile.measured),
    )


def measured(found: rates.Measured) -> link_pb2.Measured:
    """Return what a micro-benchmark found as a message."""
    return link_pb2.Measured(
        at_ms=found.at_ms,
        engine=found.engine,
        threads=found.threads,
        bandwidth=found.bandwidth,
        step_ns=found.step_ns,
        layer_ns=found.layer_ns,
        kv_fs=found.kv_fs,
        costs=[
            link_pb2.TypeCost(kind=cost.kind, decode_fs=cost.decode_fs, prefill_fs=cost.prefill_fs)
            for cost in found.costs
        ],
        look_fs=found.look_fs,
    )
