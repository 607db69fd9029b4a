"""When each device of a plan is expected to be done, if all goes well. Pure.

Groups go in order, each after the one before ended and was watched; within a group the pace holds.
Windows, disruption budgets, gates and people cost time that nobody knows before: what waits for a
person has no time, and neither has what comes after a device whose own time is not known.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence

from sprat_controller.rollout.budget import PACE_WINDOW
from sprat_controller.rollout.grouping import Placed
from sprat_controller.rollout.strategy import Pace, Strategy

_MINUTE: int = int(PACE_WINDOW.total_seconds())


def ends(
    placed: Sequence[Placed], took: Mapping[str, int | None], strategy: Strategy
) -> dict[str, int | None]:
    """Return seconds from the start of the rollout to the end of each device's run.

    Args:
        placed: All devices, in order of position.
        took: Seconds that each device takes by itself; None: not known. Those that are left out
            have nothing to do.
        strategy: Its groups and pace count.
    """
    found: dict[str, int | None] = {}
    begin: int | None = 0
    starts: list[int] = []
    pace = Pace() if strategy.override else strategy.pace
    for number, group in enumerate(strategy.groups):
        mine = [one.device_id for one in placed if one.group == number and one.device_id in took]
        times = [took[device_id] for device_id in mine]
        known = [one for one in times if one is not None]
        if begin is None or len(known) < len(times):
            found.update(dict.fromkeys(mine))
            begin = None
            continue
        done = _paced(begin, known, pace, starts)
        found.update(zip(mine, done, strict=True))
        begin = max(done, default=begin) + (group.soak_s if mine else 0)
        if group.waits_for_promotion and mine:
            begin = None
    return found


def _paced(begin: int, times: Sequence[int], pace: Pace, starts: list[int]) -> list[int]:
    """Return when each is done; what starts is added to `starts`."""
    busy: list[int] = []
    done: list[int] = []
    for took in times:
        start = begin
        if pace.max_in_progress and len(busy) == pace.max_in_progress:
            start = max(start, heapq.heappop(busy))
        if pace.starts_per_minute and len(starts) >= pace.starts_per_minute:
            start = max(start, starts[-pace.starts_per_minute] + _MINUTE)
        starts.append(start)
        done.append(start + took)
        heapq.heappush(busy, start + took)
    return done
