"""Blocking calls in threads: one after the other for a device, different devices side by side.

What a device says must be heard in its order, on whichever carrier it comes; SQLite blocks, and
must not block the loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
_log = logging.getLogger(__name__)


class Lanes:
    """The queue of calls of each device. Used from one event loop only."""

    def __init__(self) -> None:
        self._last: dict[str, asyncio.Task[object]] = {}
        self._waiting: dict[str, int] = {}

    def depth(self, device_id: str) -> int:
        """Return how many calls of this device are not finished."""
        return self._waiting.get(device_id, 0)

    def post(self, device_id: str, call: Callable[[], T]) -> asyncio.Task[T]:
        """Queue `call` and return its task; a failure that nobody awaits stands in the log.

        The call is made even if whoever waits for it is cancelled: wait with `asyncio.shield`.
        """
        task = asyncio.create_task(_after(self._last.get(device_id), call))
        self._last[device_id] = task
        self._waiting[device_id] = self.depth(device_id) + 1
        task.add_done_callback(lambda done: self._finished(device_id, done))
        return task

    async def run(self, device_id: str, call: Callable[[], T]) -> T:
        """Queue `call` and return what it returns."""
        return await asyncio.shield(self.post(device_id, call))

    async def drain(self) -> None:
        """Wait until nothing is queued."""
        while self._last:
            await asyncio.wait(self._last.values())

    def _finished(self, device_id: str, task: asyncio.Task[object]) -> None:
        self._waiting[device_id] -= 1
        if self._last.get(device_id) is task:
            del self._last[device_id]
            del self._waiting[device_id]
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("device %s: a call failed", device_id, exc_info=error)


async def _after(previous: asyncio.Task[object] | None, call: Callable[[], T]) -> T:
    if previous is not None:
        await asyncio.wait([previous])
    return await asyncio.to_thread(call)
