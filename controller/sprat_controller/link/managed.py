"""A broker of the controller's own, with all that must be looked after while it runs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from sprat_controller.clock import Clock
from sprat_controller.fleet.ca import KeyPair
from sprat_controller.link import revocations
from sprat_controller.link.broker import REVOKED_FILE, ManagedBroker
from sprat_controller.link.hub import Hub
from sprat_controller.link.revocations import RevocationJob
from sprat_controller.signer.port import Signer
from sprat_controller.store.session import Database


@asynccontextmanager
async def managed_broker(
    folder: Path,
    *,
    ca_pem: bytes,
    server: KeyPair,
    signer: Signer,
    hub: Hub,
    clock: Clock,
    database: Database,
    host: str,
    port: int,
) -> AsyncGenerator[int]:
    """Have a broker with a list of revoked certificates that is kept new; yields its port.

    Devices that are removed (`Hub.end`) are cut off at it, too.

    Args:
        folder: Its own.
        ca_pem: Root and issuers.
        server: Its certificate.
        signer: Signs the list.
        hub: Tells who was removed.
        clock: When the list is due.
        database: For the alarm.
        host: Address to listen on.
        port: Port to listen on; 0 is any free one.

    Raises:
        StartupError: It does not start, or there is no list.
    """
    issue = signer.revocation_list
    held = await asyncio.to_thread(revocations.first, issue, folder / REVOKED_FILE)
    broker = ManagedBroker(
        folder, ca_pem=ca_pem, revocations=held, server=server, host=host, port=port
    )
    job = RevocationJob(broker, issue, held, clock=clock, database=database)
    listening_on = await broker.start()
    hub.when_ended(job.revoked)
    looking = asyncio.create_task(job.run(), name="revocations")
    try:
        yield listening_on
    finally:
        looking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await looking
        await broker.stop()
