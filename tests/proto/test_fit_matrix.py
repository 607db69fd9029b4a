"""The choices on many kinds of hardware stand in a text that people have read.

After a change that is meant to choose otherwise, write it anew and read what is different:
`PYTHONPATH=tests python -m simulators.fit_matrix > tests/proto/golden/fit-matrix.txt`
"""

from __future__ import annotations

from pathlib import Path

from simulators.boards import BOARDS
from simulators.fit_matrix import matrix
from simulators.shapes import PHI4_MINI, QWEN3_06B, variants

GOLDEN = Path(__file__).parent / "golden" / "fit-matrix.txt"


def test_fit_chooses_as_it_was_reviewed() -> None:
    assert matrix().splitlines() == GOLDEN.read_text(encoding="utf-8").splitlines(), (
        "fit chooses otherwise than reviewed: see how to write the text anew above"
    )


def test_the_shapes_are_those_of_the_real_models() -> None:
    parameters = [variants(shape)[0].facts.parameters for shape in (QWEN3_06B, PHI4_MINI)]
    assert [round(count / 1e6) for count in parameters] == [596, 3836]


def test_the_hardware_is_as_different_as_a_fleet() -> None:
    assert len(BOARDS) >= 12
    assert {one.arch for one in BOARDS.values()} >= {"aarch64", "x86_64"}
