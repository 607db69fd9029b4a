"""The filter's verdicts on both architectures, by a machine for its programs."""

from __future__ import annotations

import errno
import re
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sprat_agent.worker.jail import calls, seccomp
from sprat_agent.worker.jail.seccomp import ALLOW, ARCHITECTURES, ERROR, KILL, Architecture

PID = 4711
REFUSE = ERROR | errno.EPERM
UNKNOWN = ERROR | errno.ENOSYS
THREAD = 0x3D0F00  # the flags by which glibc and musl start one
CHILD = 0x01200011  # and a child
HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}

machines = pytest.mark.parametrize("machine", ARCHITECTURES)


def verdict(found: Architecture, number: int, *arguments: int, audit: int | None = None) -> int:
    """Run the filter over one call, as the kernel does."""
    padded = [*arguments, 0, 0, 0, 0, 0, 0][:6]
    data = struct.pack("<iIQ6Q", number, found.audit if audit is None else audit, 0, *padded)
    steps = seccomp.program(found, PID)
    at = accumulator = 0
    while True:
        code, if_true, if_false, value = steps[at]
        at += 1
        match code:
            case 0x20:
                (accumulator,) = struct.unpack_from("<I", data, value)
            case 0x15:
                at += if_true if accumulator == value else if_false
            case 0x35:
                at += if_true if accumulator >= value else if_false
            case 0x45:
                at += if_true if accumulator & value else if_false
            case 0x06:
                return value
            case _:
                raise AssertionError(f"no such step: {code:#x}")


def number(call: calls.Call, found: Architecture) -> int:
    value = call[found.column]
    assert value is not None
    return value


@machines
def test_each_denied_call_is_refused_whatever_its_arguments(machine: str) -> None:
    found = ARCHITECTURES[machine]
    for call in calls.DENIED.values():
        if call[found.column] is not None:
            assert verdict(found, number(call, found), 1, 2, 3, 4, 5, 6) == REFUSE


@machines
def test_threads_may_start_and_processes_may_not(machine: str) -> None:
    found = ARCHITECTURES[machine]
    assert verdict(found, number(calls.CLONE, found), THREAD) == ALLOW
    assert verdict(found, number(calls.CLONE, found), CHILD) == REFUSE
    assert verdict(found, number(calls.CLONE3, found), 1) == UNKNOWN


@machines
def test_only_what_concerns_this_process_may_be_done_to_one(machine: str) -> None:
    found = ARCHITECTURES[machine]
    assert verdict(found, number(calls.TGKILL, found), PID, PID, 6) == ALLOW
    assert verdict(found, number(calls.TGKILL, found), PID + 1, PID, 6) == REFUSE
    assert verdict(found, number(calls.PRLIMIT64, found), 0) == ALLOW
    assert verdict(found, number(calls.PRLIMIT64, found), PID + 1) == REFUSE


@machines
@given(address=st.integers(1, 2**64 - 1))
def test_bytes_go_only_where_a_socket_is_connected_to(machine: str, address: int) -> None:
    found = ARCHITECTURES[machine]
    assert verdict(found, number(calls.SENDTO, found), 3, 1, 2, 0, 0, 0) == ALLOW
    assert verdict(found, number(calls.SENDTO, found), 3, 1, 2, 0, address, 16) == REFUSE


@machines
@given(option=st.integers(0, 100))
def test_a_worker_cannot_outlive_its_agent_or_become_dumpable(machine: str, option: int) -> None:
    found = ARCHITECTURES[machine]
    expected = REFUSE if option in {1, 4} else ALLOW
    assert verdict(found, number(calls.PRCTL, found), option) == expected


@machines
@given(other=st.integers(0, 2**32 - 1), call=st.integers(0, 500))
def test_a_call_by_another_table_ends_the_process(machine: str, other: int, call: int) -> None:
    found = ARCHITECTURES[machine]
    if other != found.audit:
        assert verdict(found, call, audit=other) == KILL
    assert verdict(found, call | 0x40000000) == KILL  # x32


@machines
@given(call=st.integers(0, 0x3FFFFFFF))
def test_what_is_not_listed_is_allowed(machine: str, call: int) -> None:
    found = ARCHITECTURES[machine]
    judged = (calls.CLONE, calls.CLONE3, calls.TGKILL, calls.PRLIMIT64, calls.SENDTO, calls.PRCTL)
    if call not in {one[found.column] for one in (*calls.DENIED.values(), *judged)}:
        assert verdict(found, call) == ALLOW


@machines
def test_the_numbers_are_the_kernels(machine: str) -> None:
    header = HEADERS[machine]
    if not header.exists():
        pytest.skip(f"no {header}")
    found = ARCHITECTURES[machine]
    pattern = r"#define __NR(?:3264)?_(\w+) (\d+)$"
    known = dict(re.findall(pattern, header.read_text(), re.MULTILINE))
    judged = {
        "clone": calls.CLONE,
        "clone3": calls.CLONE3,
        "prlimit64": calls.PRLIMIT64,
        "tgkill": calls.TGKILL,
        "sendto": calls.SENDTO,
        "prctl": calls.PRCTL,
    }
    for name, call in {**calls.DENIED, **judged}.items():
        if name in known:
            assert call[found.column] == int(known[name]), name
    assert found.seccomp == int(known["seccomp"])


@machines
def test_the_program_is_one_that_the_kernel_takes(machine: str) -> None:
    steps = seccomp.program(ARCHITECTURES[machine], PID)
    assert len(steps) <= 4096  # BPF_MAXINSNS
    for at, (_, if_true, if_false, _) in enumerate(steps):
        assert max(if_true, if_false) < 256
        assert at + 1 + max(if_true, if_false) < len(steps) or steps[at][0] == 0x06
