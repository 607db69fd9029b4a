from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from simulators.boards import BOARDS
from simulators.small_matrix import CLASSES, PHI, QWEN, TERMS
from sprat_controller.rollout.compatibility import judging
from sprat_proto import fit

BOARD = BOARDS["Pi 5, 4 GB"]


def test_there_is_a_cell_for_each_class_and_release() -> None:
    cells = judging.matrix(CLASSES, [QWEN, PHI], TERMS)
    assert [(cell.hardware_class, cell.release.model) for cell in cells] == [
        (one.name, model) for one in CLASSES for model in ("qwen3-0.6b", "phi-4-mini")
    ]


@given(
    st.lists(st.tuples(st.integers(0, 1 << 34), st.integers(0, 1 << 36)), min_size=1, max_size=5)
)
def test_what_a_class_carries_each_of_its_devices_carries(facts: list[tuple[int, int]]) -> None:
    devices = [
        replace(BOARD, memory_budget_bytes=budget, disk_free_bytes=disk) for budget, disk in facts
    ]
    whole = judging.least(devices)
    for candidate in QWEN.candidates:
        if fit.judge(candidate, whole, TERMS).fits:
            assert all(fit.judge(candidate, one, TERMS).fits for one in devices)


def test_the_measurement_in_the_middle_speaks_for_a_class() -> None:
    assert BOARD.measured is not None
    measured = [replace(BOARD.measured, bandwidth=width) for width in (9, 1, 5)]
    devices = [replace(BOARD, measured=one) for one in measured]
    assert judging.least([*devices, replace(BOARD, measured=None)]).measured == measured[2]
    assert judging.least([replace(BOARD, measured=None)]).measured is None
