"""Every intent has exactly one end, whenever the process dies: the table, the helper, the kills."""

from __future__ import annotations

import itertools
import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from simulators.device import Device, Disk, PowerCutError
from simulators.full_disk import FullState, assert_unbroken
from simulators.intent_writer import read
from simulators.sealed import journal_of
from simulators.signed import assigned, release
from sprat_agent.audit.intents import TAGS, Effect, Intents
from sprat_agent.errors import StateError
from sprat_agent.state import State
from sprat_agent.sync.ports import ExecutionError
from sprat_proto.states import ExecutionState, ReasonCode

TESTS: Final = Path(__file__).parents[2]
OLD = release("1.0.0", [b"old"], counter=1)
NEW = release("2.0.0", [b"new"], counter=2)
BAD = release("3.0.0", [b"bad"], counter=3)
Records = Sequence[dict[str, Any]]


def records_of(journal_bodies: Sequence[bytes]) -> Records:
    return [json.loads(body) for body in journal_bodies]


def ends_of(records: Records) -> dict[int, list[dict[str, Any]]]:
    """Return by intent's position its ends; hold that each end is of one, and like it."""
    intended = {one["seq"]: one for one in records if one["tag"].endswith(":intended")}
    ends: dict[int, list[dict[str, Any]]] = {seq: [] for seq in intended}
    for one in records:
        if one["tag"].endswith(":ended"):
            begun = intended[one["detail"]["intent"]]
            assert begun["seq"] < one["seq"]
            for field in ("subject", "before", "after"):
                assert begun.get(field) == one.get(field)
            assert one["tag"] == begun["tag"].replace("intended", "ended")
            assert (one["outcome"] == "failure") == ("reason" in one)
            ends[begun["seq"]].append(one)
    return ends


def test_every_effect_has_a_pair_of_tags_of_its_own() -> None:
    assert set(TAGS) == set(Effect)
    for effect, (intended, ended) in TAGS.items():
        assert intended == f"agent:{effect}:intended"
        assert ended == f"agent:{effect}:ended"


@pytest.fixture
def state(tmp_path: Path) -> Generator[State]:
    made = State(tmp_path)
    yield made
    made.close()


def all_of(state: State) -> Records:
    return records_of([one.body for one in journal_of(state).batch(100_000, 1 << 30)])


def test_an_effect_that_fails_ends_with_its_code_and_one_that_is_cut_off_stays_open(
    state: State,
) -> None:
    intents = Intents(state, journal_of(state))
    with intents.around(Effect.REMOVAL, "alias/a", "x", ""):
        pass
    failing = ExecutionError(ReasonCode.LOAD_FAILED, "it does not load")
    with pytest.raises(ExecutionError), intents.around(Effect.ACTIVATION, "alias/a", "", "y"):
        raise failing
    with pytest.raises(PowerCutError), intents.around(Effect.ROLLBACK, "alias/a", "y", "x"):
        raise PowerCutError
    ended = [one for one in all_of(state) if one["tag"].endswith(":ended")]
    assert [(one["outcome"], one.get("reason")) for one in ended] == [
        ("success", None),
        ("failure", "LOAD_FAILED"),
    ]
    assert "after" not in ended[0]
    assert [one.effect for one in intents.open()] == [Effect.ROLLBACK]


@pytest.mark.parametrize(("now", "outcome"), [("x", "success"), ("y", "failure"), ("", "failure")])
def test_what_was_cut_off_ends_as_it_is_found_and_only_once(
    state: State, now: str, outcome: str
) -> None:
    intents = Intents(state, journal_of(state))
    intent = intents.begin(Effect.ROLLBACK, "alias/a", "y", "x")
    for _ in range(2):
        Intents(state, journal_of(state)).settle({"alias": lambda _: now})
    intents.end(intent)  # by a process that was thought dead: it is too late
    (end,) = ends_of(all_of(state))[intent.seq]
    assert end["outcome"] == outcome
    assert end.get("reason") == (None if outcome == "success" else "interrupted")
    assert intents.open() == ()


def test_an_end_that_the_disk_does_not_take_is_no_failure_and_is_written_with_the_next(
    state: State,
) -> None:
    journal = journal_of(state)
    journal.begin()
    intents, full = Intents(state, journal), FullState(state)
    intent = intents.begin(Effect.REMOVAL, "alias/a", "x", "")
    full.fill()
    intents.end(intent)
    with pytest.raises(StateError):
        intents.begin(Effect.REMOVAL, "alias/b", "x", "")
    assert [one.seq for one in intents.open()] == [intent.seq]
    full.empty()
    with intents.around(Effect.REMOVAL, "alias/b", "x", ""):
        assert len(ends_of(all_of(state))[intent.seq]) == 1
    assert intents.open() == ()


