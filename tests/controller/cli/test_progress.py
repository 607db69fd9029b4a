"""A person sees one bar a step, a log gets one line a step."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest
from sprat_controller.cli.progress import progress

STEPS = """
from sprat_controller.cli.output import say
from sprat_controller.cli.progress import progress
with progress() as report:
    for done in range(5):
        report("converting", done, 4)
    say("a table")
    report("uploading q4_0", 1, 2)
"""


def test_a_log_gets_one_line_a_step(capsys: pytest.CaptureFixture[str]) -> None:
    with progress() as report:
        for done in range(5):
            report("converting", done, 4)
        report("uploading q4_0", 0, 2)
        report("uploading q4_0", 2, 2)
    assert capsys.readouterr().err.splitlines() == ["converting", "uploading q4_0"]


def test_a_person_sees_a_bar_a_step_and_what_is_said_above_them() -> None:
    ours, theirs = pty.openpty()
    environ = os.environ | {"TERM": "xterm", "COLUMNS": "80"}
    process = subprocess.Popen([sys.executable, "-c", STEPS], stderr=theirs, env=environ)
    os.close(theirs)
    seen = b""
    while True:
        try:
            seen += os.read(ours, 4096)
        except OSError:  # the other end is closed
            break
    os.close(ours)
    assert process.wait() == 0
    last = seen.decode().splitlines()[-3:]
    assert "a table" in seen.decode()
    assert any("converting" in line and "100%" in line for line in last)
    assert any("uploading q4_0" in line and "50%" in line for line in last)
