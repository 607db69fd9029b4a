"""The part of an agent that converses: its real state file, journal, outbox and loop, no models."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

from sprat_agent.clock import system_clock, to_ms
from sprat_agent.identity.identity import Identity
from sprat_agent.link.carrier import Carrier
from sprat_agent.registry.device_trust import trust_of
from sprat_agent.registry.remote import Remote
from sprat_agent.state import State
from sprat_agent.sync.dialogue import Voice
from sprat_agent.sync.ledger import Ledger
from sprat_agent.sync.loop import Conversation
from sprat_agent.sync.outbox import Outbox
from sprat_proto.capability import CAPABILITY
from sprat_proto.v1.link_pb2 import (
    AuditAck,
    ExecutionReport,
    HardwareProfile,
    Heartbeat,
    Hello,
    Welcome,
)

from simulators.sealed import journal_of
from simulators.trusting import Clockwork, intake

PROFILE = HardwareProfile(arch="x86_64", cores=4, memory_bytes=1 << 32, runtimes=["llama.cpp"])


class TalkingDevice:
    """Writes reports and audit, and brings them over.

    Attributes:
        obeyed: The versions of assignments in the order in which they were taken.
    """

    def __init__(
        self,
        identity: Identity,
        folder: Path,
        remote: Remote,
        carriers: Sequence[Carrier],
        check_ack: Callable[[AuditAck], None],
        *,
        boot: str = "boot-1",
    ) -> None:
        self._state = State(folder)
        self.journal = journal_of(self._state, system_clock, identity.device_id)
        self.outbox = Outbox(self._state)
        self.ledger = Ledger(self._state, self.journal, self.outbox, system_clock)
        self.obeyed: list[int] = []
        self._carriers = carriers
        self._check_ack = check_ack
        self._voice = Voice(identity.device_id, boot, self._hello, self._heartbeat)
        scratch, time = folder / "scratch", Clockwork(system_clock()).time
        self._trust = trust_of(self._state, identity, scratch, remote, time)
        self._intake = intake(
            self._trust, self._state, self.ledger, self.journal, identity.device_id
        )
        self._intake.on_kept = self._obey
        self._running: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to converse."""
        conversation = Conversation(
            self._carriers,
            self._voice,
            outbox=self.outbox,
            journal=self.journal,
            check_ack=self._check_ack,
            take=self._intake.take,
            welcomed=_welcome,
            uniform=_impatient,
        )
        self.journal.on_append = conversation.wake
        self.outbox.on_ready = conversation.wake
        self._running = [
            asyncio.create_task(conversation.run()),
            asyncio.create_task(self._intake.run()),
        ]

    async def stop(self) -> None:
        """End as a process does: what is kept is on disk."""
        for one in self._running:
            one.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await one
        self._state.close()

    def report(self, execution_id: str, running_digest: str) -> None:
        """Write a report."""
        said = ExecutionReport(
            execution_id=execution_id, state="IN_PROGRESS", running_digest=running_digest
        )
        with self._state.transaction() as connection:
            self.outbox.write(connection, to_ms(system_clock()), said)
        self.outbox.on_ready()

    def has_told_all(self) -> bool:
        """Nothing waits for an acknowledgement."""
        reports, audit = self.outbox, self.journal
        return (
            reports.oldest_unacknowledged() > reports.last_seq()
            and audit.oldest_unacknowledged() == audit.next_seq()
        )

    def _obey(self) -> None:
        self.obeyed.append(self.ledger.assignment_version())

    def _hello(self) -> Hello:
        return Hello(
            capability=CAPABILITY,
            profile=PROFILE,
            assignment_version=self.ledger.assignment_version(),
            next_report_seq=self.outbox.oldest_unacknowledged(),
            next_audit_seq=self.journal.oldest_unacknowledged(),
            director_root_version=self._trust.director.root_version(),
            director_version=self._trust.director.version(),
        )

    def _heartbeat(self) -> Heartbeat:
        return Heartbeat(
            assignment_version=self.ledger.assignment_version(),
            director_root_version=self._trust.director.root_version(),
            director_version=self._trust.director.version(),
        )


def _welcome(_welcome: Welcome) -> None:
    """Nobody here needs the credential."""


def _impatient(low: float, high: float) -> float:
    """Return a short wait: what is tested is not the waiting."""
    return low + (high - low) * 0.05
