"""How long to wait before the next attempt to connect. Pure.

Full jitter (M. Brooker, "Exponential Backoff And Jitter", 2015): any other form, and a fixed
interval most of all, lets a large fleet come back in waves that overrun the controller.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

BASE_S: Final = 1.0
CEILING_S: Final = 300.0


def delay_s(attempt: int, uniform: Callable[[float, float], float]) -> float:
    """Return the seconds to wait after `attempt` failures in a row (1 is the first).

    Args:
        attempt: How many attempts failed since the last success.
        uniform: As `random.uniform`.
    """
    # 2 ** 9 is beyond the ceiling already; a larger power would overflow after long nights.
    ceiling = min(CEILING_S, BASE_S * 2 ** min(attempt, 9))
    return uniform(0.0, ceiling)


def first_delay_s(spread_s: int, uniform: Callable[[float, float], float]) -> float:
    """Return the seconds to wait when an established connection was lost.

    Args:
        spread_s: What the controller's last Welcome announced; 0 is at once.
        uniform: As `random.uniform`.
    """
    return uniform(0.0, float(spread_s))
