"""What goes wrong in a world, and how it is said in one line. Pure."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


class FailuresError(ValueError):
    """The text does not say failures."""


@dataclass(frozen=True)
class Failures:
    """The failure models. A share is from 0 to 1: of devices where it says so, else of tries."""

    # The worker crashes in the probe; the device goes back by itself.
    crash: float = 0.0
    # The download does not verify.
    corrupt: float = 0.0
    # The download breaks off, for this time.
    cut_off: float = 0.0
    # It tells success and then runs what it ran before; the next heartbeat shows that.
    silent_fallback: float = 0.0
    # Of devices: their own facts refuse the variant.
    rejects: float = 0.0
    # Of devices: everything takes `slow_factor` times as long.
    slow: float = 0.0
    slow_factor: float = 20.0
    # Of devices: not there when the world begins, for up to `offline_s` (evenly).
    offline: float = 0.0
    offline_s: int = 28 * 86_400
    # Of devices: `flap_up_s` there, `flap_down_s` away, for ever, each from a phase of its own.
    flapping: float = 0.0
    flap_up_s: int = 300
    flap_down_s: int = 900
    # Of devices: their clock is wrong by up to `skew_s`, either way. The controller's decides,
    # so nothing may come of it.
    skew: float = 0.0
    skew_s: int = 6 * 3_600
    # One hardware class (its number; -1: none) decodes at this share of its baseline.
    slow_class: int = -1
    slow_class_rate: float = 0.8
    # Of devices: they enrol after the world began, within `late_s` (evenly). No failure, but what a
    # CONTINUOUS rollout is for.
    late: float = 0.0
    late_s: int = 6 * 3_600

    def __post_init__(self) -> None:
        """Refuse what no world has."""
        for name in _SHARES:
            if not 0 <= getattr(self, name) <= 1:
                raise FailuresError(f"{name} is a share from 0 to 1, not {getattr(self, name)}")
        for name in ("slow_factor", "flap_up_s", "slow_class_rate"):
            if not 0 < getattr(self, name) < math.inf:
                raise FailuresError(f"{name} is a number above 0, not {getattr(self, name)}")
        for name in ("offline_s", "flap_down_s", "skew_s", "late_s"):
            if getattr(self, name) < 0:
                raise FailuresError(f"{name} is 0 or more, not {getattr(self, name)}")


_SHARES: Final = (
    *("crash", "corrupt", "cut_off", "silent_fallback", "rejects"),
    *("slow", "offline", "flapping", "skew", "late"),
)
MIXES: Final[Mapping[str, Failures]] = {
    "none": Failures(),
    "calm": Failures(crash=0.002, corrupt=0.001, rejects=0.002, slow=0.01, offline=0.01),
    "rough": Failures(
        crash=0.03,
        corrupt=0.02,
        silent_fallback=0.005,
        rejects=0.01,
        slow=0.03,
        offline=0.05,
        flapping=0.05,
        skew=0.1,
    ),
    "bad-release": Failures(crash=0.6),
    "slow-class": Failures(slow_class=2),
}


def parse(text: str) -> Failures:
    """Return what a text says: a name of MIXES, then changes, as in `rough,crash=0.1`.

    Raises:
        FailuresError: It names what there is not, or gives a value that cannot be.
    """
    first, *rest = text.split(",")
    if "=" in first:
        first, rest = "none", [first, *rest]
    if first not in MIXES:
        raise FailuresError(f"there is no mix {first!r}; there are: {', '.join(MIXES)}")
    kinds: dict[str, type[int | float]] = {
        name: int if isinstance(value, int) else float
        for name, value in dataclasses.asdict(Failures()).items()
    }
    changes: dict[str, float] = {}
    for word in rest:
        name, _, value = word.partition("=")
        if name not in kinds:
            raise FailuresError(f"there is no failure {name!r}; there are: {', '.join(kinds)}")
        try:
            changes[name] = kinds[name](value)
        except ValueError as error:
            raise FailuresError(f"{name} is a number, not {value!r}") from error
    return dataclasses.replace(MIXES[first], **changes)


def said(failures: Failures) -> str:
    """Return the text that `parse` reads back: a mix's name, or what differs from none."""
    for name, mix in MIXES.items():
        if failures == mix:
            return name
    changed = {
        one.name: getattr(failures, one.name)
        for one in dataclasses.fields(Failures)
        if getattr(failures, one.name) != one.default
    }
    return ",".join(f"{name}={value!r}" for name, value in changed.items())
