"""The line that docs give: many devices on real streams in one process, at a running controller."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from processes import Controller, wait_for

TESTS = Path(__file__).resolve().parents[1]
DEVICES = 150  # more than one address may enrol


@pytest.mark.timeout(900)
def test_the_line_brings_so_many_devices_online_and_ends_when_it_is_interrupted(
    tmp_path: Path,
) -> None:
    controller = Controller(tmp_path / "c", "--heartbeat", "1")
    controller.init()
    controller.start()
    try:
        controller.wait_ready()
        batch = ("--batch", "dev", "--count", str(DEVICES))
        token = controller.sprat("enrolment", "create", *batch, "-o", "json").json["token"]
        words = ("--token", str(token), "--devices", str(DEVICES), "--heartbeat-s", "1")
        with subprocess.Popen(
            [sys.executable, "-m", "simulators.wire_devices", *words],
            env={**os.environ, **controller.cli_environment(), "PYTHONPATH": str(TESTS)},
            stdout=subprocess.PIPE,
            text=True,
        ) as line:
            try:
                assert line.stdout is not None
                assert line.stdout.readline() == f"{DEVICES} devices converse; interrupt to end\n"
                wait_for(
                    "all to be online", lambda: online(controller) == DEVICES, alive=controller
                )
            finally:
                line.send_signal(signal.SIGINT)
            assert line.wait(30) == 0
    finally:
        controller.terminate()


def online(controller: Controller) -> int:
    listed = controller.sprat("devices", "list", "--limit", "500", "-o", "json").json
    return sum(bool(one["online"]) for one in listed["items"])
