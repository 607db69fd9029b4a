"""Pictures of a run: burn-up by group over time, and failures by reason. Pure.

Both read in black and white. Time is drawn by its logarithm: a ladder's first groups take minutes,
and the last devices return after weeks.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Sequence
from typing import Final

from sprat_controller import svg

from simulators.world.report import GroupReport, Point, Report, duration

WIDTH: Final = 760
_LEFT: Final = 150
_RIGHT: Final = WIDTH - 140
_TOP: Final = 64
_ROW: Final = 64
_GAP: Final = 18
_TITLE_SIZE: Final = 16
_SMALL: Final = 11
_LINE: Final = 100  # letters of the small size that fit into the width
_GRID: Final = "#cccccc"
_DONE: Final = "#bbbbbb"
_FAILED: Final = "black"
_FIRST_S: Final = 30.0  # what happens earlier is drawn here
_TICKS: Final = (
    (60, "1 min"),
    (600, "10 min"),
    (3_600, "1 h"),
    (6 * 3_600, "6 h"),
    (86_400, "1 d"),
    (7 * 86_400, "1 w"),
    (28 * 86_400, "4 w"),
    (182 * 86_400, "6 months"),
)
_BAR: Final = 18
_BAR_ROW: Final = 34


def burn_up(report: Report) -> str:
    """Return a strip for each group: the share of its devices that ended, over time."""
    until_s = max([2 * _FIRST_S, *(one.last.at_s for one in report.groups)]) * 1.05
    bottom = _TOP + len(report.groups) * (_ROW + _GAP)
    title = f"Burn-up of {report.devices:,} devices by group"
    parts = [
        svg.text(16, 26, title, size=_TITLE_SIZE, bold=True),
        *_legend(),
        *_time_axis(until_s, bottom),
    ]
    verdicts = {one.group: one.verdict for one in report.gates}
    for number, group in enumerate(report.groups):
        top = _TOP + number * (_ROW + _GAP)
        parts += _openings(report.windows, top, until_s)
        parts += _strip(group, top, until_s)
        if group.name in verdicts:
            said = f"gate: {verdicts[group.name]}"
            parts.append(svg.text(_LEFT - 8, top + 52, said, anchor="end", bold=True))
    top = bottom + 52
    for said in _what_is_special(report):
        for line in textwrap.wrap(said, _LINE):
            parts.append(svg.text(16, top, line, size=_SMALL))
            top += _SMALL + 4
    return _finished(title, parts, top + 8, report)


def _what_is_special(report: Report) -> Iterator[str]:
    fell = report.fallbacks
    if fell.injected or fell.false:
        yield (
            f"silent fallbacks: {fell.injected:,} happened, {fell.noticed:,} noticed,"
            f" {fell.missed:,} missed, {fell.false:,} that never happened"
        )
    if report.joined:
        yield f"{report.joined:,} devices joined later"
    if report.penalised:
        yield f"{report.penalised:,} devices were left alone for a while after their last try"
    for gate in report.gates:
        classes = ", ".join(f"{name} {health}" for name, health in gate.classes.items())
        yield f"gate of {gate.group}: {gate.verdict} ({classes})"
    if report.windows:
        yield "dotted: the window in which devices may activate"


def _openings(openings: Sequence[tuple[float, float]], top: float, until_s: float) -> Iterator[str]:
    """Yield the edges of the stretches in which devices may activate."""
    for opens_s, closes_s in openings:
        left, right = _x(opens_s, until_s), _x(closes_s, until_s)
        for x in (left, right):
            yield svg.line(x, top - 6, x, top + _ROW + 6, dashes="2 2")
        yield svg.line(left, top - 6, right, top - 6, width=3)


def failures(report: Report) -> str:
    """Return a bar for each reason for which executions did not succeed, the longest first."""
    ranked = sorted(report.reasons.items(), key=lambda one: (-one[1], one[0]))
    failed = sum(report.reasons.values())
    title = f"{failed:,} of {report.devices:,} devices without success, by reason"
    left = 16 + max([svg.text_width(name) for name, _ in ranked] or [0]) + 8
    most = max([count for _, count in ranked] or [1])
    parts = [svg.text(16, 26, title, size=_TITLE_SIZE, bold=True)]
    top = 48
    for name, count in ranked:
        width = (_RIGHT - left) * count / most
        said = f"{count:,} ({count / report.devices:.2%})"
        parts += [
            svg.text(left - 8, top + 14, name, anchor="end"),
            svg.rect(left, top, width, _BAR, fill=_DONE, tip=f"{name}: {said}"),
            svg.text(left + width + 6, top + 14, said),
        ]
        top += _BAR_ROW
    if not ranked:
        parts.append(svg.text(16, top + 14, "every device succeeded"))
        top += _BAR_ROW
    return _finished(title, parts, top + 16, report)


def _finished(title: str, parts: list[str], top: float, report: Report) -> str:
    """Return the picture with the line that replays the run below all."""
    lines = textwrap.wrap(report.replay, _LINE, break_on_hyphens=False)
    for line in lines:
        parts.append(svg.text(16, top, line, size=_SMALL))
        top += _SMALL + 4
    return svg.document(WIDTH, round(top), title, parts)


def _legend() -> Iterator[str]:
    x = 16.0
    for fill, label in ((_DONE, "ended"), (_FAILED, "of these without success")):
        yield svg.rect(x, 38, 12, 12, fill=fill)
        yield svg.text(x + 18, 48, label)
        x += svg.text_width(label) + 36


def _x(at_s: float, until_s: float) -> float:
    share = math.log(max(at_s, _FIRST_S) / _FIRST_S) / math.log(until_s / _FIRST_S)
    return _LEFT + (_RIGHT - _LEFT) * min(share, 1.0)


def _time_axis(until_s: float, bottom: float) -> Iterator[str]:
    for at_s, label in _TICKS:
        if not _FIRST_S <= at_s <= until_s:
            continue
        x = _x(at_s, until_s)
        yield svg.line(x, _TOP, x, bottom - _GAP, stroke=_GRID)
        yield svg.text(x, bottom + 2, label, anchor="middle")
    middle = (_LEFT + _RIGHT) / 2
    yield svg.text(middle, bottom + 22, "since the rollout began (logarithm)", anchor="middle")


def _strip(group: GroupReport, top: float, until_s: float) -> Iterator[str]:
    yield from _steps(group, [(one.at_s, one.ended) for one in group.points], top, until_s, _DONE)
    failed = [(one.at_s, one.failed) for one in group.points]
    yield from _steps(group, failed, top, until_s, _FAILED)
    yield svg.rect(_LEFT, top, _RIGHT - _LEFT, _ROW)
    yield svg.text(_LEFT - 8, top + 16, group.name, anchor="end", bold=True)
    yield svg.text(_LEFT - 8, top + 34, _devices(group.devices), anchor="end", size=_SMALL)
    yield svg.text(_RIGHT + 6, top + 10, "100 %", size=_SMALL)
    yield svg.text(_RIGHT + 6, top + _ROW, _ending(group.last), size=_SMALL)


def _ending(last: Point) -> str:
    return f"last after {duration(last.at_s)}" if last.ended else "never began"


def _steps(
    group: GroupReport, points: Sequence[tuple[float, int]], top: float, until_s: float, fill: str
) -> Iterator[str]:
    """Yield a rectangle for each stretch of time in which the count stays, up to the end."""
    if not points:
        return
    ends = [*(at_s for at_s, _ in points[1:]), until_s]
    for (at_s, count), end_s in zip(points, ends, strict=True):
        x, right = _x(at_s, until_s), _x(end_s, until_s)
        height = _ROW * count / max(group.devices, 1)
        if height and right > x:
            yield svg.rect(x, top + _ROW - height, right - x, height, fill=fill, stroke=fill)


def _devices(count: int) -> str:
    return f"{count:,} device{'' if count == 1 else 's'}"
