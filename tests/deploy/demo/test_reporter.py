"""What the demo prints can be copied."""

from __future__ import annotations

import pytest
from reporter import Headless, Terminal

LINE = "export " + " ".join(f"NAME_{number}=[x]{'y' * 20}" for number in range(20))


def test_a_line_to_be_copied_is_one_line_in_a_narrow_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    Terminal().show(LINE)
    assert capsys.readouterr().out == f"{LINE}\n"


def test_a_program_is_shown_results_alone(capsys: pytest.CaptureFixture[str]) -> None:
    Headless().show(LINE)
    assert capsys.readouterr().out == ""
