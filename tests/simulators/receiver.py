"""A `Receiver` that remembers what it was told: the controller's side of a carrier under test."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

from sprat_proto.v1.link_pb2 import ControllerMessage, DeviceMessage

TIMEOUT_S = 30.0


class RecordingReceiver:
    """Admits the devices it is given and keeps everything in the order it was told.

    Attributes:
        admitted: Device id to the hash of the key it must use.
        events: `connected` and `disconnected`, with device and carrier.
        heard: Device and message.
        answer: What to answer to a message.
    """

    def __init__(self) -> None:
        self.admitted: dict[str, str] = {}
        self.events: list[tuple[str, str, str]] = []
        self.heard: list[tuple[str, DeviceMessage]] = []
        self.answer: Callable[[str, DeviceMessage], list[ControllerMessage]] = _no_answer
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._lock = threading.Lock()

    def admit(self, device_id: str, key_sha256: str | None) -> bool:
        expected = self.admitted.get(device_id)
        return expected is not None and key_sha256 in (None, expected)

    def connected(self, device_id: str, carrier: str) -> None:
        self._note(("connected", device_id, carrier))

    def disconnected(self, device_id: str, carrier: str) -> None:
        self._note(("disconnected", device_id, carrier))

    def receive(
        self, device_id: str, carrier: str, message: DeviceMessage
    ) -> list[ControllerMessage]:
        del carrier
        with self._lock:
            self.heard.append((device_id, message))
        self._loop.call_soon_threadsafe(self._changed.set)
        return self.answer(device_id, message)

    def boots(self, device_id: str) -> list[str]:
        """Return the boot ids heard from a device; tests use them as the text of a message."""
        return [message.boot_id for device, message in self.heard if device == device_id]

    def what_happened(self, device_id: str) -> list[str]:
        """Return `connected` and `disconnected` of a device, in order."""
        return [what for what, device, _ in self.events if device == device_id]

    def is_online(self, device_id: str) -> bool:
        """The last that was told of the device is that it is there."""
        return self.what_happened(device_id)[-1:] == ["connected"]

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until `holds()` is true; it is asked again at everything that is told."""
        async with asyncio.timeout(TIMEOUT_S):
            while not holds():
                self._changed.clear()
                await self._changed.wait()

    def _note(self, event: tuple[str, str, str]) -> None:
        with self._lock:
            self.events.append(event)
        self._loop.call_soon_threadsafe(self._changed.set)


def _no_answer(_device_id: str, _message: DeviceMessage) -> list[ControllerMessage]:
    return []
