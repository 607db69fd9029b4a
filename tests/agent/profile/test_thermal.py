"""How far processors are slowed for their heat."""

from __future__ import annotations

from pathlib import Path

import pytest
from sprat_agent.profile.thermal import throttle_ratio


def cooling(root: Path, number: int, kind: str, now: str, most: str) -> None:
    folder = root / f"sys/class/thermal/cooling_device{number}"
    folder.mkdir(parents=True)
    for name, text in (("type", kind), ("cur_state", now), ("max_state", most)):
        (folder / name).write_text(f"{text}\n")


def test_the_processor_that_is_slowed_most_counts(tmp_path: Path) -> None:
    cooling(tmp_path, 0, "cpufreq-cpu0", "1", "4")
    cooling(tmp_path, 1, "Processor", "0", "10")
    cooling(tmp_path, 2, "pwm-fan", "3", "3")
    assert throttle_ratio(tmp_path) == 0.25


def test_a_device_without_such_a_processor_tells_nothing(tmp_path: Path) -> None:
    assert throttle_ratio(tmp_path) is None
    cooling(tmp_path, 0, "pwm-fan", "3", "3")
    assert throttle_ratio(tmp_path) is None


@pytest.mark.parametrize(("now", "most"), [("", "4"), ("1", "0"), ("x", "4"), ("-1", "4")])
def test_what_is_no_state_is_left_out(tmp_path: Path, now: str, most: str) -> None:
    cooling(tmp_path, 0, "cpufreq-cpu0", now, most)
    assert throttle_ratio(tmp_path) is None
