"""GET /metrics: what Prometheus scrapes. Looking never loads a model and never keeps one awake."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeAlias

from starlette.requests import Request
from starlette.responses import Response

from sprat_agent.api.device import DeviceFigures, ReadDevice
from sprat_agent.api.models import Models
from sprat_agent.api.recorder import Recorder
from sprat_agent.runtime.served import Status

_Render: TypeAlias = Callable[[Sequence[Status], Recorder, DeviceFigures | None], bytes]


class Metrics:
    """The endpoint."""

    def __init__(self, models: Models, recorder: Recorder, read_device: ReadDevice | None) -> None:
        self._models = models
        self._recorder = recorder
        self._read_device = read_device

    async def scrape(self, _request: Request) -> Response:
        """Answer one scrape; only the first imports Prometheus's library, in a thread."""
        render, content_type = await asyncio.to_thread(_import_exposition)
        read = self._read_device
        device = await asyncio.to_thread(read) if read else None
        text = render(self._models.statuses(), self._recorder, device)
        return Response(text, headers={"content-type": content_type})


def _import_exposition() -> tuple[_Render, str]:
    from sprat_agent.api.exposition import (  # noqa: PLC0415 - devices nobody scrapes save it
        CONTENT_TYPE,
        render,
    )

    return render, CONTENT_TYPE
