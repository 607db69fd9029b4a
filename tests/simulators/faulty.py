"""A carrier at its worst: loses, repeats, reorders and delays, both ways, by a seeded schedule."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from sprat_agent.link.carrier import Carrier, Connection
from sprat_proto.v1.link_pb2 import ControllerMessage, DeviceMessage

M = TypeVar("M")


@dataclass(frozen=True)
class Faults:
    """How often, each from 0 to 1, something happens to a message; together at most 1.

    A held message is delivered, in any order with others that are held, after a later one that is
    not held; when none follows it is lost: both are things that carriers do.
    """

    seed: int
    lose: float = 0.15
    repeat: float = 0.15
    hold: float = 0.25


class Schedule(Generic[M]):
    """Decides what becomes of each message of one direction. Pure but for its own randomness."""

    def __init__(self, faults: Faults, direction: str) -> None:
        self._faults = faults
        self._random = random.Random(f"{faults.seed} {direction}")  # noqa: S311 - a test's dice
        self._held: list[M] = []
        self.lost = self.repeated = self.held = 0

    def pass_on(self, message: M) -> list[M]:
        """Return what is delivered now that `message` was sent."""
        dice = self._random.random()
        if dice < self._faults.lose:
            self.lost += 1
            return []
        dice -= self._faults.lose
        if dice < self._faults.hold:
            self.held += 1
            self._held.append(message)
            return []
        dice -= self._faults.hold
        now = [message, *self._released()]
        if dice < self._faults.repeat:
            self.repeated += 1
            now.append(message)
        return now

    def _released(self) -> list[M]:
        count = self._random.randint(0, len(self._held))
        released = self._random.sample(self._held, count)
        self._held = [message for message in self._held if not _among(message, released)]
        return released


class FaultyCarrier:
    """Wraps a real carrier; its schedules go on over reconnects."""

    def __init__(self, inner: Carrier, faults: Faults) -> None:
        self._inner = inner
        self.name = inner.name
        self.up: Schedule[DeviceMessage] = Schedule(faults, "up")
        self.down: Schedule[ControllerMessage] = Schedule(faults, "down")

    @asynccontextmanager
    async def connect(self) -> AsyncGenerator[Connection]:
        """Connect as the wrapped carrier does."""
        async with self._inner.connect() as connection:
            yield _FaultyConnection(connection, self.up, self.down)


class _FaultyConnection:
    def __init__(
        self, inner: Connection, up: Schedule[DeviceMessage], down: Schedule[ControllerMessage]
    ) -> None:
        self._inner = inner
        self._up = up
        self._down = down

    async def send(self, message: DeviceMessage) -> None:
        # What is sent may be changed by the sender afterwards; what is held must not be.
        copy = DeviceMessage()
        copy.CopyFrom(message)
        for passed in self._up.pass_on(copy):
            await self._inner.send(passed)

    async def __aiter__(self) -> AsyncIterator[ControllerMessage]:
        async for message in self._inner:
            for passed in self._down.pass_on(message):
                yield passed


def _among(message: M, released: list[M]) -> bool:
    return any(message is one for one in released)
