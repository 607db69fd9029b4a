"""A picture of variants: size against lost quality, as SVG."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from sprat_controller import svg
from sprat_controller.publisher.evaluate.evaluate import Scores
from sprat_controller.publisher.evaluate.labels import GAP, RING, Box, Point, place
from sprat_controller.publisher.evaluate.table import percent, size

WIDTH: Final = 760
HEIGHT: Final = 480
PLOT: Final = Box(84, 52, WIDTH - 24, HEIGHT - 84)
NONE_ROW: Final = 36  # pixels at the foot of the plot for what loses nothing: no logarithm has it
SPACE: Final = 12  # pixels above it
RADIUS: Final = 5
TITLE_SIZE: Final = 16
_GRID: Final = "#cccccc"
_LEAST_TICKS: Final = 4
_FEW_DECADES: Final = 4  # that have ticks in between too
_LEAST: Final = 1e-6  # a lost share below is drawn as that: it is next to nothing


@dataclass(frozen=True)
class Axes:
    """From figures to pixels."""

    most_mib: float
    lowest: int  # decades of the lost share
    highest: int

    def x(self, mib: float) -> float:
        """Return where a size is."""
        return PLOT.left + (PLOT.right - PLOT.left) * mib / self.most_mib

    def y(self, loss: float) -> float:
        """Return where a lost share is; nothing lost has a row of its own."""
        if loss <= 0:
            return PLOT.bottom - NONE_ROW / 2
        height = PLOT.bottom - NONE_ROW - SPACE - PLOT.top
        share = (_decade(loss) - self.lowest) / (self.highest - self.lowest)
        return PLOT.top + height * (1 - share)


def draw(model: str, scores: Sequence[Scores]) -> str:
    """Return the picture of a model's variants; at least one."""
    axes = axes_of(scores)
    points = [(axes.x(one.bytes / 2**20), axes.y(one.loss)) for one in scores]
    texts = [_text(one) for one in scores]
    boxes = place(
        points,
        [(svg.text_width(text), svg.line_height()) for text in texts],
        Box(PLOT.left, PLOT.top, WIDTH, PLOT.bottom),
        RADIUS,
    )
    title = f"{model}: size and quality of its variants"
    parts = [
        svg.text(PLOT.left, 26, title, size=_title_size(title), bold=True),
        *_across(axes),
        *_up(axes),
        svg.rect(PLOT.left, PLOT.top, PLOT.right - PLOT.left, PLOT.bottom - PLOT.top),
        *_labels(texts, points, boxes),
        *_points(scores, points),
        _foot(scores),
    ]
    return svg.document(WIDTH, HEIGHT, title, parts)


def _title_size(title: str) -> int:
    """Return the size of letters at which a title of any length fits."""
    room = WIDTH - PLOT.left
    return max(1, min(TITLE_SIZE, int(TITLE_SIZE * room / svg.text_width(title, TITLE_SIZE))))


def _text(scores: Scores) -> str:
    lost = percent(scores.loss) if scores.loss > 0 else "0"
    return f"{scores.variant}: {size(scores.bytes)}, {lost}"


def axes_of(scores: Sequence[Scores]) -> Axes:
    """Return axes from nothing to beyond the largest, and around all decades of loss."""
    decades = [_decade(one.loss) for one in scores if one.loss > 0] or [-3.0]
    lowest = math.floor(min(decades))
    highest = max(lowest + 1, math.ceil(max(decades) + 0.05))
    largest = max(one.bytes for one in scores) / 2**20
    step = _step(largest)
    return Axes(step * math.ceil(largest * 1.02 / step), lowest, highest)


def _decade(loss: float) -> float:
    return math.log10(max(loss, _LEAST))


def _step(largest: float) -> float:
    """Return 1, 2 or 5 times a power of ten that gives the axis a few ticks."""
    power = 10.0 ** math.floor(math.log10(largest / _LEAST_TICKS))
    return max(step * power for step in (1, 2, 5) if step * power <= largest / _LEAST_TICKS)


def _across(axes: Axes) -> Iterator[str]:
    step = _step(axes.most_mib)
    for number in range(math.floor(axes.most_mib / step + 1e-9) + 1):
        x = axes.x(number * step)
        yield svg.line(x, PLOT.top, x, PLOT.bottom, stroke=_GRID)
        yield svg.text(x, PLOT.bottom + 18, f"{number * step:g}", anchor="middle")
    middle = (PLOT.left + PLOT.right) / 2
    yield svg.text(middle, PLOT.bottom + 38, "size of the file (MiB)", anchor="middle")


def _up(axes: Axes) -> Iterator[str]:
    for decade in range(axes.lowest, axes.highest + 1):
        for factor in (1, 2, 5) if axes.highest - axes.lowest <= _FEW_DECADES else (1,):
            share = factor * 10.0**decade
            if share > 10.0**axes.highest * 1.001:
                break
            y = axes.y(share)
            yield svg.line(PLOT.left, y, PLOT.right, y, stroke=_GRID)
            yield svg.text(PLOT.left - 8, y + 4, f"{share * 100:.4g}", anchor="end")
    foot = PLOT.bottom - NONE_ROW
    yield svg.line(PLOT.left, foot, PLOT.right, foot, dashes="4 3")
    yield svg.text(PLOT.left - 8, axes.y(0) + 4, "0", anchor="end")
    middle = (PLOT.top + PLOT.bottom) / 2
    what = "quality lost: e^KL - 1 (%), lower is better"
    yield svg.text(24, middle, what, anchor="middle", turned=-90)


def _points(scores: Sequence[Scores], points: Sequence[Point]) -> Iterator[str]:
    for one, (x, y) in zip(scores, points, strict=True):
        tip = f"{one.variant}: {one.bytes} bytes, perplexity {one.perplexity:.3f}"
        yield svg.circle(x, y, RADIUS, fill="black" if one.loss > 0 else "white", tip=tip)


def _labels(texts: Sequence[str], points: Sequence[Point], boxes: Sequence[Box]) -> Iterator[str]:
    for box in boxes:  # so that no line runs through letters
        width, height = box.right - box.left, box.bottom - box.top
        yield svg.rect(box.left, box.top, width, height, fill="white", stroke="none")
    for text, point, box in zip(texts, points, boxes, strict=True):
        yield from _leader(point, box)
        base = box.bottom - 4
        if box.left > point[0]:
            yield svg.text(box.left, base, text)
        elif box.right < point[0]:
            yield svg.text(box.right, base, text, anchor="end")
        else:
            yield svg.text((box.left + box.right) / 2, base, text, anchor="middle")


def _leader(point: Point, box: Box) -> Iterator[str]:
    """Yield a line from a point to the nearest place of its label, if that is not beside it."""
    x = min(max(point[0], box.left), box.right)
    y = min(max(point[1], box.top), box.bottom)
    if math.dist(point, (x, y)) > GAP + RING / 2:
        yield svg.line(*point, x, y, stroke="#666666")


def _foot(scores: Sequence[Scores]) -> str:
    tokens = max(one.tokens for one in scores)
    said = f"{tokens:,} tokens scored; a hollow point loses nothing"
    return svg.text(PLOT.left, HEIGHT - 14, said, size=11)
