"""The verbs of `sprat-controller` import what they do when they do it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import sys

from sprat_controller.main import main

try:
    status = main(sys.argv[1:])
except SystemExit as ended:
    status = ended.code
sys.stderr.write(" ".join(sys.modules))
sys.exit(status)
"""
SERVING = {"fastapi", "grpc", "uvicorn", "uvloop", "sprat_controller.process"}


def imported_by(*arguments: str) -> set[str]:
    command = [sys.executable, "-c", PROGRAM, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return set(done.stderr.split())


def test_help_imports_only_the_flags() -> None:
    imported = imported_by("--help")
    assert "sprat_controller.config" in imported
    assert not (SERVING | {"sqlalchemy", "tuf", "sprat_controller.initialise"}) & imported


def test_init_imports_nothing_that_serves(tmp_path: Path) -> None:
    imported = imported_by("init", "--data", str(tmp_path / "controller"))
    assert "sprat_controller.initialise" in imported
    assert not SERVING & imported
