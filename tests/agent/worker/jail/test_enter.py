"""What a worker that was taken over tries: the twelve escapes of T44, and more.

Each attempt is a process of its own, once in the jail and once outside, where it must work: an
attempt that fails anywhere shows nothing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

INMATE = Path(__file__).with_name("inmate.py")

TWELVE = {
    "write_the_model": "EACCES",
    "read_passwords": "EACCES",
    "create_a_file": "EACCES",
    "list_the_root": "EACCES",
    "make_a_tcp_socket": "EPERM",
    "make_a_udp_socket": "EPERM",
    "make_a_unix_socket": "EPERM",
    "run_a_program": "EPERM",
    "signal_the_agent": "EPERM",
    "take_two_gigabytes": "ENOMEM",
    "trace_the_agent": "EPERM",
    "make_an_io_uring": "EPERM",
}
MORE = {
    "fork": "EPERM",
    "spawn": "EPERM",
    "unshare": "EPERM",
    "connect_what_was_there": "EPERM",
    "bind_what_was_there": "EPERM",
    "accept_what_was_there": "EPERM",
    "pass_a_descriptor_on": "EPERM",
    "change_a_mode": "EPERM",
    "remove_the_model": "EPERM",
    "make_a_folder": "EPERM",
    "outlive_the_agent": "EPERM",
    "be_dumpable": "EPERM",
    "read_its_own_memory_map": "EACCES",
    "write_too_much": "EFBIG",
    "limit_the_agent": "EPERM",
    "lift_its_limits": "EPERM",
    "open_many_files": "EMFILE",
}
NEEDED = [
    "map_the_model",
    "open_the_model_again",
    "open_memory_again",
    "start_threads",
    "speak_to_the_agent",
    "import_late",
    "tell_the_address_space",
    "write_prefixes",
    "abort",
]
# What each wall holds alone, where a kernel or a hole takes the other one away.
ALONE = [
    ("landlock", "read_passwords", "EACCES"),
    ("landlock", "create_a_file", "EACCES"),
    ("landlock", "connect_what_was_there", "EACCES"),
    ("landlock", "bind_what_was_there", "EACCES"),
    ("landlock", "signal_the_agent", "EPERM"),
    ("landlock", "run_a_program", "EACCES"),
    ("seccomp", "make_a_tcp_socket", "EPERM"),
    ("seccomp", "run_a_program", "EPERM"),
    ("seccomp", "signal_the_agent", "EPERM"),
    ("seccomp", "remove_the_model", "EPERM"),
    ("seccomp", "start_threads", "done"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model.gguf").write_bytes(b"GGUF" + bytes(1 << 16))
    (tmp_path / "prefixes").touch()
    return tmp_path


def tried(walls: str, attempt: str, folder: Path) -> str:
    return tried_in(walls, attempt, folder)[0]


def tried_in(walls: str, attempt: str, folder: Path) -> tuple[str, list[str]]:
    done = subprocess.run(
        [sys.executable, "-P", INMATE, walls, attempt, folder],
        stdout=subprocess.PIPE,
        check=True,
        timeout=30,
    )
    said: tuple[str, list[str]] = json.loads(done.stdout)
    return said


@pytest.mark.parametrize("attempt", TWELVE)
def test_t44_none_of_the_twelve_escapes_works_in_the_jail(attempt: str, folder: Path) -> None:
    assert tried("jail", attempt, folder) == TWELVE[attempt]


@pytest.mark.parametrize("attempt", MORE)
def test_t44_nor_does_anything_like_them(attempt: str, folder: Path) -> None:
    assert tried("jail", attempt, folder) == MORE[attempt]


@pytest.mark.skipif(os.geteuid() != 0, reason="some attempts need root to work at all")
@pytest.mark.parametrize("attempt", [*TWELVE, *MORE, *NEEDED])
def test_outside_the_jail_each_attempt_works(attempt: str, folder: Path) -> None:
    assert tried("none", attempt, folder) == "done"


@pytest.mark.parametrize("attempt", NEEDED)
def test_what_a_worker_needs_works_in_the_jail(attempt: str, folder: Path) -> None:
    assert tried("jail", attempt, folder) == "done"


@pytest.mark.parametrize(("walls", "attempt", "said"), ALONE)
def test_each_wall_holds_alone(walls: str, attempt: str, said: str, folder: Path) -> None:
    assert tried(walls, attempt, folder) == said


def test_a_kernel_without_landlock_still_has_the_rest_and_it_is_told(folder: Path) -> None:
    walls = "jail of a kernel without landlock"
    assert tried_in(walls, "make_a_tcp_socket", folder) == ["EPERM", ["landlock"]]
    assert tried(walls, "take_two_gigabytes", folder) == "ENOMEM"
    assert tried(walls, "read_passwords", folder) == "done"


def test_a_kernel_without_seccomp_still_has_the_rest_and_it_is_told(folder: Path) -> None:
    walls = "jail of a kernel without seccomp"
    assert tried_in(walls, "read_passwords", folder) == ["EACCES", ["seccomp"]]
    assert tried(walls, "make_a_udp_socket", folder) == "done"


def test_a_thread_from_before_is_told_of(folder: Path) -> None:
    _, lacking = tried_in("jail with an earlier thread", "fork", folder)
    assert lacking == ["landlock.threads"]
