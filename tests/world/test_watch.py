"""The watch notices what never may be: each planted breach is seen."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from simulators.world.draws import Ints
from simulators.world.watch import Bounds, BreachError, Watch

LINE = "python -m simulators.world --seed 7"


def these(*devices: int) -> Ints:
    return np.array(devices, dtype=np.int64)


def a_watch(**limits: int) -> Watch:
    bounds = Bounds(execution_ms=60_000, late_ms=5_000, **limits)
    return Watch(10, these(0, 0, 0, 0, 0, 1, 1, 1, 1, 1), bounds, LINE)


def twice(watch: Watch) -> None:
    watch.started(these(1, 2), 0)
    watch.started(these(2, 3), 10)


def twice_at_once(watch: Watch) -> None:
    watch.started(these(4, 4), 0)


def ended_twice(watch: Watch) -> None:
    watch.started(these(1), 0)
    watch.ended(these(1), 10)
    watch.ended(these(1), 20)


def after_abort(watch: Watch) -> None:
    watch.aborted(0)
    watch.started(these(1), 1)


def while_paused(watch: Watch) -> None:
    watch.paused()
    watch.started(these(1), 1)


def too_long(watch: Watch) -> None:
    watch.started(these(1), 0)
    watch.ended(these(1), 65_001)


def for_ever(watch: Watch) -> None:
    watch.started(these(3), 0)
    watch.at_rest(100, {})


def never_ended(watch: Watch) -> None:
    watch.at_rest(100, {"QUEUED": 1})


@pytest.mark.parametrize(
    ("breach", "sentence"),
    [
        (twice, "device 2 was given work while it has some"),
        (twice_at_once, "device 4 was given work while it has some"),
        (ended_twice, "work of device 1 ended twice"),
        (after_abort, r"1 devices started 0\.0 s after the abort"),
        (while_paused, "1 devices started while the rollout is paused"),
        (too_long, r"device 1 was at work for 65\.0 s of 60 s"),
        (for_ever, "1 devices are at work for ever, as 3"),
        (never_ended, "executions never end"),
    ],
)
def test_a_breach_is_said_with_the_line_that_replays_it(
    breach: Callable[[Watch], None], sentence: str
) -> None:
    with pytest.raises(BreachError, match=f"{sentence}.*; again with: {LINE}"):
        breach(a_watch())


def test_limits_are_held() -> None:
    with pytest.raises(BreachError, match="3 devices are at work, 2 may be"):
        a_watch(max_in_progress=2).started(these(1, 2, 5), 0)
    with pytest.raises(BreachError, match="2 devices of site 1 are down, 1 may be"):
        a_watch(max_down_per_site=1).started(these(1, 5, 6), 0)


def test_what_may_be_is_not_remarked_upon() -> None:
    watch = a_watch(max_in_progress=2, max_down_per_site=1)
    watch.started(these(1, 5), 0)
    watch.ended(these(1, 5), 65_000)
    watch.paused()
    watch.resumed()
    watch.started(these(1), 65_000)
    watch.ended(these(1), 70_000)
    watch.aborted(70_000)
    watch.started(these(1, 2, 3), 70_001, is_way_back=True)
    watch.ended(these(1, 2, 3), 70_002)
    watch.at_rest(80_000, {"SUCCEEDED": 10})
    assert (watch.starts, watch.most_active) == (6, 3)
