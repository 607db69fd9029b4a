"""Going back by itself from a release that crashes: real workers, real rows."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from simulators import models, scripted_worker, signed
from simulators.models import Shape, write_model
from simulators.sealed import journal_of
from simulators.waiting import until
from simulators.workbench import PLENTY, QUICK
from sprat_agent.runtime import faults
from sprat_agent.runtime.supervisor import Supervisor
from sprat_agent.runtime.wire import Conversation, Message, Request, Sampling
from sprat_agent.state import State
from sprat_agent.sync import plan
from sprat_agent.sync.crashes import CrashRows
from sprat_agent.sync.ledger import Ledger
from sprat_agent.sync.outbox import Outbox
from sprat_agent.sync.plan import Committed, Execution, Held
from sprat_agent.sync.ports import ExecutionError, Installed, Loadable, Registry
from sprat_agent.sync.retreat import Retreat
from sprat_proto.assignment import AssignedModel
from sprat_proto.states import Step

NOW = datetime(2026, 11, 25, tzinfo=UTC)


def wanted(release: str, digest: str) -> AssignedModel:
    return AssignedModel(
        alias="assistant",
        publisher="acme",
        model="tiny",
        release=release,
        variant="f32",
        digest=digest,
        size=1,
        execution_id=f"run-{release}",
        rollout_id="rollout",
    )


class Shelf:
    """What is installed, by digest; only what a retreat asks for."""

    def __init__(self, loadables: dict[str, Loadable]) -> None:
        self._loadables = loadables

    async def open_installed(self, one: AssignedModel, context: int) -> Installed:
        del context
        return Installed(signed.release().manifest, self._loadables[one.digest])


@dataclass
class Device:
    """A device that committed release 1.0.0, then 2.0.0."""

    folder: Path
    loadables: dict[str, Loadable]

    def __post_init__(self) -> None:
        (self.folder / "controls").mkdir(parents=True)
        self.tags: list[str] = []
        self.start()

    def start(self) -> None:
        self.state = State(self.folder)
        self.journal = journal_of(self.state, lambda: NOW)
        self.ledger = Ledger(self.state, self.journal, Outbox(self.state), lambda: NOW)
        self.crashes = CrashRows(self.state)
        self.supervisor = Supervisor(
            PLENTY,
            self.folder / "run",
            self._note,
            crashes=self.crashes,
            threads=1,
            limits=QUICK,
            command=scripted_worker.command(self.folder / "controls"),
        )
        by_digest = {one.digest: one for one in self.loadables.values()}
        shelf: Registry = Shelf(by_digest)  # pyright: ignore[reportAssignmentType] - one method of it
        self.retreat = Retreat(self.ledger, shelf, self.supervisor, self.crashes)
        self.supervisor.on_quarantine = self.retreat.wake
        self.returned = 0
        self.retreat.on_return = self._count

    def _note(self, tag: str, subject: str, details: Mapping[str, object]) -> None:
        del subject, details
        self.tags.append(tag)

    def _count(self) -> None:
        self.returned += 1

    def returns(self) -> list[dict[str, Any]]:
        """Return the audit records of going back."""
        records = [json.loads(one.body) for one in self.journal.batch(1000, 1 << 20)]
        return [one for one in records if one["tag"] == "agent:alias:returned"]

    def commit(self, release: str) -> None:
        one = self.loadables[release]
        execution = Execution(f"run-{release}", wanted(release, one.digest), 256, Step.COMMITTING)
        queued = self.ledger.queue(execution.wanted, 256)
        with self.state.transaction() as connection:
            connection.execute(
                "UPDATE execution SET phase = 'COMMITTING' WHERE id = ?", (queued.execution_id,)
            )
        self.ledger.commit(execution, signed.release().manifest)

    async def ask(self, text: str) -> str:
        chat = Request(Conversation((Message("user", text),)), Sampling(temperature=0))
        async with self.supervisor.answering("assistant", chat) as answer:
            async for _ in answer:
                pass
            return answer.loadable.release

    async def close(self) -> None:
        await self.supervisor.close()
        self.state.close()


@pytest.fixture
async def device(tmp_path: Path) -> AsyncGenerator[Device]:
    files = write_model(tmp_path / "model.gguf", Shape())
    first = models.loadable(files)
    made = Device(
        tmp_path / "device", {"1.0.0": first, "2.0.0": models.with_release(first, "2.0.0")}
    )
    made.commit("1.0.0")
    made.commit("2.0.0")
    yield made
    await made.close()


async def test_t46_a_release_that_crashes_gives_way_to_the_one_before(device: Device) -> None:
    await device.supervisor.load_committed(device.loadables["2.0.0"])
    looking = asyncio.create_task(device.retreat.run())
    assert await device.ask("hello") == "2.0.0"
    for _ in range(3):
        await until(lambda: any(one.can_answer for one in device.supervisor.statuses()))
        with pytest.raises(faults.WorkerCrashedError):
            await device.ask("crash")
    crashed_at = monotonic()
    await until(lambda: device.returned == 1)
    assert await device.ask("hello") == "1.0.0"
    assert monotonic() - crashed_at < 5
    assert [one.loadable.release for one in device.supervisor.running()] == ["1.0.0"]
    assert device.ledger.committed()["assistant"].wanted.release == "1.0.0"
    assert "agent:model:quarantined" in device.tags
    (record,) = device.returns()
    assert record["subject"] == "alias/assistant"
    assert record["detail"] == {
        "from": device.loadables["2.0.0"].digest,
        "to": device.loadables["1.0.0"].digest,
        "release": "1.0.0",
    }
    looking.cancel()


async def test_killed_between_counting_and_going_back_it_goes_back_at_the_next_start(
    device: Device,
) -> None:
    for _ in range(3):
        device.crashes.note(device.loadables["2.0.0"].digest)
    await device.close()
    device.start()
    await device.retreat.look()
    assert await device.ask("hello") == "1.0.0"
    assert device.crashes.count(device.loadables["2.0.0"].digest) == 3
    await device.retreat.look()
    assert device.returned == 1


async def test_where_there_is_nothing_to_go_back_to_the_alias_says_why(device: Device) -> None:
    for release in ("1.0.0", "2.0.0"):
        for _ in range(3):
            device.crashes.note(device.loadables[release].digest)
    with pytest.raises(ExecutionError):  # as at the agent's start
        await device.supervisor.load_committed(device.loadables["2.0.0"])
    await device.retreat.look()
    assert device.returned == 0
    assert device.ledger.committed()["assistant"].wanted.release == "2.0.0"
    (status,) = device.supervisor.statuses()
    assert not status.can_answer
    assert "tiny@2.0.0+f32 crashed 3 times on this device" in status.reason


@pytest.mark.parametrize(
    ("bad", "expected"),
    [({"b" * 64}, "1.0.0"), ({"a" * 64, "b" * 64}, None)],
)
def test_the_former_is_what_was_committed_before_and_does_not_crash(
    bad: set[str], expected: str | None
) -> None:
    one = Committed(wanted("2.0.0", "b" * 64), 256, Held(wanted("1.0.0", "a" * 64), 128))
    found = plan.former(one, bad.__contains__)
    assert (found.wanted.release if found else None) == expected
    assert plan.former(Committed(wanted("1.0.0", "a" * 64), 256), bad.__contains__) is None
