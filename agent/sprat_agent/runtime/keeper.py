"""Keeps a committed model in memory: its worker is started again whenever it dies."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from sprat_proto.states import ReasonCode

from sprat_agent.runtime.hosted import HostedModel
from sprat_agent.runtime.limits import Limits, restart_delay
from sprat_agent.sync.ports import ExecutionError

_LOG = logging.getLogger(__name__)

# Files that are not what was signed do not become so by waiting: no further attempt.
REFUSALS: Final = frozenset(
    {ReasonCode.DIGEST_MISMATCH, ReasonCode.SIZE_MISMATCH, ReasonCode.MODEL_FILE_INVALID}
)


async def keep(
    hosted: HostedModel,
    limits: Limits,
    on_crash: Callable[[str], bool],
    on_start: Callable[[ExecutionError | None], bool],
    *,
    at_once: bool = False,
) -> None:
    """Restart the worker whenever it dies, with a growing delay; return when it is refused.

    Args:
        hosted: A committed model, ready or not.
        limits: The delays.
        on_crash: Told why, each time a loaded worker dies; False: do not start it again.
        on_start: Told of each attempt to start: None, or why it failed; False: make no other.
        at_once: Make the first attempt without a delay.
    """
    delay_s = 0.0
    while True:
        if at_once:
            at_once = False
        elif hosted.worker:
            reason = await hosted.died()
            delay_s = restart_delay(delay_s, hosted.last_lived_s, limits)
            if not on_crash(reason):
                return
        else:
            delay_s = restart_delay(delay_s, 0.0, limits)
        await asyncio.sleep(delay_s)
        try:
            await hosted.start()
        except ExecutionError as error:
            _LOG.warning("%s", error.message)
            if not on_start(error) or error.code in REFUSALS:
                hosted.is_given_up = True
                return
        else:
            on_start(None)
