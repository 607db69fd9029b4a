"""A supervisor whose workers are real processes with an engine that does as it is told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sprat_agent.runtime.limits import Limits
from sprat_agent.runtime.served import Status
from sprat_agent.runtime.supervisor import Supervisor
from sprat_agent.runtime.wire import Conversation, Message, Request, Sampling

from simulators import scripted_worker
from simulators.waiting import until

PLENTY = 1 << 30
QUICK = Limits(
    load_timeout_s=20,
    ping_interval_s=0.05,
    ping_timeout_s=10,
    stall_timeout_s=10,
    max_queued=3,
    hold_s=20,
    drain_timeout_s=20,
    restart_first_s=0.01,
    restart_longest_s=0.05,
)


class CountedCrashes:
    """Crashes in memory; a test that is about something else lets them not count."""

    def __init__(self, *, do_count: bool = False) -> None:
        self.counts: Counter[str] = Counter()
        self.do_count = do_count

    def note(self, digest: str) -> int:
        self.counts[digest] += 1
        return self.count(digest)

    def count(self, digest: str) -> int:
        return self.counts[digest] if self.do_count else 0


@dataclass
class Bench:
    """A supervisor under test, what it says, and the controls of its workers."""

    folder: Path
    budget_bytes: int = PLENTY
    limits: Limits = QUICK
    events: list[tuple[str, str, Mapping[str, Any]]] = field(
        default_factory=list[tuple[str, str, Mapping[str, Any]]]
    )

    crashes: CountedCrashes = field(default_factory=CountedCrashes)
    most_bytes: int = 0  # in memory together, at any event

    def __post_init__(self) -> None:
        self.controls = self.folder / "controls"
        self.controls.mkdir(parents=True)
        self.supervisor = Supervisor(
            self.budget_bytes,
            self.folder / "run",
            self._take,
            crashes=self.crashes,
            threads=1,
            limits=self.limits,
            command=scripted_worker.command(self.controls),
        )

    def _take(self, tag: str, subject: str, details: Mapping[str, object]) -> None:
        self.events.append((tag, subject, details))
        self.most_bytes = max(self.most_bytes, self.memory_bytes())

    def memory_bytes(self) -> int:
        """Return what all models in memory take."""
        return sum(one.memory_bytes for one in self.supervisor.statuses())

    def control(self, name: str, text: str = "") -> None:
        (self.controls / name).write_text(text)

    def statuses(self) -> dict[str, Status]:
        return {one.alias: one for one in self.supervisor.statuses()}

    def tags(self) -> list[str]:
        return [tag for tag, _, _ in self.events]

    async def ask(self, text: str, name: str = "assistant") -> tuple[str, str]:
        """Return the release that answered and its text."""
        async with self.supervisor.answering(name, say(text)) as answer:
            return answer.loadable.release, "".join([piece.text async for piece in answer]).strip()

    def pid(self, alias: str = "assistant", *, is_candidate: bool = False) -> int:
        """Return the process id of a worker that is there."""
        (status,) = (one for one in self.supervisor.statuses() if one.alias == alias)
        pid = status.candidate_pid if is_candidate else status.worker_pid
        assert pid is not None
        return pid

    def pids(self) -> list[int]:
        """Return the process ids of all workers."""
        statuses = self.supervisor.statuses()
        all_pids = [pid for one in statuses for pid in (one.worker_pid, one.candidate_pid)]
        return [pid for pid in all_pids if pid is not None]

    async def can_answer(self, alias: str = "assistant") -> None:
        statuses = self.supervisor.statuses
        await until(lambda: any(one.alias == alias and one.can_answer for one in statuses()))


def say(text: str) -> Request:
    return Request(Conversation((Message("user", text),)), Sampling(temperature=0))
