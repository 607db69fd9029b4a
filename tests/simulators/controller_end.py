"""The controller's end of one device's conversation, in memory, and a carrier that leads to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from sprat_agent.link.carrier import LinkLostError, LinkUnavailableError
from sprat_controller.audit import device_logs
from sprat_controller.audit.device_logs import Head, Sealed
from sprat_proto.v1.link_pb2 import (
    Assignment,
    AuditAck,
    AuditBatch,
    ControllerMessage,
    DeviceMessage,
    Hello,
    ReportAck,
    Welcome,
)

from simulators.sealed import SEED


@dataclass
class ControllerEnd:
    """Keeps reports and audit in order, each once; answers as the protocol says."""

    heartbeat_s: int = 60
    welcomes: bool = True
    assignment: Assignment | None = None
    hellos: list[Hello] = field(default_factory=list[Hello])
    heartbeats: int = 0
    states: list[str] = field(default_factory=list[str])  # of the reports kept, in order
    bodies: list[bytes] = field(default_factory=list[bytes])  # of the audit records kept
    head: Head = field(default_factory=lambda: device_logs.beginning(SEED))

    def receive(self, message: DeviceMessage) -> list[ControllerMessage]:
        """Keep what is new and return the answers."""
        match message.WhichOneof("body"):
            case "hello":
                return self._hello(message.hello)
            case "heartbeat":
                self.heartbeats += 1
                return []
            case "report":
                if message.report.seq == len(self.states) + 1:
                    self.states.append(message.report.execution.state)
                return [ControllerMessage(report_ack=ReportAck(up_to=len(self.states)))]
            case "audit":
                self._keep(message.audit)
                ack = AuditAck(up_to=self.head.size, root=self.head.root)
                return [ControllerMessage(audit_ack=ack)]
            case None:
                raise AssertionError("a message without a body")

    def _hello(self, hello: Hello) -> list[ControllerMessage]:
        self.hellos.append(hello)
        if not self.welcomes:
            return []
        welcome = Welcome(
            capability=1,
            heartbeat_s=self.heartbeat_s,
            blob_base_urls=["https://blobs"],
            blob_credential=f"credential-{len(self.hellos)}",
        )
        answers = [ControllerMessage(welcome=welcome)]
        if self.assignment:
            answers.append(ControllerMessage(assignment=self.assignment))
        return answers

    def _keep(self, batch: AuditBatch) -> None:
        records = [Sealed(one.seq, one.body, one.seal) for one in batch.records]
        followed = device_logs.follow(self.head, records)
        if followed.broken is not None:
            raise AssertionError(f"the log is broken: {followed.broken}")
        self.bodies.extend(one.body for one in followed.fresh)
        self.head = followed.head


class MemoryCarrier:
    """A carrier to a controller in the same process; may be cut."""

    def __init__(self, end: ControllerEnd, name: str = "grpc") -> None:
        self.end = end
        self.name = name
        self.is_reachable = True
        self.connects = 0
        self._connection: _MemoryConnection | None = None

    @asynccontextmanager
    async def connect(self) -> AsyncGenerator[_MemoryConnection]:
        """Connect if reachable."""
        self.connects += 1
        if not self.is_reachable:
            raise LinkUnavailableError(f"{self.name} is away")
        self._connection = _MemoryConnection(self.end)
        try:
            yield self._connection
        finally:
            self._connection = None

    def cut(self) -> None:
        """End the connection from the other side."""
        if self._connection:
            self._connection.incoming.put_nowait(None)

    def say(self, message: ControllerMessage) -> None:
        """Let the controller say something of its own accord."""
        if self._connection:
            self._connection.incoming.put_nowait(message)


class _MemoryConnection:
    def __init__(self, end: ControllerEnd) -> None:
        self._end = end
        self.incoming: asyncio.Queue[ControllerMessage | None] = asyncio.Queue()

    async def send(self, message: DeviceMessage) -> None:
        for answer in self._end.receive(message):
            self.incoming.put_nowait(answer)

    async def __aiter__(self) -> AsyncIterator[ControllerMessage]:
        while True:
            message = await self.incoming.get()
            if message is None:
                raise LinkLostError("cut")
            yield message
