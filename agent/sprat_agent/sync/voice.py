"""What the device says of itself: its hardware, what runs, how far it has come."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sprat_proto.capability import CAPABILITY
from sprat_proto.fit import Profile
from sprat_proto.v1.link_pb2 import HardwareProfile, Heartbeat, Hello, RunningModel

from sprat_agent.audit.journal import Journal
from sprat_agent.sync.dialogue import Voice
from sprat_agent.sync.ledger import Ledger
from sprat_agent.sync.outbox import Outbox
from sprat_agent.sync.ports import Workers

_AVAILABLE: Final = re.compile(r"^MemAvailable:\s*([0-9]{1,15}) kB$", re.ASCII | re.MULTILINE)


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
        profile: Profile,
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
        """Speak of this device; sizes are in bytes, `version` is the agent's."""
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
            profile=hardware(self._profile),
            assignment_version=self._ledger.assignment_version(),
            running=self._running(),
            next_report_seq=self._outbox.oldest_unacknowledged(),
            next_audit_seq=self._journal.oldest_unacknowledged(),
            director_root_version=self._trust.director_root_version(),
            director_version=self._trust.director_version(),
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
            )
            for one in self._workers.running()
        ]


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
    )


def memory_available(root: Path = Path("/")) -> int:
    """Return the bytes of memory that programs may still take; 0 where the kernel does not say."""
    try:
        found = _AVAILABLE.search((root / "proc/meminfo").read_text(encoding="utf-8"))
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0
