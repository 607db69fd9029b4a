"""What a run of a world says in the end: as JSON, and as text for people. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Final

import numpy as np

from simulators.world.draws import Bools, Ints
from simulators.world.truth import NO_FALLBACKS, Fallbacks

MOST_POINTS: Final = 400  # of one group: a picture shows no more


@dataclass(frozen=True)
class Point:
    """How far a group is at a moment; counts since the beginning."""

    at_s: float  # since the world began
    ended: int
    failed: int  # of these


@dataclass(frozen=True)
class GroupReport:
    """One group over time."""

    name: str
    devices: int
    points: tuple[Point, ...]

    @property
    def last(self) -> Point:
        """Where it is in the end."""
        return self.points[-1] if self.points else Point(0, 0, 0)


@dataclass(frozen=True)
class GateReport:
    """What the gate of a group said last."""

    group: str
    verdict: str
    classes: Mapping[str, str]  # health by hardware class
    said: str


@dataclass(frozen=True)
class Report:
    """A whole run."""

    replay: str  # the line that does it again
    devices: int
    state: str  # of the rollout, in the end
    virtual_s: float
    wall_s: float
    rounds: int  # how often the runner was called
    starts: int
    most_active: int
    model_downloads: int
    downloads_back: int  # of these: begun to go back, or after the rollout was taken back
    states: Mapping[str, int]  # executions in each state
    reasons: Mapping[str, int]  # reason codes of those that did not succeed
    groups: tuple[GroupReport, ...]
    abort: str = ""  # why, if it was aborted
    fallbacks: Fallbacks = NO_FALLBACKS
    joined: int = 0  # devices that enrolled later and are in
    penalised: int = 0  # devices that were ever left alone for a while
    gates: tuple[GateReport, ...] = ()
    # When devices might activate, in seconds since the world began: from, until. Empty: always.
    windows: tuple[tuple[float, float], ...] = ()

    def as_json(self) -> str:
        """Return one JSON object."""
        return json.dumps(asdict(self), indent=1)

    def as_text(self) -> str:
        """Return lines for people."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"again with: {self.replay}"
        yield (
            f"{self.devices:,} devices, rollout {self.state} after {duration(self.virtual_s)}"
            f" of virtual time; {self.wall_s:.1f} s by the clock, {self.rounds:,} rounds"
        )
        yield (
            f"{self.starts:,} starts, at most {self.most_active:,} at once,"
            f" {self.model_downloads:,} downloads of the model ({self.downloads_back:,} to go back)"
        )
        if self.abort:
            yield f"aborted: {self.abort}"
        yield from self._what_is_special()
        yield from _table("executions", self.states, self.devices)
        yield from _table("without success, by reason", self.reasons, self.devices)
        width = max([len(one.name) for one in self.groups] or [0])
        yield "groups"
        for one in self.groups:
            last = one.last
            yield (
                f"  {one.name:<{width}}  {last.ended:>9,} of {one.devices:>9,} ended,"
                f" {last.failed:>7,} without success, after {duration(last.at_s)}"
            )

    def _what_is_special(self) -> Iterator[str]:
        fell = self.fallbacks
        if fell != NO_FALLBACKS:
            yield (
                f"silent fallbacks: {fell.injected:,} happened, {fell.noticed:,} noticed,"
                f" {fell.overtaken:,} overtaken by other work, {fell.missed:,} missed,"
                f" {fell.false:,} noticed that never happened"
            )
        if self.joined:
            yield f"joined later: {self.joined:,} devices"
        if self.penalised:
            yield f"left alone for a while after their last try: {self.penalised:,} devices"
        for gate in self.gates:
            yield f"gate of {gate.group}: {gate.verdict}; {gate.said}"
        if self.windows:
            yield f"activated only within {len(self.windows):,} openings of the window"


class Recorder:
    """Takes down what ends, by group."""

    def __init__(self, names: Sequence[str]) -> None:
        """Record groups of these names."""
        self._groups = list(names)
        self._ended = np.zeros(len(names), dtype=np.int64)
        self._failed = np.zeros(len(names), dtype=np.int64)
        self._points: list[list[Point]] = [[] for _ in names]

    def ended(self, groups: Ints, is_failed: Bools, at_ms: int) -> None:
        """Executions of these groups became final at this moment."""
        self._note(self._by_group(groups), self._by_group(groups[is_failed]), at_ms)

    def turned_bad(self, groups: Ints, at_ms: int) -> None:
        """Executions of these groups that had ended well did not, as it turns out."""
        self._note(self._by_group(groups[:0]), self._by_group(groups), at_ms)

    def _by_group(self, groups: Ints) -> Ints:
        return np.bincount(groups, minlength=len(self._groups))

    def _note(self, ended: Ints, failed: Ints, at_ms: int) -> None:
        self._ended += ended
        self._failed += failed
        for number in np.flatnonzero(ended + failed).tolist():
            point = Point(at_ms / 1000, int(self._ended[number]), int(self._failed[number]))
            self._points[number].append(point)

    def groups(self, sizes: Sequence[int]) -> tuple[GroupReport, ...]:
        """Return what was recorded, thinned to what a picture shows.

        Args:
            sizes: How many devices each group has in the end.
        """
        return tuple(
            GroupReport(name, size, thinned(points))
            for name, size, points in zip(self._groups, sizes, self._points, strict=True)
        )


def thinned(points: Sequence[Point]) -> tuple[Point, ...]:
    """Return at most MOST_POINTS of them, evenly chosen; the first and the last stay."""
    if len(points) <= MOST_POINTS:
        return tuple(points)
    last = len(points) - 1
    return tuple(points[step * last // (MOST_POINTS - 1)] for step in range(MOST_POINTS))


def duration(seconds: float) -> str:
    """Return a duration in the largest unit of which it has two or more."""
    for unit, length in (("w", 604_800), ("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"


def _table(title: str, counts: Mapping[str, int], whole: int) -> Iterator[str]:
    if not counts:
        return
    yield title
    width = max(len(name) for name in counts)
    for name, count in sorted(counts.items(), key=lambda one: (-one[1], one[0])):
        yield f"  {name:<{width}}  {count:>9,}  {count / max(whole, 1):7.2%}"
