"""How long and how much the supervisor of the engine workers allows; and its back-off. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Times in seconds. The defaults suit devices; tests use shorter ones."""

    load_timeout_s: float = 600.0  # a big model from a slow card
    ping_interval_s: float = 5.0
    ping_timeout_s: float = 15.0
    look_interval_s: float = 0.5  # at the processors' other work, while a worker answers
    # Busy without a token or a chunk of prompt for so long is a hang. The slowest processors take
    # half a minute for a chunk.
    stall_timeout_s: float = 180.0
    max_queued: int = 32  # requests waiting per alias
    max_wait_s: float = 600.0  # how long a request may have to wait, by prediction
    hold_s: float = 30.0  # how long a request waits for a model that is not in memory
    drain_timeout_s: float = 300.0  # how long a replaced worker may go on with its requests
    restart_first_s: float = 0.1
    restart_longest_s: float = 30.0
    healthy_after_s: float = 60.0  # a worker that lived so long is restarted at once again
    prefix_bytes: int = 256 << 20  # of prompts' prefixes on the disk, per model; 0: none


def restart_delay(previous_s: float, lived_s: float, limits: Limits) -> float:
    """Return how long to wait before a worker is started again.

    Args:
        previous_s: The wait before the last start; 0 if that was the first.
        lived_s: How long the worker was ready.
        limits: The bounds.
    """
    if previous_s <= 0 or lived_s >= limits.healthy_after_s:
        return limits.restart_first_s
    return min(previous_s * 2, limits.restart_longest_s)


def takes_share(count: int, percent: int) -> bool:
    """Tell whether the request numbered `count` (0, 1, ...) goes to the candidate.

    Of any 100 requests in a row exactly `percent` do, evenly spread.
    """
    return (count + 1) * percent // 100 > count * percent // 100
