"""Where labels go beside points, so that none lies over another or over a point."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

Point: TypeAlias = tuple[float, float]

GAP: Final = 10  # pixels between a point and its label
RING: Final = 10  # pixels that each further try is away
MARGIN: Final = 2  # pixels kept free around each label
_DIRECTIONS: Final = 16
_FURTHEST: Final = 80  # rings


@dataclass(frozen=True)
class Box:
    """A rectangle by its sides, in pixels from the upper left corner."""

    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: Box) -> bool:
        """Tell whether they have a point in common."""
        return (
            self.left <= other.right
            and other.left <= self.right
            and self.top <= other.bottom
            and other.top <= self.bottom
        )

    def holds(self, other: Box) -> bool:
        """Tell whether the other lies inside."""
        return (
            self.left <= other.left
            and other.right <= self.right
            and self.top <= other.top
            and other.bottom <= self.bottom
        )

    def wider(self, margin: float) -> Box:
        """Return it with a margin around."""
        return Box(self.left - margin, self.top - margin, self.right + margin, self.bottom + margin)


def place(
    points: Sequence[Point], sizes: Sequence[tuple[float, float]], frame: Box, radius: float
) -> list[Box]:
    """Return a place for the label of each point, near it and inside the frame.

    Where nothing is free in reach (some dozens of labels on a page), the last try is taken.

    Args:
        points: Where they are.
        sizes: Width and height of their labels.
        frame: Where labels may be.
        radius: Of the points.
    """
    taken = [Box(x, y, x, y).wider(radius) for x, y in points]
    placed: list[Box] = []
    for point, size in zip(points, sizes, strict=True):
        box = _first_free(point, size, frame, taken)
        taken.append(box)
        placed.append(box)
    return placed


def _first_free(point: Point, size: tuple[float, float], frame: Box, taken: Sequence[Box]) -> Box:
    box = Box(0, 0, *size)
    for box in _places(point, size):
        wide = box.wider(MARGIN)
        if frame.holds(wide) and not any(wide.meets(other) for other in taken):
            return box
    return box


def _places(point: Point, size: tuple[float, float]) -> Iterator[Box]:
    """Yield boxes around a point, from the nearest to the furthest, first to its right."""
    for ring in range(_FURTHEST):
        for number in range(_DIRECTIONS):
            # Right, left, above, below; then what lies between.
            turn = (number % 4) * 2 * _DIRECTIONS // 4 // 2 + number // 4
            yield _beside(point, size, GAP + ring * RING, turn / _DIRECTIONS * math.tau)


def _beside(point: Point, size: tuple[float, float], away: float, angle: float) -> Box:
    """Return the box whose nearest edge or corner is so far away in that direction."""
    across, down = math.cos(angle), math.sin(angle)
    x = point[0] + across * away + (across - 1) * size[0] / 2
    y = point[1] + down * away + (down - 1) * size[1] / 2
    return Box(x, y, x + size[0], y + size[1])
