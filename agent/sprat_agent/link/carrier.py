"""What the conversation needs of a carrier, gRPC or MQTT alike.

A carrier authenticates both sides and brings messages in whole. It may lose, repeat, reorder or
delay them: what must arrive is numbered and acknowledged above it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from sprat_proto.v1.link_pb2 import ControllerMessage, DeviceMessage


class LinkError(Exception):
    """The conversation cannot be held right now; try again later."""


class LinkUnavailableError(LinkError):
    """No connection could be made: the controller is away, or does not admit this device."""


class LinkLostError(LinkError):
    """The connection ended, from whichever side."""


class Connection(Protocol):
    """One connection to the controller. Usable by several tasks at once."""

    async def send(self, message: DeviceMessage) -> None:
        """Hand the message over; that it was taken does not say that it arrives.

        Raises:
            LinkLostError: The connection is gone.
            sprat_proto.link.MessageTooLargeError: The message was not sent; the connection stands.
        """
        ...

    def __aiter__(self) -> AsyncIterator[ControllerMessage]:
        """Yield what arrives, for ever; the end of the connection raises LinkLostError."""
        ...


class Carrier(Protocol):
    """A way to the controller."""

    @property
    def name(self) -> str:
        """`grpc` or `mqtt`."""
        ...

    def connect(self) -> AbstractAsyncContextManager[Connection]:
        """Connect on entering, disconnect on leaving; one connection at a time.

        Raises:
            LinkUnavailableError: On entering: no connection, and why.
        """
        ...
