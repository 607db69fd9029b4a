"""GET /agent/v1/events: how the models of this device change, as server-sent events.

First one event for each alias as it is, then one for each change; `event: gone` for an alias that
is no more. A comment now and then keeps the connection alive and finds out when it is not. Statuses
are looked at only while somebody listens; looking wakes no model.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Final

from starlette.types import Receive, Scope, Send

from sprat_agent.api import sse
from sprat_agent.api.answering import unless_gone
from sprat_agent.api.dialect import Json
from sprat_agent.api.models import Models
from sprat_agent.runtime.served import Status

_LOOK_S: Final = 0.5
_HEARTBEAT_S: Final = 15.0
_HEARTBEAT: Final = b": the agent lives\n\n"


class ModelEvents:
    """The endpoint, an ASGI application."""

    def __init__(
        self,
        models: Models,
        entry: Callable[[Status], Json],
        *,
        look_s: float = _LOOK_S,
        heartbeat_s: float = _HEARTBEAT_S,
    ) -> None:
        """Wait for listeners.

        Args:
            models: Whose statuses are told.
            entry: How one status is written.
            look_s: How often they are looked at.
            heartbeat_s: How long nothing may be sent.
        """
        self._models = models
        self._entry = entry
        self._look_s = look_s
        self._heartbeat_s = heartbeat_s

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Tell one listener until it goes away."""
        await unless_gone(receive, self._tell(send))

    async def _tell(self, send: Send) -> None:
        headers = [
            (b"content-type", sse.MEDIA_TYPE.encode()),
            (b"cache-control", b"no-cache"),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        known: Mapping[str, Json] = {}
        sent = monotonic()
        while True:
            now = {one.alias: self._entry(one) for one in self._models.statuses()}
            data = changes(known, now)
            if not data and monotonic() - sent >= self._heartbeat_s:
                data = _HEARTBEAT
            if data:
                await send({"type": "http.response.body", "body": data, "more_body": True})
                sent = monotonic()
            known = now
            await asyncio.sleep(self._look_s)


def changes(before: Mapping[str, Json], now: Mapping[str, Json]) -> bytes:
    """Return the events that tell how aliases have changed."""
    changed = [sse.event(now[alias], "model") for alias in now if before.get(alias) != now[alias]]
    gone = [sse.event({"alias": alias}, "gone") for alias in before if alias not in now]
    return b"".join(changed + gone)
