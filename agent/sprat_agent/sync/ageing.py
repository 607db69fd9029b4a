"""Noticing that time has passed: a plan that expired, a model whose time is over.

The device goes on serving all the same; only what said so itself (`run_until`) stops.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime
from typing import Final

from sprat_proto.assignment import AssignedModel
from sprat_proto.audit_events import Tag

from sprat_agent.audit.journal import Journal
from sprat_agent.errors import StateError
from sprat_agent.sync import freshness
from sprat_agent.sync.ledger import Ledger
from sprat_agent.sync.ports import Workers

_LOG = logging.getLogger(__name__)

_LOOK_S: Final = 30.0


class Ageing:
    """Looks now and then; what it finds is audited once per start of the agent."""

    def __init__(
        self,
        ledger: Ledger,
        workers: Workers,
        journal: Journal,
        now: Callable[[], datetime],
    ) -> None:
        """Look after what is committed; `now` is the time by which expiry is judged."""
        self._ledger = ledger
        self._workers = workers
        self._journal = journal
        self._now = now
        self._stale_since: datetime | None = None
        self._ended: set[AssignedModel] = set()

    def is_stale(self) -> bool:
        """Tell whether the accepted plan has expired."""
        return freshness.is_stale(self._ledger.expires(), self._now())

    def has_ended(self, wanted: AssignedModel) -> bool:
        """Tell whether a model is to run no longer; the first time it is audited."""
        if not freshness.has_ended(wanted.run_until, self._now()):
            return False
        if wanted not in self._ended:
            self._journal.append(
                Tag.MODEL_ENDED,
                wanted.name,
                {"alias": wanted.alias, "digest": wanted.digest, "run_until": wanted.run_until},
            )
            self._ended.add(wanted)
        return True

    async def run(self) -> None:
        """Look, for ever."""
        while True:
            try:
                await self.look()
            except StateError as error:
                _LOG.warning("what has expired is looked at again later: %s", error)
            await asyncio.sleep(_LOOK_S)

    async def look(self) -> None:
        """Audit an expired plan, and end what ran long enough."""
        expires = self._ledger.expires()
        if self.is_stale() and expires != self._stale_since:
            version = self._ledger.assignment_version()
            self._journal.append(
                Tag.ASSIGNMENT_STALE, f"assignment/{version}", {"expired": str(expires)}
            )
            self._stale_since = expires
        for committed in self._ledger.committed().values():
            if committed.wanted not in self._ended and self.has_ended(committed.wanted):
                await self._workers.unload(committed.wanted.alias)
