"""What becomes of work on virtual devices."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulators.world.devices import Devices, Fate, Runs
from simulators.world.failures import MIXES, Failures

COUNT = 2_000
EVERYONE = np.arange(COUNT, dtype=np.int64)
FIRST = np.zeros(COUNT, dtype=np.int64)
NOBODY_HAS_IT = np.zeros(COUNT, dtype=np.bool_)


def first_run(failures: Failures, *, seed: int = 7, has_model: bool = False) -> Runs:
    has = np.full(COUNT, has_model)
    return Devices(seed, COUNT, failures).run(EVERYONE, FIRST, FIRST, has)


@given(st.sampled_from(list(MIXES)), st.integers(0, 1 << 32))
def test_things_happen_in_order(mix: str, seed: int) -> None:
    runs = first_run(MIXES[mix], seed=seed)
    assert (runs.fetched_ms >= 0).all()
    assert (runs.told_ms >= runs.fetched_ms).all()
    assert (runs.shown_ms > runs.told_ms).all()


@given(st.integers(0, 1 << 32), st.integers(0, 10**9))
def test_nobody_tells_anything_while_away(seed: int, at_ms: int) -> None:
    devices = Devices(seed, COUNT, Failures(offline=0.3, flapping=0.5))
    there = devices.there_from(EVERYONE, np.full(COUNT, at_ms))
    assert (there >= at_ms).all()
    assert (devices.there_from(EVERYONE, there) == there).all()


@pytest.mark.parametrize(
    ("failures", "fate"),
    [
        (Failures(), Fate.SUCCEEDS),
        (Failures(crash=1.0), Fate.CRASHES),
        (Failures(corrupt=1.0), Fate.DOES_NOT_VERIFY),
        (Failures(silent_fallback=1.0), Fate.FALLS_BACK),
        (Failures(rejects=1.0), Fate.REJECTS),
        # What does not verify is never loaded, and what is refused never fetched.
        (Failures(crash=1.0, corrupt=1.0), Fate.DOES_NOT_VERIFY),
        (Failures(crash=1.0, corrupt=1.0, rejects=1.0), Fate.REJECTS),
    ],
)
def test_the_first_cause_in_a_run_is_its_fate(failures: Failures, fate: Fate) -> None:
    assert (first_run(failures).fate == fate).all()


def test_shares_are_kept() -> None:
    crashed = (first_run(Failures(crash=0.1)).fate == Fate.CRASHES).mean()
    assert crashed == pytest.approx(0.1, abs=0.03)


def test_who_has_the_model_moves_no_bytes() -> None:
    assert first_run(Failures()).fetched_model.all()
    assert not first_run(Failures(), has_model=True).fetched_model.any()
    assert not first_run(Failures(rejects=1.0)).fetched_model.any()


def test_a_wrong_clock_changes_nothing_but_what_it_says() -> None:
    right, wrong = Devices(7, COUNT, Failures()), Devices(7, COUNT, Failures(skew=1.0))
    runs = [one.run(EVERYONE, FIRST, FIRST, NOBODY_HAS_IT) for one in (right, wrong)]
    assert (runs[0].told_ms == runs[1].told_ms).all()
    assert (right.local_ms(EVERYONE, FIRST) == 0).all()
    assert (wrong.local_ms(EVERYONE, FIRST) != 0).any()
    assert abs(wrong.local_ms(EVERYONE, FIRST)).max() <= Failures().skew_s * 1000


def test_only_the_planted_class_is_slower() -> None:
    devices = Devices(7, COUNT, MIXES["slow-class"])
    rate = devices.run(EVERYONE, FIRST, FIRST, NOBODY_HAS_IT).rate
    medians = [float(np.median(rate[devices.hardware_class == number])) for number in range(4)]
    assert medians == pytest.approx([1.0, 1.0, 0.8, 1.0], abs=0.02)
