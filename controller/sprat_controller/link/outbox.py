"""What waits to be published to an MQTT broker."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from typing import Final

from sprat_proto.v1.link_pb2 import ControllerMessage

ANSWERS_LIMIT: Final = 10_000


class Outbox:
    """Per device the newest assignment, and answers, oldest first. Of the loop's thread only.

    It outlives a connection. Answers are bounded: the oldest go first, for whom they concern asks
    again. Assignments are one per device, the rows' newest.
    """

    def __init__(self) -> None:
        self._assignments: OrderedDict[str, ControllerMessage] = OrderedDict()
        self._answers: deque[tuple[str, ControllerMessage]] = deque(maxlen=ANSWERS_LIMIT)
        self._filled = asyncio.Event()

    def put(self, device_id: str, message: ControllerMessage) -> None:
        """Queue the message; an assignment replaces a waiting older one."""
        if message.HasField("assignment"):
            waiting = self._assignments.get(device_id)
            if waiting is None or waiting.assignment.version < message.assignment.version:
                self._assignments[device_id] = message
        else:
            self._answers.append((device_id, message))
        self._filled.set()

    def put_back(self, device_id: str, message: ControllerMessage) -> None:
        """Queue what could not be published; an answer was for a connection that is lost."""
        if message.HasField("assignment"):
            self.put(device_id, message)

    async def next(self) -> tuple[str, ControllerMessage]:
        """Return what to publish next, waiting for something."""
        while True:
            if self._answers:
                return self._answers.popleft()
            if self._assignments:
                return self._assignments.popitem(last=False)
            self._filled.clear()
            await self._filled.wait()
