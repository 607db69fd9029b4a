"""The list of revoked certificates at the broker: renewed hourly, at once, or loudly not.

What is due is decided in `revocation_list`; here it is done.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Protocol

from sprat_proto.audit_events import Tag

from sprat_controller.audit import log
from sprat_controller.clock import Clock
from sprat_controller.errors import StartupError
from sprat_controller.link.revocation_list import (
    RETRY_AFTER,
    Health,
    Standing,
    health,
    is_alarm_due,
    is_due,
    read,
)
from sprat_controller.signer.port import SignerError
from sprat_controller.store.session import Database

_log = logging.getLogger(__name__)


class Broker(Protocol):
    """What the job needs of `ManagedBroker`."""

    async def revoke(self, revocations: bytes) -> None:
        """Let in whom this list does not name."""
        ...

    async def cut_off(self, device_id: str) -> None:
        """End the device's session for good."""
        ...


class RevocationJob:
    """Keeps the broker's list new, and cuts off who was revoked."""

    def __init__(
        self,
        broker: Broker,
        issue: Callable[[], bytes],
        held: bytes,
        *,
        clock: Clock,
        database: Database,
    ) -> None:
        """Prepare to run.

        Args:
            broker: Where the list is read.
            issue: Returns a new list, PEM, as `Signer.revocation_list`; blocks.
            held: What the broker was started with.
            clock: Read once a look.
            database: Where alarms are written down.
        """
        self._broker = broker
        self._issue = issue
        self._clock = clock
        self._database = database
        self.standing = Standing(read(held))
        # Revoked, and perhaps not in the broker's list yet.
        self._cut: set[str] = set()
        self._woken = asyncio.Event()

    def revoked(self, device_id: str) -> None:
        """Cut the device off now; call it in the event loop, after the signer knows."""
        self._cut.add(device_id)
        self._woken.set()

    async def run(self) -> None:
        """Look every minute, and whenever a device was revoked, until cancelled."""
        while True:
            self._woken.clear()
            try:
                await self.look()
            except Exception:  # noqa: BLE001 - the job must not end: devices would follow in a week
                _log.exception("the list of revoked certificates was not looked after")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RETRY_AFTER.total_seconds()):
                    await self._woken.wait()

    async def look(self) -> None:
        """Do what is due now."""
        now, cut = self._clock(), set(self._cut)
        is_renewed = False
        if cut or is_due(self.standing, now):
            is_renewed = await self._renew(now)
        for device_id in sorted(cut):
            await self._broker.cut_off(device_id)
        if is_renewed:
            self._cut -= cut
        if is_alarm_due(self.standing, now):
            await asyncio.to_thread(self._raise_alarm, now)
            self.standing = replace(self.standing, alarmed_at=now)

    async def _renew(self, now: datetime) -> bool:
        try:
            new = read(await asyncio.to_thread(self._issue))
        except (SignerError, ValueError) as error:
            _log.warning("no new list of revoked certificates: %s", error)
            self.standing = replace(self.standing, asked_at=now, was_given=False)
            return False
        await self._broker.revoke(new.pem)
        self.standing = Standing(new, now, was_given=True)
        return True

    def _raise_alarm(self, now: datetime) -> None:
        held = self.standing.held
        state = health(held, now)
        found = "none is let in" if state is Health.EXPIRED else "then none is let in any more"
        _log.error(
            "the broker's list of revoked certificates was not renewed since %s and ends at %s, %s:"
            " see that the signer runs (docs/security.md, MQTT)",
            *(held.issued_at.isoformat(), held.expires_at.isoformat(), found),
        )
        with self._database.transaction() as session:
            log.append(
                session,
                Tag.REVOCATIONS_LATE,
                at=now,
                actor="controller",
                subject="broker",
                outcome="failure",
                reason=state.value,
                detail={
                    "state": state.value,
                    "issued_at": held.issued_at.isoformat(),
                    "expires_at": held.expires_at.isoformat(),
                },
            )


def first(issue: Callable[[], bytes], kept: Path) -> bytes:
    """Return a new list for a broker that starts, or the one it had when there is no new one.

    Args:
        issue: As `Signer.revocation_list`.
        kept: The broker's file.

    Raises:
        StartupError: Neither can be had.
    """
    try:
        return read(issue()).pem
    except (SignerError, ValueError) as error:
        try:
            old = read(kept.read_bytes())
        except (OSError, ValueError):
            raise StartupError(
                "no_revocations",
                "a managed broker needs a list of revoked certificates, and the signer gives none:"
                f" {error}; start the signer first",
            ) from error
        _log.warning("the broker starts with its old list of revoked certificates: %s", error)
        return old.pem
