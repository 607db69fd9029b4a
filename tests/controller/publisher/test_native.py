from __future__ import annotations

import sys
from pathlib import Path

import pytest
from sprat_controller.publisher import native


def ended(code: str, folder: Path) -> native.Ended:
    return native.run([sys.executable, "-c", code], lambda _line: None, folder)


def test_lines_are_told_as_they_come(tmp_path: Path) -> None:
    told: list[bytes] = []
    code = "import os; print(1, flush=True); print(os.getcwd())"
    assert native.run([sys.executable, "-c", code], told.append, tmp_path).status == 0
    assert told == [b"1\n", f"{tmp_path.resolve()}\n".encode()]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import os; os.abort()", "it crashed with signal 6"),
        ("import os; os.kill(os.getpid(), 9)", "memory runs out"),
        ("import sys; sys.exit('one\\ntwo\\n\\n')", "two"),
        ("import sys; sys.exit(1)", "it gave no reason"),
        ("import sys; sys.stderr.buffer.write(b'\\xff' * 99999); sys.exit(1)", "\ufffd"),
    ],
)
def test_an_end_is_said_in_one_line(tmp_path: Path, code: str, said: str) -> None:
    reason = ended(code, tmp_path).reason
    assert said in reason
    assert len(reason.splitlines()) == 1
    assert len(reason) <= 4096


def test_whoever_listens_may_end_it(tmp_path: Path) -> None:
    def told(_line: bytes) -> None:
        raise KeyboardInterrupt

    code = "import time; print(1, flush=True); time.sleep(60)"
    with pytest.raises(KeyboardInterrupt):
        native.run([sys.executable, "-c", code], told, tmp_path)


def test_a_child_has_nothing_to_read(tmp_path: Path) -> None:
    assert ended("import sys; sys.exit(len(sys.stdin.read()))", tmp_path).status == 0
