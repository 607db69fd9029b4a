"""One background task for each model, cancelled and awaited when the model goes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from functools import partial

from sprat_agent.runtime.hosted import HostedModel

_LOG = logging.getLogger(__name__)


class Background:
    """Tasks by model; a new one takes the place of the old."""

    def __init__(self) -> None:
        self._tasks: dict[HostedModel, asyncio.Task[None]] = {}

    def run(self, hosted: HostedModel, work: Coroutine[None, None, None]) -> None:
        """Begin the work; what ran for this model before is cancelled."""
        previous = self._tasks.pop(hosted, None)
        if previous:
            previous.cancel()
        task = asyncio.create_task(work, name=f"{work.__name__} {hosted.loadable.name}")
        task.add_done_callback(partial(self._finished, hosted))
        self._tasks[hosted] = task

    async def stop(self, hosted: HostedModel) -> None:
        """Cancel the model's task, if any, and wait until it is gone."""
        task = self._tasks.pop(hosted, None)
        if task:
            task.cancel()
            await asyncio.wait([task])

    async def wait(self, models: list[HostedModel]) -> None:
        """Wait until the tasks of these models are over."""
        tasks = [self._tasks[one] for one in models if one in self._tasks]
        if tasks:
            await asyncio.wait(tasks)

    def _finished(self, hosted: HostedModel, task: asyncio.Task[None]) -> None:
        """Forget the task; put a bug of ours on record, as nobody may await it."""
        if self._tasks.get(hosted) is task:
            del self._tasks[hosted]
        if not task.cancelled() and (error := task.exception()):
            _LOG.error("%s failed", task.get_name(), exc_info=error)
