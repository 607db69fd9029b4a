"""What to load and what to evict so that models never take more than the memory budget. Pure.

Rules: pinned models are never evicted. Idle ones are evicted least recently used first, and busy
ones only once their requests are over, when idle ones do not suffice. Nothing is evicted that
would not help: either because it is not needed, or because even all of it together is too little.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True)
class Held:
    """A model in memory."""

    name: str
    size_bytes: int
    is_pinned: bool = False
    is_busy: bool = False
    last_used: float = 0.0  # when a request last used it; any clock, the same for all


@dataclass(frozen=True)
class Load:
    """There is room: load it now."""


@dataclass(frozen=True)
class Evict:
    """Evict these, in this order; then there is room."""

    names: tuple[str, ...]


@dataclass(frozen=True)
class Drain:
    """Let these finish their requests; once they are idle, evicting them with `idle` makes room."""

    busy: tuple[str, ...]
    idle: tuple[str, ...]


@dataclass(frozen=True)
class Refuse:
    """It does not fit, even when all that may be evicted is; `held_by` are the pinned ones."""

    need_bytes: int
    budget_bytes: int
    held_by: tuple[Held, ...]


Decision: TypeAlias = Load | Evict | Drain | Refuse


def decide(held: Sequence[Held], need_bytes: int, budget_bytes: int) -> Decision:
    """Return how a model that takes `need_bytes` gets into memory beside what is held.

    Args:
        held: All models in memory, each name once, without the one to load.
        need_bytes: What the model takes.
        budget_bytes: What all may take together.
    """
    missing = _total(held) + need_bytes - budget_bytes
    if missing <= 0:
        return Load()
    evictable = [one for one in held if not one.is_pinned]
    if _total(evictable) < missing:
        pinned = tuple(one for one in held if one.is_pinned)
        return Refuse(need_bytes, budget_bytes, pinned)
    chosen = _least_recent(evictable, missing)
    busy = tuple(one.name for one in chosen if one.is_busy)
    idle = tuple(one.name for one in chosen if not one.is_busy)
    return Drain(busy, idle) if busy else Evict(idle)


def _least_recent(evictable: Iterable[Held], missing: int) -> list[Held]:
    """Return what suffices: idle before busy, least recently used first, and none in vain."""
    chosen: list[Held] = []
    for one in sorted(evictable, key=lambda one: (one.is_busy, one.last_used, one.name)):
        if _total(chosen) >= missing:
            break
        chosen.append(one)
    # The last one may have made small ones before it needless; spare the most recent of them.
    for one in reversed(chosen[:-1]):
        if _total(chosen) - one.size_bytes >= missing:
            chosen.remove(one)
    return chosen


def _total(models: Iterable[Held]) -> int:
    return sum(one.size_bytes for one in models)
