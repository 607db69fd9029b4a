"""What devices of a group measured, and their hardware classes before: values only. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from msgspec import Struct


class Measures(Struct, frozen=True):
    """What one device measured with one variant; 0: nothing."""

    decode_milli_tps: int = 0  # of real requests, one alone
    ttft_p95_ms: int = 0
    requests: int = 0
    errors: int = 0  # of those
    peak_bytes: int = 0  # resident memory of the worker
    declared_bytes: int = 0  # what fit declares for it on this device
    # The probe's.
    prompts: int = 0  # asked; 0: there was no probe
    score_permille: int = 0
    probed_decode_milli_tps: int = 0
    probed_ttft_ms: int = 0


NOTHING: Final = Measures()


@dataclass(frozen=True)
class Sample:
    """A device of the group that told something."""

    candidate: Measures
    before: Measures = NOTHING  # the same device with what it ran before


@dataclass(frozen=True)
class ClassFacts:
    """A hardware class in a group.

    Attributes:
        devices: That count: they got the candidate, and are not excused, canceled or removed.
        told: Those that told something, or a choice of them that does not depend on what they told.
        others: Devices of the class outside the group, with what the class ran before.
        others_in_all: As many there are, whether they told something or not.
        crashes: Over all `devices`, with the candidate; silent fallbacks count.
        most_crashes: Of the one device that had most of them.
        is_scored: The candidate has golden prompts: without, no score is asked for.
    """

    devices: int
    told: Sequence[Sample] = ()
    others: Sequence[Measures] = ()
    others_in_all: int = 0
    crashes: int = 0
    most_crashes: int = 0
    is_scored: bool = True
