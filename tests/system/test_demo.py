from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STEPS = [
    "controller_started",
    "devices_enrolled",
    "release_pushed",
    "plan_differs_by_hardware",
    "rolled_out",
    "device_answers",
    "tampered_blob_refused",
    "device_answers_offline",
    "audit_arrived_complete",
    "publisher_refuses_to_sign",
    "bad_release_rolled_back",
    "demo",
]


@pytest.mark.timeout(900)
def test_the_demo_passes_every_step_without_a_person() -> None:
    begin = time.monotonic()
    done = subprocess.run(
        [sys.executable, ROOT / "deploy" / "demo", "--headless"],
        check=False,
        capture_output=True,
        text=True,
        timeout=280,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, (lines[-1:], done.stderr[-2000:])
    assert [line["step"] for line in lines] == STEPS
    assert all(line["ok"] for line in lines)
    print(f"demo: {time.monotonic() - begin:.0f} s")  # noqa: T201 - a figure, judged by `make bench`


@pytest.mark.timeout(900)
def test_the_demo_fails_when_the_world_is_not_as_it_tells(tmp_path: Path) -> None:
    broken = tmp_path / "demo"
    broken.mkdir()
    for part in (ROOT / "deploy" / "demo").glob("*.py"):
        (broken / part.name).write_text(part.read_text(encoding="utf-8"), encoding="utf-8")
    shutil.copytree(ROOT / "deploy" / "demo-model", tmp_path / "demo-model")
    story = broken / "story.py"
    text = story.read_text(encoding="utf-8")
    # Nobody tampers with the blob: then nothing is refused, and the demo must not claim so.
    story.write_text(text.replace("^= 1", "^= 0"), encoding="utf-8")
    assert story.read_text(encoding="utf-8") != text
    done = subprocess.run(
        [sys.executable, broken, "--headless"],
        check=False,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 1
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["step"] for line in lines if not line["ok"]] == ["tampered_blob_refused", "demo"]
