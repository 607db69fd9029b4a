from __future__ import annotations

import re
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st
from simulators.boards import BOARDS
from simulators.shapes import PHI4_MINI, QWEN3_06B, variants
from sprat_controller.rollout import compatibility, hardware, matrix_picture
from sprat_controller.rollout.compatibility import HardwareClass, ReleaseVariants
from sprat_proto import fit

QWEN = ReleaseVariants("qwen3-0.6b", "1.0.0", tuple(variants(QWEN3_06B)))
PHI = ReleaseVariants("phi-4-mini", "1.0.0", tuple(variants(PHI4_MINI)))
TERMS = fit.Terms(2048)
CLASSES = [
    HardwareClass(hardware.hardware_class(board), 2, "gw-1", replace(board, processor=name))
    for name, board in BOARDS.items()
    if name in {"arm board 1 GB", "Pi 5, 4 GB", "server, 16 GB", "RISC-V board, 8 GB"}
]
BOARD = BOARDS["Pi 5, 4 GB"]


def drawn(*releases: ReleaseVariants) -> tuple[dict[str, Any], str]:
    cells = compatibility.matrix(CLASSES, releases, TERMS)
    answer = {
        "classes": [compatibility.class_json(one) for one in CLASSES],
        "releases": [compatibility.release_json(one) for one in releases],
        "cells": [compatibility.cell_json(cell) for cell in cells],
    }
    return answer, matrix_picture.draw(answer)


def test_there_is_a_cell_for_each_class_and_release() -> None:
    cells = compatibility.matrix(CLASSES, [QWEN, PHI], TERMS)
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
    whole = compatibility.least(devices)
    for candidate in QWEN.candidates:
        if fit.judge(candidate, whole, TERMS).fits:
            assert all(fit.judge(candidate, one, TERMS).fits for one in devices)


def test_the_measurement_in_the_middle_speaks_for_a_class() -> None:
    assert BOARD.measured is not None
    measured = [replace(BOARD.measured, bandwidth=width) for width in (9, 1, 5)]
    devices = [replace(BOARD, measured=one) for one in measured]
    assert compatibility.least([*devices, replace(BOARD, measured=None)]).measured == measured[2]
    assert compatibility.least([replace(BOARD, measured=None)]).measured is None


def test_a_picture_of_one_release_has_a_column_for_each_variant() -> None:
    answer, picture = drawn(QWEN)
    ET.fromstring(picture)  # noqa: S314 - our own
    for variant in ("f16", "q8_0", "q5_1", "q4_k_m", "q4_0"):
        assert f">{variant}<" in picture
    chosen = [cell["chosen"] for cell in answer["cells"]]
    blacks = re.findall(r'<circle[^>]*fill="black"', picture)
    assert len(blacks) == sum(one is not None for one in chosen) + 1  # and the legend's
    assert picture.count(">memory<") == 5  # the board of 1 GB
    assert picture.count(">hardware<") == 5


def test_a_picture_of_several_has_one_for_each_with_what_would_be_chosen() -> None:
    answer, picture = drawn(QWEN, PHI)
    ET.fromstring(picture)  # noqa: S314 - our own
    assert ">qwen3-0.6b@1.0.0<" in picture
    assert ">phi-4-mini@1.0.0<" in picture
    for cell in answer["cells"]:
        if cell["chosen"] is None:
            assert cell["verdicts"][-1]["message"].split(",")[0] in picture
        else:
            assert f">{cell['chosen']}<" in picture


def test_a_fleet_without_devices_is_drawn_too() -> None:
    empty = {"classes": [], "releases": [compatibility.release_json(QWEN)], "cells": []}
    ET.fromstring(matrix_picture.draw(empty))  # noqa: S314 - our own
