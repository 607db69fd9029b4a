"""A journal whose process is killed at any instruction: nothing lost, nothing doubled, one log."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest
from simulators.sealed import SEED, journal_of
from sprat_agent.state import State
from sprat_controller.audit import device_logs
from sprat_controller.audit.device_logs import Head, Sealed

TESTS: Final = Path(__file__).parents[2]
LONGEST_LIFE_S: Final = 0.06  # after the first record: some dozens of records


@dataclass
class Collector:
    """The controller's end: what it keeps of the log, and how far that goes."""

    head: Head = field(default_factory=lambda: device_logs.beginning(SEED))
    bodies: list[bytes] = field(default_factory=list[bytes])

    def take(self, state: State, at_most: int) -> None:
        """Take in the oldest records that the device keeps, of which it may have some already."""
        records = journal_of(state).batch(at_most, 1 << 30)
        sealed = [Sealed(one.seq, one.body, one.seal) for one in records]
        followed = device_logs.follow(self.head, sealed)
        assert followed.broken is None
        # No gap: what is not acknowledged begins where this ends, or before.
        assert not records or records[0].seq <= self.head.size + 1
        self.head = followed.head
        self.bodies += [one.body for one in followed.fresh]


def killed_after(folder: Path, acknowledged: int, lives_s: float) -> int:
    """Run a writer for so long after its first record; return the last position that it told."""
    command = [sys.executable, "-m", "simulators.journal_writer", str(folder), str(acknowledged)]
    with subprocess.Popen(command, cwd=TESTS, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        first = writer.stdout.readline()
        # When the kill comes is the case itself, not a wait for something.
        time.sleep(lives_s)
        writer.send_signal(signal.SIGKILL)
        told = [first, *writer.stdout.read().splitlines()]
    # A last line may be cut: what it told is what ends with a line end.
    return int(told[-2] if len(told) > 1 else told[-1])


@pytest.mark.parametrize(
    "kills", [12, pytest.param(200, marks=[pytest.mark.full, pytest.mark.timeout(900)])]
)
def test_t35_kills_lose_nothing_that_was_told_and_double_nothing(
    tmp_path: Path, kills: int
) -> None:
    draw = random.Random(kills)  # noqa: S311 - when to kill
    collector, told = Collector(), 0
    for _ in range(kills):
        before = collector.head.size
        told = killed_after(tmp_path, before, draw.uniform(0, LONGEST_LIFE_S))
        state = State(tmp_path)
        journal = journal_of(state)
        assert told < journal.next_seq()
        # The acknowledgement that it began with was carried out: what was freed was here.
        assert journal.oldest_unacknowledged() == before + 1
        # Sometimes the batch is lost on the way, sometimes only a part arrives.
        collector.take(state, draw.choice([0, 1, 10, 10_000]))
        state.close()
    state = State(tmp_path)
    collector.take(state, 1 << 30)
    assert collector.head.size == journal_of(state).next_seq() - 1 >= told
    assert collector.head.root == journal_of(state).root_at(collector.head.size)
    state.close()
    assert len(collector.bodies) == collector.head.size
    whole = [f'"seq":{seq},'.encode() for seq in range(1, len(collector.bodies) + 1)]
    assert all(seq in body for seq, body in zip(whole, collector.bodies, strict=True))
