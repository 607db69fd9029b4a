"""The device's side of one connection, without the connection: what to say, and when.

Hello until there is a Welcome, then heartbeats, reports and audit. `now` is in seconds of any clock
that never goes back.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from sprat_proto.v1.link_pb2 import DeviceMessage, Heartbeat, Hello, Welcome

from sprat_agent.sync.flows import AuditFlow, ReportFlow

HELLO_AGAIN_S: Final = 10.0
# A carrier over which nobody answers is left after this long.
WELCOME_PATIENCE_S: Final = 30.0
_LEAST_HEARTBEAT_S: Final = 1


@dataclass(frozen=True)
class Voice:
    """How the device speaks of itself, asked each time anew."""

    device_id: str
    boot_id: str
    hello: Callable[[], Hello]
    heartbeat: Callable[[], Heartbeat]


class Dialogue:
    """What is said over one connection."""

    def __init__(self, voice: Voice, reports: ReportFlow, audit: AuditFlow, now: float) -> None:
        self._voice = voice
        self.reports = reports
        self.audit = audit
        self._began_at = now
        self._hello_at = now
        self._said_hello_at = now
        self._beat_at = math.inf
        self._heartbeat_s = 0.0
        self.is_welcome = False

    @property
    def next_due(self) -> float:
        """When `due` has something to say without being woken."""
        return min(self._hello_at, self._beat_at, self.reports.next_due, self.audit.next_due)

    def is_unanswered(self, now: float) -> bool:
        """Tell whether nobody is at the other end."""
        return not self.is_welcome and now - self._began_at >= WELCOME_PATIENCE_S

    def due(self, now: float) -> Iterator[DeviceMessage]:
        """Yield the messages to send now, in order."""
        boot_id = self._voice.boot_id
        if now >= self._hello_at:
            self._said_hello_at = now
            self._hello_at = now + HELLO_AGAIN_S
            yield DeviceMessage(boot_id=boot_id, hello=self._voice.hello())
        if not self.is_welcome:
            return
        if now >= self._beat_at:
            self._beat_at = now + self._heartbeat_s
            yield DeviceMessage(boot_id=boot_id, heartbeat=self._voice.heartbeat())
        for report in self.reports.due(now):
            yield DeviceMessage(boot_id=boot_id, report=report)
        batch = self.audit.due(now)
        if batch:
            yield DeviceMessage(boot_id=boot_id, audit=batch)

    def welcome(self, welcome: Welcome, now: float) -> None:
        """Take the controller's Welcome: speak from now on, at the rhythm it says."""
        self._hello_at = math.inf
        heartbeat_s = float(max(_LEAST_HEARTBEAT_S, welcome.heartbeat_s))
        if not self.is_welcome or heartbeat_s != self._heartbeat_s:
            self._beat_at = now + phase_of(self._voice.device_id) * heartbeat_s
        self._heartbeat_s = heartbeat_s
        self.is_welcome = True

    def ask_for_welcome(self, now: float) -> None:
        """Say Hello again soon: the credential is refused. At most once per `HELLO_AGAIN_S`."""
        if self.is_welcome and self._hello_at == math.inf:
            self._hello_at = max(now, self._said_hello_at + HELLO_AGAIN_S)

    def greet_again(self, now: float) -> None:
        """Say Hello at once: what it tells of this device is no longer as it was."""
        if self.is_welcome:
            self._hello_at = now

    def beat_now(self, now: float) -> None:
        """Say at once what runs."""
        if self.is_welcome:
            self._beat_at = now


def phase_of(device_id: str) -> float:
    """Return where in the heartbeat's interval this device speaks, 0 to 1: a fleet spreads out."""
    digest = hashlib.sha256(device_id.encode()).digest()
    return int.from_bytes(digest[:4], "big") / (1 << 32)