class Scenario:
    """OLD, then NEW, then BAD which fails its probe, then nothing; cut before the n-th write."""

    def __init__(self, folder: Path, cut_at: int | None, *, after: bool) -> None:
        self.folder = folder
        self.disk = Disk({one.digest: one for one in (OLD, NEW, BAD)})
        babble = ExecutionError(ReasonCode.PROBE_FAILED, "babble")
        self.disk.defects["probe", BAD.digest] = babble
        self.cut_at, self.after = cut_at, after
        self.writes = 0
        self.device = self.opened()

    def opened(self) -> Device:
        device = Device(self.folder, self.disk)
        transaction = device.state.transaction

        @contextmanager
        def cutting() -> Generator[Any]:
            self.writes += 1
            is_cut = self.writes == self.cut_at
            if is_cut and not self.after:
                raise PowerCutError
            with transaction() as connection:
                yield connection
            if is_cut:
                raise PowerCutError

        device.state.transaction = cutting  # pyright: ignore[reportAttributeAccessIssue]
        return device

    async def act(self, version: int) -> None:
        models = {1: [OLD.wanted("e-1")], 2: [NEW.wanted("e-2")], 3: [BAD.wanted("e-3")], 4: []}
        if self.device.ledger.assignment_version() < version:
            self.device.assign(assigned(version, models[version]))
        await self.device.live()

    async def run(self) -> None:
        for version in range(1, 5):
            try:
                await self.act(version)
            except PowerCutError:
                self.device.cut_power()
                self.device = self.opened()
                await self.act(version)

    def assert_told(self) -> None:
        device = self.device
        records = device.journal.batch(100_000, 1 << 30)
        assert_unbroken(records)
        ends = ends_of(records_of([one.body for one in records]))
        assert device.ledger.intents.open() == ()
        assert {seq: len(found) for seq, found in ends.items()} == dict.fromkeys(ends, 1)
        done = [
            (one["tag"].split(":")[1], one["subject"].split("/")[0], one.get("after", ""))
            for (one,) in ends.values()
            if one["outcome"] == "success"
        ]
        # All of it happened in the end, and is told to have.
        assert set(done) >= {
            ("activation", "alias", OLD.digest),
            ("activation", "alias", NEW.digest),
            ("rollback", "alias", NEW.digest),
            ("removal", "alias", ""),
        }
        assert device.phase("e-2") is ExecutionState.SUCCEEDED
        assert device.answers() == ""
        interrupted = [one for (one,) in ends.values() if one.get("reason") == "interrupted"]
        assert len(interrupted) <= 2


@pytest.mark.parametrize(
    "each", [9, pytest.param(1, marks=[pytest.mark.full, pytest.mark.timeout(900)])]
)
async def test_every_intent_has_one_end_wherever_the_power_is_cut(
    tmp_path: Path, each: int
) -> None:
    """Before and after every (9th) single transaction of four rollouts."""
    whole = Scenario(tmp_path / "whole", None, after=False)
    await whole.run()
    whole.assert_told()
    whole.device.close()
    assert whole.writes > 40
    for cut_at, after in itertools.product(range(1, whole.writes + 1, each), [False, True]):
        cut = Scenario(tmp_path / f"{cut_at}-{after}", cut_at, after=after)
        await cut.run()
        cut.assert_told()
        cut.device.close()


@pytest.mark.parametrize(
    "kills", [12, pytest.param(200, marks=[pytest.mark.full, pytest.mark.timeout(900)])]
)
def test_every_intent_has_one_end_after_kills_at_any_instruction(
    tmp_path: Path, kills: int
) -> None:
    draw = random.Random(kills)  # noqa: S311 - when to kill
    told: list[int] = []
    for _ in range(kills):
        command = [sys.executable, "-m", "simulators.intent_writer", str(tmp_path)]
        with subprocess.Popen(command, cwd=TESTS, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            first = writer.stdout.readline()
            # When the kill comes is the case itself, not a wait for something.
            time.sleep(draw.uniform(0, 0.05))
            writer.send_signal(signal.SIGKILL)
            told += [int(line) for line in (first, *writer.stdout.read().splitlines()[:-1])]
    state = State(tmp_path)
    journal = journal_of(state)
    intents = Intents(state, journal)
    assert len(intents.open()) <= 1
    intents.settle({"thing": lambda _: read(tmp_path / "thing")})
    records = journal.batch(1_000_000, 1 << 30)
    assert_unbroken(records)
    ends = ends_of(records_of([one.body for one in records]))
    assert {len(found) for found in ends.values()} == {1}
    assert set(told) <= set(ends)
    # What is told to be done is what the file said, in turn.
    said = [int(one["after"]) for (one,) in ends.values() if one["outcome"] == "success"]
    assert said == list(range(1, int(read(tmp_path / "thing")) + 1))
    state.close()
