"""Running what blocks (disk, hashing) in a thread that has ended when the call has."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class AbandonedError(Exception):
    """The caller was cancelled; raised inside the thread so that it ends soon."""


class Stop:
    """Tells the thread that nobody wants its result any more."""

    def __init__(self) -> None:
        self._set = threading.Event()

    def set(self) -> None:
        """Ask the thread to end."""
        self._set.set()

    def check(self) -> None:
        """Raise AbandonedError if the thread was asked to end."""
        if self._set.is_set():
            raise AbandonedError


async def in_thread(work: Callable[[Stop], T]) -> T:
    """Return what `work` returns, run in a thread.

    Cancelling waits for the thread: files it has open are never removed or closed under it.
    """
    stop = Stop()
    running = asyncio.ensure_future(asyncio.to_thread(work, stop))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.wait([running])
        if not running.cancelled():
            running.exception()  # ours: nobody else asks for it
        raise
