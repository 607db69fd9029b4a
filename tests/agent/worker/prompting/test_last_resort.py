"""The kernel's end for code that Python cannot interrupt; each in a process that may die."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest
from sprat_agent.worker.prompting.last_resort import killed_after

BEGIN = """
import time
from sprat_agent.worker.prompting.last_resort import killed_after

def take(cpu_s):
    ends = time.thread_time() + cpu_s
    while time.thread_time() < ends:
        pass

"""


def end_of(program: str) -> int:
    return subprocess.run([sys.executable, "-P", "-c", BEGIN + program], check=False).returncode


def test_t45_a_call_that_holds_the_interpreters_lock_ends_with_the_process() -> None:
    assert end_of("with killed_after(0.1):\n  10 ** (10 ** 9 + int())") == -signal.SIGKILL


def test_it_cannot_be_held_off_by_a_mask_of_signals() -> None:
    masked = "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())\n"
    assert end_of(f"{masked}with killed_after(0.1):\n  take(60)") == -signal.SIGKILL


def test_who_is_done_in_time_goes_on() -> None:
    assert end_of("with killed_after(0.2):\n  take(0.1)\ntake(0.4)") == 0


def test_who_fails_in_time_goes_on() -> None:
    failing = "try:\n  with killed_after(0.2):\n    raise KeyError\nexcept KeyError:\n  take(0.4)"
    assert end_of(failing) == 0


def test_the_time_of_other_threads_and_of_waiting_does_not_count() -> None:
    begin = "import threading; other = threading.Thread(target=take, args=(0.6,))\n"
    assert end_of(f"{begin}with killed_after(0.4):\n  other.start()\n  other.join()") == 0


def test_a_time_that_the_kernel_does_not_take_is_an_error() -> None:
    with pytest.raises(OSError, match="timer_settime"), killed_after(-1.0):
        pass
