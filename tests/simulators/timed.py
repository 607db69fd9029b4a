"""A device in memory whose every act has a moment, in a time that only its sleeps and acts take."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from simulators.device import NOW, Device, Disk
from simulators.signed import Release


@dataclass
class Timed(Disk):
    """A disk that knows when what was done to it, and how long that took."""

    device: Device | None = None
    takes: dict[str, timedelta] = field(default_factory=dict[str, timedelta])
    done: list[tuple[str, datetime]] = field(default_factory=list[tuple[str, datetime]])

    async def meet(self, method: str, digest: str) -> None:
        assert self.device is not None
        self.done.append((method, self.device.now))
        self.device.now += self.takes.get(method, timedelta())
        try:
            await super().meet(method, digest)
        except asyncio.CancelledError:
            self.done.append((f"{method} stopped", self.device.now))
            raise

    def times(self, method: str) -> list[datetime]:
        return [at for name, at in self.done if name == method]


def disk_with(*releases: Release) -> Timed:
    return Timed({one.digest: one for one in releases})


def device_on(folder: Path, disk: Timed, now: datetime = NOW) -> Device:
    disk.device = Device(folder, disk, now=now)
    return disk.device
