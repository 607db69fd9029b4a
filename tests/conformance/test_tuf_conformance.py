"""The official suite of TUF clients over the agent's trust code: all of it, without exception.

Its files are no part of this repository: `TUF_CONFORMANCE=<checkout of tuf-conformance v2.4.0>
make test-full` runs it, in an environment of its own, since it pins other versions.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

CHECKOUT = os.environ.get("TUF_CONFORMANCE", "")
REQUIREMENTS = (
    "securesystemslib[crypto]==1.4.0",
    "tuf==7.0.0",
    "pytest==9.1.1",
    "pytest-json-report==1.5.0",
)
TESTS = 113  # in v2.4.0

pytestmark = [
    pytest.mark.full,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(not CHECKOUT, reason="TUF_CONFORMANCE names no checkout of the suite"),
    pytest.mark.skipif(shutil.which("faketime") is None, reason="the suite needs faketime"),
]


def test_every_test_of_the_suite_passes(tmp_path: Path) -> None:
    client = tmp_path / "client"
    here = Path(__file__).parent / "client.py"
    client.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{here}" "$@"\n', encoding="utf-8")
    client.chmod(0o755)
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", *REQUIREMENTS], check=True)
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tuf_conformance"]
    ended = subprocess.run(
        [*command, "--entrypoint", client],
        cwd=CHECKOUT,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-4000:]
    passed = re.search(r"([0-9]+) passed", ended.stdout)
    assert passed is not None
    assert int(passed[1]) == TESTS
    assert "xfailed" not in ended.stdout
