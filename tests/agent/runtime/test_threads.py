from __future__ import annotations

from pathlib import Path

import pytest
from sprat_agent.runtime.threads import Ticks, others_share, ticks_of_machine, usable_threads

STAT = "cpu  10 1 5 80 4 0 2 0 0 0\ncpu0 5 1 2 40 2 0 1 0 0 0\nintr 1\n"
OURS = "77 (a name ) with) R 1 77 77 0 -1 4 0 0 0 0 6 2 0 0 20 0 3 0 9 0 0"


def test_the_ticks_of_a_machine_and_of_a_worker_are_read() -> None:
    assert ticks_of_machine(STAT, [OURS, OURS]) == Ticks(total=102, busy=18, ours=16)


def test_this_machines_own_files_are_understood() -> None:
    own = Path("/proc/self/stat").read_text(encoding="ascii")
    found = ticks_of_machine(Path("/proc/stat").read_text(encoding="ascii"), [own])
    assert found.total >= found.busy >= found.ours > 0


def test_what_is_not_proc_stat_is_refused() -> None:
    with pytest.raises(ValueError, match="expected the line `cpu` first"):
        ticks_of_machine("intr 1\n", [])


@pytest.mark.parametrize(
    ("busy", "ours", "expected"),
    [(0, 0, 0.0), (100, 100, 0.0), (100, 0, 1.0), (150, 100, 0.5), (10, 20, 0.0)],
)
def test_others_use_what_is_busy_and_not_ours(busy: int, ours: int, expected: float) -> None:
    before = Ticks(1000, 500, 100)
    now = Ticks(1200, 500 + busy, 100 + ours)
    assert others_share(before, now, processors=2) == expected


def test_two_looks_at_the_same_moment_tell_nothing() -> None:
    assert others_share(Ticks(1, 1, 0), Ticks(1, 1, 0), processors=2) == 0


@pytest.mark.parametrize(
    ("most", "processors", "others", "expected"),
    [
        (2, 2, 0.0, 2),
        (2, 2, 0.5, 2),  # 21.9 tokens a second against 19.1
        (2, 2, 0.75, 1),
        (2, 2, 1.0, 1),  # 17.1 tokens a second against 9.9
        (2, 2, 2.0, 1),
        (4, 4, 1.0, 3),
        (2, 4, 1.0, 2),
        (1, 1, 0.0, 1),
    ],
)
def test_a_thread_is_used_for_each_processor_that_is_free_enough(
    most: int, processors: int, others: float, expected: int
) -> None:
    assert usable_threads(most, processors, others) == expected
