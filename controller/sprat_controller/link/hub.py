"""Who is connected, and the way to them.

The rows are the truth: what is pushed here only saves a device from waiting. A message for a device
that is away is dropped, for it will be told again when it says Hello; the MQTT broker alone keeps
the newest assignment for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

from sprat_proto import link
from sprat_proto.v1.link_pb2 import ControllerMessage, DeviceMessage

from sprat_controller.link.lanes import Lanes

# A device that leaves this many messages unread is ended: it learns all of it when it returns.
OUTBOX_LIMIT: Final = 256
_log = logging.getLogger(__name__)


class Receiver(Protocol):
    """What the conversation does with a device's words.

    All methods block; they are called in threads, in order for each device.
    """

    def admit(self, device_id: str, key_sha256: str | None) -> bool:
        """Tell whether the device may speak.

        Args:
            device_id: The authenticated name.
            key_sha256: Hash of the certified key it used (see `fleet.ca.key_sha256`); None where a
                broker authenticated it.
        """
        ...

    def connected(self, device_id: str, carrier: str) -> None:
        """Note that the device is there."""
        ...

    def receive(
        self, device_id: str, carrier: str, message: DeviceMessage
    ) -> list[ControllerMessage]:
        """Take in a message and return the answers, in order."""
        ...

    def disconnected(self, device_id: str, carrier: str) -> None:
        """Note that the device is no longer there on this carrier; it may be on the other."""
        ...


class SessionClosedError(Exception):
    """The session was ended from this side; the message says why."""


class Session:
    """A device's live connection, and what waits to be sent on it. Of the loop's thread only."""

    def __init__(self, device_id: str, on_close: Callable[[], None]) -> None:
        self.device_id = device_id
        self._on_close = on_close
        self._closed_because: str | None = None
        self._outbox: deque[ControllerMessage] = deque()
        self._changed = asyncio.Event()

    @property
    def is_closed(self) -> bool:
        """Nothing is sent any more, and nothing that comes is heard."""
        return self._closed_because is not None

    def put(self, message: ControllerMessage) -> None:
        """Queue a message; a full outbox ends the session instead.

        Raises:
            sprat_proto.link.MessageTooLargeError: No carrier takes the message.
        """
        link.check_size(message.ByteSize())
        if len(self._outbox) >= OUTBOX_LIMIT:
            self.close(f"{OUTBOX_LIMIT} messages wait unread")
        elif not self.is_closed:
            self._outbox.append(message)
            self._changed.set()

    def close(self, reason: str) -> None:
        """End the session, once; whoever waits in `next` is told the reason."""
        if self.is_closed:
            return
        _log.info("device %s: its session ends: %s", self.device_id, reason)
        self._closed_because = reason
        self._changed.set()
        self._on_close()

    async def next(self) -> ControllerMessage:
        """Return the next message to send, waiting for one.

        Raises:
            SessionClosedError: The session was ended.
        """
        while self._closed_because is None:
            if self._outbox:
                return self._outbox.popleft()
            self._changed.clear()
            await self._changed.wait()
        raise SessionClosedError(self._closed_because)


class Mailbox(Protocol):
    """A carrier that can keep a message for a device that is away: MQTT."""

    def deliver(self, device_id: str, message: ControllerMessage) -> None:
        """Queue the message if this carrier can bring or keep it; in the loop's thread."""
        ...


class Hub:
    """All sessions of this process."""

    def __init__(self) -> None:
        self.lanes = Lanes()
        self._sessions: dict[str, Session] = {}
        self._mailboxes: list[Mailbox] = []
        self._told_of_ends: list[Callable[[str], None]] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    def push(self, device_id: str, message: ControllerMessage) -> None:
        """Send `message` to the device if it is connected. Thread-safe; returns at once.

        Raises:
            sprat_proto.link.MessageTooLargeError: No carrier takes the message.
        """
        link.check_size(message.ByteSize())
        self._call_soon(lambda: self._deliver(device_id, message))

    def end(self, device_id: str, reason: str) -> None:
        """End the device's session, as when it is revoked. Thread-safe; returns at once."""
        self._call_soon(lambda: self._end_everywhere(device_id, reason))

    def open(self, device_id: str, carrier: str, receiver: Receiver) -> Session:
        """Return a new session; it replaces an older one of the device. In the loop's thread.

        The receiver hears of the old one's end before it hears of the new one.
        """
        self._loop = asyncio.get_running_loop()
        self._end(device_id, "a newer connection of this device replaced this one")

        def tell_end() -> None:
            self.lanes.post(device_id, partial(receiver.disconnected, device_id, carrier))

        session = Session(device_id, tell_end)
        self._sessions[device_id] = session
        self.lanes.post(device_id, partial(receiver.connected, device_id, carrier))
        return session

    def close(self, session: Session) -> None:
        """Forget the session. In the loop's thread."""
        session.close("the connection ended")
        if self._sessions.get(session.device_id) is session:
            del self._sessions[session.device_id]

    def when_ended(self, call: Callable[[str], None]) -> None:
        """Have `call` told of each device that `end` names. In the loop's thread."""
        self._loop = asyncio.get_running_loop()
        self._told_of_ends.append(call)

    def attach(self, mailbox: Mailbox) -> None:
        """Give every pushed message to `mailbox` too. In the loop's thread."""
        self._loop = asyncio.get_running_loop()
        self._mailboxes.append(mailbox)

    def detach(self, mailbox: Mailbox) -> None:
        """Undo `attach`."""
        self._mailboxes.remove(mailbox)

    def _deliver(self, device_id: str, message: ControllerMessage) -> None:
        session = self._sessions.get(device_id)
        if session is not None:
            session.put(message)
        for mailbox in self._mailboxes:
            mailbox.deliver(device_id, message)

    def _end_everywhere(self, device_id: str, reason: str) -> None:
        self._end(device_id, reason)
        for call in self._told_of_ends:
            call(device_id)

    def _end(self, device_id: str, reason: str) -> None:
        session = self._sessions.get(device_id)
        if session is not None:
            session.close(reason)

    def _call_soon(self, call: Callable[[], None]) -> None:
        loop = self._loop
        if loop is None:
            return  # nothing ever connected
        try:
            loop.call_soon_threadsafe(call)
        except RuntimeError:
            # The loop ended between two lines of ours: at a stop there is nobody to send to.
            if not loop.is_closed():
                raise
