"""Virtual devices as columns, and what becomes of work that they are given. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np

from simulators.world.draws import Bools, Floats, Ints, Purpose, uniform
from simulators.world.failures import Failures
from simulators.world.openings import AT_ANY_TIME, DeviceWindows, Openings

# How long things take on a device that nothing ails, in seconds: from, to.
DOWNLOAD_S: Final = (30.0, 240.0)
WORK_S: Final = (10.0, 60.0)  # verify, install, probe, activate
HEARTBEAT_S: Final = 30
# What a device of each class decodes, and scores in the probe, with what it ran before: 1.
_NOISE: Final = 0.04
# Thousandths of a token a second, by class and beyond: devices of one differ by up to this share.
_DECODE: Final = (8_000, 14_000, 22_000, 35_000)
_SPREAD: Final = 0.3
_TTFT_MS: Final = 4_000_000  # of a device that decodes one thousandth of a token a second, in ms
_DECLARED: Final = 600 << 20  # bytes
_REQUESTS: Final = (20.0, 60.0)
_PROMPTS: Final = 8
_FULL_SCORE: Final = 1000
# A run of another rollout is another try.
TRIES_APART: Final = 4096
_LOOKS: Final = 1_000
NEVER_MS: Final = np.iinfo(np.int64).max


class Fate(IntEnum):
    """How a try ends on a device, if nobody ends it before."""

    SUCCEEDS = 0
    CRASHES = 1
    DOES_NOT_VERIFY = 2
    FALLS_BACK = 3  # it tells success; the next heartbeat shows something else
    REJECTS = 4
    CANNOT_FETCH = 5  # the download ends early, and may go well the next time


@dataclass(frozen=True)
class Runs:
    """What becomes of tries, as columns; one row for each device that was asked."""

    begun_ms: Ints  # the device heard of it
    fetched_ms: Ints  # the model is there and verified, or it is refused
    installs_ms: Ints  # it begins to be installed: `fetched_ms`, or its window opens
    told_ms: Ints  # the device tells how the try ended
    shown_ms: Ints  # a heartbeat after that, with the digest that really answers
    fate: Ints  # numbers of Fate
    rate: Floats  # decode rate of the new release over the baseline of the hardware class
    fetched_model: Bools  # model bytes were moved


class Devices:
    """Who is in the world.

    Attributes:
        site: Number of the site of each.
        hardware_class: Number of the hardware class of each.
    """

    def __init__(
        self, seed: int, count: int, failures: Failures, *, sites: int = 200, classes: int = 4
    ) -> None:
        """Make `count` devices at `sites`, of so many hardware classes, evenly mixed."""
        self._seed = seed
        self._failures = failures
        self.count = count
        everyone = np.arange(count, dtype=np.int64)
        self.site = self._below(sites, Purpose.SITE, everyone)
        self.hardware_class = self._below(classes, Purpose.HARDWARE_CLASS, everyone)
        self._slow = self._is(failures.slow, Purpose.SLOW, everyone)
        self._rejects = self._is(failures.rejects, Purpose.REJECTS, everyone)
        self._flapping = self._is(failures.flapping, Purpose.FLAPPING, everyone)
        is_away = self._is(failures.offline, Purpose.OFFLINE, everyone)
        for_s = uniform(seed, Purpose.OFFLINE_FOR, everyone) * failures.offline_s
        self._away_until = np.where(is_away, _ms(for_s), 0)
        self._cycle_ms = (failures.flap_up_s + failures.flap_down_s) * 1000
        phase = uniform(seed, Purpose.FLAP_PHASE, everyone)
        self._phase_ms = (phase * self._cycle_ms).astype(np.int64)
        is_off = self._is(failures.skew, Purpose.SKEW, everyone)
        off_by = (uniform(seed, Purpose.SKEW_BY, everyone) * 2 - 1) * failures.skew_s
        self._skew_ms = np.where(is_off, _ms(off_by), 0)
        is_late = self._is(failures.late, Purpose.LATE, everyone)
        comes_s = uniform(seed, Purpose.LATE_BY, everyone) * failures.late_s
        # When each enrols; 0: it is there when the world begins.
        self.enrolled_ms = np.where(is_late, _ms(comes_s) + 1, 0)

    def there_from(self, devices: Ints, at_ms: Ints) -> Ints:
        """Return when each is next online: `at_ms` itself, or later."""
        after = np.maximum(at_ms, self._away_until[devices])
        place = (after + self._phase_ms[devices]) % self._cycle_ms
        is_down = self._flapping[devices] & (place >= self._failures.flap_up_s * 1000)
        return np.where(is_down, after + self._cycle_ms - place, after)

    def local_ms(self, devices: Ints, at_ms: Ints) -> Ints:
        """Return what the devices' own clocks say: the times that they put into reports."""
        return at_ms + self._skew_ms[devices]

    def run(
        self,
        devices: Ints,
        tries: Ints,
        at_ms: Ints,
        has_model: Bools,
        windows: DeviceWindows = AT_ANY_TIME,
    ) -> Runs:
        """Return what becomes of work that the controller gives out.

        Args:
            devices: Who gets it.
            tries: Which try of each it is, from 0.
            at_ms: When it is given out; a device that is away begins when it is back.
            has_model: The model's bytes lie on the device already.
            windows: Obeyed by the devices' own clocks, whether they are online or not.
        """
        factor = np.where(self._slow[devices], self._failures.slow_factor, 1.0)
        begin = self.there_from(devices, at_ms)
        fetching = self._between(DOWNLOAD_S, Purpose.DOWNLOAD_S, devices, tries) * factor
        fate = self._fate(devices, tries)
        is_fetched = ~has_model & (fate != Fate.REJECTS)
        # An interrupted download goes on where it was: being away only delays its end.
        fetched = np.where(is_fetched, begin + _ms(fetching), begin)
        fetched = self.there_from(devices, fetched)
        if windows.download is not None:
            begin = np.where(is_fetched, self._let_in(windows.download, devices, begin), begin)
            within = self._fetched_in(windows.download, devices, begin, _ms(fetching))
            fetched = np.where(is_fetched, within, fetched)
        works = (fate != Fate.REJECTS) & (fate != Fate.DOES_NOT_VERIFY)
        works &= fate != Fate.CANNOT_FETCH
        working = self._between(WORK_S, Purpose.WORK_S, devices, tries) * factor
        installs = fetched
        if windows.activate is not None:
            waits = self._opens(windows.activate, devices, fetched)
            installs = np.where(works, waits, fetched)
        done = np.where(works, installs + _ms(working), fetched)
        told = self.there_from(devices, done)
        shown = self.there_from(devices, told + HEARTBEAT_S * 1000)
        rate = self._rate(devices, tries)
        return Runs(begin, fetched, installs, told, shown, fate, rate, is_fetched)

    def progress_from(self, devices: Ints, at_ms: Ints, windows: DeviceWindows) -> Ints:
        """Return when each may next tell that its download goes on, from this time on."""
        if windows.download is None:
            return self.there_from(devices, at_ms)
        return self._let_in(windows.download, devices, at_ms)

    def measure(self, devices: Ints, tries: Ints, rate: Floats) -> dict[str, Ints]:
        """Return what devices measure with a model, by the names of `gates.Measures`.

        Args:
            devices: Which.
            tries: What makes this measurement another than the ones before.
            rate: What they decode with it, over what they decode with what they ran before.
        """
        speeds = np.array(_DECODE, dtype=np.float64)
        base = speeds[self.hardware_class[devices] % len(_DECODE)]
        apart = (uniform(self._seed, Purpose.SPEED, devices) * 2 - 1) * _SPREAD
        decode = base * (1 + apart) * rate
        requests = self._between(_REQUESTS, Purpose.REQUESTS, devices, tries).astype(np.int64)
        peak = 0.8 + 0.1 * uniform(self._seed, Purpose.PEAK, devices, tries)
        whole = np.ones_like(devices)
        ttft = _TTFT_MS / decode
        return {
            "decode_milli_tps": decode.astype(np.int64),
            "ttft_p95_ms": (ttft * 1.5).astype(np.int64),
            "requests": requests,
            "errors": np.zeros_like(devices),
            "peak_bytes": (peak * _DECLARED).astype(np.int64),
            "declared_bytes": whole * _DECLARED,
            "prompts": whole * _PROMPTS,
            "score_permille": whole * _FULL_SCORE,
            "probed_decode_milli_tps": decode.astype(np.int64),
            "probed_ttft_ms": ttft.astype(np.int64),
        }

    def go_back(self, devices: Ints, tries: Ints, at_ms: Ints) -> Ints:
        """Return when devices tell that they run again what they ran before.

        They still hold it: nothing is fetched.
        """
        factor = np.where(self._slow[devices], self._failures.slow_factor, 1.0)
        working = self._between(WORK_S, Purpose.WORK_S, devices, tries) * factor
        return self.there_from(devices, self.there_from(devices, at_ms) + _ms(working))

    def next_absence(self, devices: Ints, at_ms: Ints, least_ms: int) -> tuple[Ints, Ints]:
        """Return when each goes away next, for how long it is away, at that time or later.

        Args:
            devices: Which.
            at_ms: From when on; one that is away at that time goes away then.
            least_ms: Shorter absences of those that flap are passed over.

        Returns:
            When each was last there, and when it is back; both NEVER_MS if it never goes.
        """
        gone = np.full(len(devices), NEVER_MS)
        back = np.full(len(devices), NEVER_MS)
        if self._failures.flap_down_s * 1000 >= least_ms:
            flaps = self._flapping[devices]
            up_ms = self._failures.flap_up_s * 1000
            place = (at_ms + self._phase_ms[devices]) % self._cycle_ms
            gone[flaps] = np.maximum(at_ms + up_ms - place, at_ms)[flaps]
            back[flaps] = (at_ms + self._cycle_ms - place)[flaps]
        is_away = at_ms < self._away_until[devices]
        gone[is_away] = at_ms[is_away]
        back[is_away] = self.there_from(devices, self._away_until[devices])[is_away]
        return gone, back

    def _opens(self, openings: Openings, devices: Ints, at_ms: Ints) -> Ints:
        """Return when a window is open by the devices' own clocks, from this time on."""
        skew = self._skew_ms[devices]
        return openings.inside(at_ms + skew) - skew

    def _let_in(self, openings: Openings, devices: Ints, at_ms: Ints) -> Ints:
        """Return when devices are there and a window is open, from this time on."""
        for _ in range(_LOOKS):
            at_open = self._opens(openings, devices, at_ms)
            there = self.there_from(devices, at_open)
            if (there == at_open).all():
                return there
            at_ms = there
        raise RuntimeError("devices are never there while their window is open")

    def _fetched_in(
        self, openings: Openings, devices: Ints, begin_ms: Ints, fetching_ms: Ints
    ) -> Ints:
        """Return when a download ends of which bytes move only while a window is open."""
        skew = self._skew_ms[devices]
        ends = openings.spend(begin_ms + skew, fetching_ms) - skew
        there = self.there_from(devices, ends)
        # One that was away at the end goes on when it is back and may.
        return np.where(there == ends, ends, self._let_in(openings, devices, there))

    def _fate(self, devices: Ints, tries: Ints) -> Ints:
        """Return how tries end; of two causes the one that comes first in a run wins."""
        failures = self._failures
        fate = np.full(len(devices), Fate.SUCCEEDS, dtype=np.int64)
        falls = uniform(self._seed, Purpose.FALLBACK, devices, tries) < failures.silent_fallback
        fate[falls] = Fate.FALLS_BACK
        fate[uniform(self._seed, Purpose.CRASH, devices, tries) < failures.crash] = Fate.CRASHES
        corrupt = uniform(self._seed, Purpose.CORRUPT, devices, tries) < failures.corrupt
        fate[corrupt] = Fate.DOES_NOT_VERIFY
        if failures.cut_off:
            cut_off = uniform(self._seed, Purpose.CUT_OFF, devices, tries) < failures.cut_off
            fate[cut_off] = Fate.CANNOT_FETCH
        fate[self._rejects[devices]] = Fate.REJECTS
        return fate

    def _rate(self, devices: Ints, tries: Ints) -> Floats:
        is_slower = self.hardware_class[devices] == self._failures.slow_class
        noise = (uniform(self._seed, Purpose.SCORE, devices, tries) * 2 - 1) * _NOISE
        return np.where(is_slower, self._failures.slow_class_rate, 1.0) * (1 + noise)

    def _is(self, share: float, purpose: Purpose, devices: Ints) -> Bools:
        return uniform(self._seed, purpose, devices) < share

    def _below(self, count: int, purpose: Purpose, devices: Ints) -> Ints:
        return (uniform(self._seed, purpose, devices) * count).astype(np.int64)

    def _between(
        self, bounds: tuple[float, float], purpose: Purpose, devices: Ints, tries: Ints
    ) -> Floats:
        low, high = bounds
        return low + uniform(self._seed, purpose, devices, tries) * (high - low)


def _ms(seconds: Floats) -> Ints:
    return (seconds * 1000).astype(np.int64)
