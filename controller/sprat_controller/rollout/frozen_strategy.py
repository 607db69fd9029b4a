"""A strategy as it is kept with its rollout: whole, so that no later default changes it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import msgspec
from msgspec import Struct

from sprat_controller.rollout.strategy import ALL_AT_ONCE, Strategy


def to_json(strategy: Strategy) -> dict[str, Any]:
    """Return the strategy as it is stored, with what is as by default too."""
    return {name: _whole(value) for name, value in msgspec.structs.asdict(strategy).items()}


def from_json(stored: Mapping[str, Any]) -> Strategy:
    """Return a strategy that was stored by `to_json`."""
    return msgspec.convert(stored, Strategy)


def paced(
    strategy: Strategy, *, max_in_progress: int | None = None, execution_s: int | None = None
) -> Strategy:
    """Return the strategy with another pace or deadline, where one is given."""
    pace, deadlines = strategy.pace, strategy.deadlines
    if max_in_progress is not None:
        pace = msgspec.structs.replace(pace, max_in_progress=max_in_progress)
    if execution_s is not None:
        deadlines = msgspec.structs.replace(deadlines, execution_s=execution_s)
    return msgspec.structs.replace(strategy, pace=pace, deadlines=deadlines)


def of_old(max_in_progress: int, execution_s: int) -> Strategy:
    """Return what rollouts from before there were strategies do: all at once, at their pace."""
    return paced(ALL_AT_ONCE, max_in_progress=max_in_progress, execution_s=execution_s)


def _whole(value: object) -> object:
    if isinstance(value, Struct):
        return {name: _whole(one) for name, one in msgspec.structs.asdict(value).items()}
    if isinstance(value, tuple):
        return [_whole(one) for one in cast("tuple[object, ...]", value)]
    return str(value) if isinstance(value, str) else value
