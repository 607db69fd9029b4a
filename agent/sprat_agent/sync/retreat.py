"""Going back by itself: a committed release that is in quarantine gives way to the one before.

Without the controller, and without an execution: the assignment still names what crashed, and the
heartbeat says that something else answers. A crash was counted before this is called, so an agent
that is killed in between does the same at its next start.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from sprat_agent.audit.intents import Effect
from sprat_agent.runtime.quarantine import Crashes, is_quarantined
from sprat_agent.sync import plan
from sprat_agent.sync.ledger import Ledger
from sprat_agent.sync.ports import ExecutionError, Registry, Workers

_LOG = logging.getLogger(__name__)


class Retreat:
    """Looks at what is committed whenever something was put into quarantine."""

    def __init__(
        self, ledger: Ledger, registry: Registry, workers: Workers, crashes: Crashes
    ) -> None:
        self._ledger = ledger
        self._registry = registry
        self._workers = workers
        self._crashes = crashes
        self._woken = asyncio.Event()
        self.on_return: Callable[[], None] = _nothing  # something else answers

    def wake(self, _alias: str = "") -> None:
        """Look soon; call it in the event loop."""
        self._woken.set()

    async def run(self) -> None:
        """Look at the start and whenever woken, until cancelled."""
        while True:
            self._woken.clear()
            await self.look()
            await self._woken.wait()

    async def look(self) -> None:
        """Let every alias whose committed release is in quarantine stand for the one before."""
        for alias, committed in self._ledger.committed().items():
            if not self._is_quarantined(committed.wanted.digest):
                continue
            former = plan.former(committed, self._is_quarantined)
            if former is None:
                _LOG.error("%s does not answer, and there is nothing to go back to", alias)
                continue
            digest = former.wanted.digest
            try:
                with self._ledger.intents.around(
                    Effect.ROLLBACK, f"alias/{alias}", committed.wanted.digest, digest
                ):
                    self._ledger.go_back(alias, committed, former)
                    _LOG.warning("%s goes back to %s", alias, former.wanted.name)
                    installed = await self._registry.open_installed(former.wanted, former.context)
                    await self._workers.load_committed(installed.loadable)
            except ExecutionError as error:
                # Committed all the same; the supervisor tries again where that makes sense.
                _LOG.error("%s does not answer: %s", alias, error.message)
            self.on_return()

    def _is_quarantined(self, digest: str) -> bool:
        return is_quarantined(self._crashes.count(digest))


def _nothing() -> None:
    """Nobody listens yet."""
