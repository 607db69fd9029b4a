"""The file of prefixes as the agent opens it, and what it is good for with a real worker."""

from __future__ import annotations

import os
import signal
import stat
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from simulators import models
from simulators.waiting import until
from simulators.workbench import PLENTY, QUICK, CountedCrashes
from sprat_agent.registry.store import Store
from sprat_agent.runtime import prefixes
from sprat_agent.runtime.limits import Limits
from sprat_agent.runtime.supervisor import Supervisor
from sprat_agent.runtime.wire import Done, Request, Sampling, Text
from sprat_agent.sync.ports import Loadable

MOST = 4 << 20
SYSTEM = "You are the voice of a lathe. Be brief, be kind, and say what you do not know. " * 3


@pytest.fixture
def loadable(model_files: list[Path]) -> Loadable:
    return models.loadable(model_files, context=512)


def opened_once(folder: Path, loadable: Loadable, most: int = MOST) -> prefixes.PrefixFile:
    with prefixes.opened(folder, loadable, most) as file:
        return file


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_only_the_agents_user_may_read_it(tmp_path: Path, loadable: Loadable) -> None:
    folder = tmp_path / "prefixes"
    with prefixes.opened(folder, loadable, MOST) as file:
        assert file.descriptors == (file.descriptor,)
        assert (file.limit, len(file.key)) == (MOST, 64)
        assert stat.S_IMODE(os.fstat(file.descriptor).st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_two_workers_of_one_model_never_share_it(tmp_path: Path, loadable: Loadable) -> None:
    with prefixes.opened(tmp_path, loadable, MOST):
        assert opened_once(tmp_path, loadable).descriptors == ()
    assert opened_once(tmp_path, loadable).descriptors


def test_a_version_with_the_same_weights_has_its_own(
    tmp_path: Path, model_files: list[Path]
) -> None:
    one, other = (models.loadable(model_files, release=release) for release in ("1", "2"))
    with prefixes.opened(tmp_path, one, MOST) as its, prefixes.opened(tmp_path, other, MOST) as own:
        assert its.key != own.key
        assert os.fstat(its.descriptor).st_ino != os.fstat(own.descriptor).st_ino


def test_the_file_of_another_library_is_removed(
    tmp_path: Path, loadable: Loadable, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened_once(tmp_path, loadable)
    before = names(tmp_path)
    monkeypatch.setattr(prefixes, "_library", lambda: "llama-cpp-python 99")
    opened_once(tmp_path, loadable)
    assert len(names(tmp_path)) == len(before) == 1
    assert names(tmp_path) != before


def test_switched_off_all_files_are_removed(tmp_path: Path, loadable: Loadable) -> None:
    folder = tmp_path / "prefixes"
    opened_once(folder, loadable)
    supervisor_of(tmp_path, folder)
    assert len(names(folder)) == 1
    supervisor_of(tmp_path, folder, replace(QUICK, prefix_bytes=0))
    assert opened_once(folder, loadable, 0).descriptors == ()
    assert not folder.exists()


def test_nowhere_it_is_not(loadable: Loadable) -> None:
    with prefixes.opened(None, loadable, MOST) as file:
        assert file == prefixes.PrefixFile()


def test_a_link_in_its_place_is_not_followed(tmp_path: Path, loadable: Loadable) -> None:
    folder, other = tmp_path / "prefixes", tmp_path / "other"
    other.write_text("somebody's")
    opened_once(folder, loadable)
    (path,) = folder.iterdir()
    path.unlink()
    path.symlink_to(other)
    assert opened_once(folder, loadable).descriptors == ()
    assert other.read_text() == "somebody's"


def test_it_takes_a_part_of_what_is_free(tmp_path: Path, loadable: Loadable) -> None:
    assert prefixes.limited(100, 0, 1000) == 100
    assert prefixes.limited(100, 0, 40) == 10
    assert prefixes.limited(100, 30, 40) == 40
    with prefixes.opened(tmp_path, loadable, MOST) as file:
        os.ftruncate(file.descriptor, MOST)
    with prefixes.opened(tmp_path, loadable, MOST // 2) as file:
        assert os.fstat(file.descriptor).st_size == file.limit == MOST // 2


def test_it_is_removed_with_the_version(tmp_path: Path, loadable: Loadable) -> None:
    store = Store(tmp_path)
    store.install(loadable.digest, b"{}", b"{}", {})
    with prefixes.opened(tmp_path / "prefixes", loadable, MOST) as file:
        os.ftruncate(file.descriptor, 1000)
    assert store.remove_prefixes() == 0
    assert len(names(tmp_path / "prefixes")) == 1
    store.remove_versions([loadable.digest])
    assert store.remove_prefixes() == 1000
    assert names(tmp_path / "prefixes") == []


def hears_nothing(_tag: str, _subject: str, _details: Mapping[str, object]) -> None:
    """Nobody asks for events."""


def supervisor_of(folder: Path, prefix_dir: Path, limits: Limits = QUICK) -> Supervisor:
    return Supervisor(
        PLENTY,
        folder / "run",
        hears_nothing,
        crashes=CountedCrashes(),
        threads=1,
        limits=limits,
        prefix_dir=prefix_dir,
    )


@asynccontextmanager
async def agent(folder: Path, loadable: Loadable, prefix_dir: Path) -> AsyncGenerator[Supervisor]:
    """Yield a supervisor of real workers, as after a start of the agent."""
    supervisor = supervisor_of(folder, prefix_dir)
    await supervisor.load_committed(loadable)
    try:
        yield supervisor
    finally:
        await supervisor.close()


async def ask(supervisor: Supervisor, text: str) -> tuple[str, Done]:
    """Return a greedy answer."""
    request = Request(Text(text), Sampling(temperature=0), max_tokens=24)
    async with supervisor.answering("assistant", request) as answer:
        said = "".join([piece.text async for piece in answer])
        assert answer.done
        return said, answer.done


def spilled(supervisor: Supervisor) -> int:
    return supervisor.statuses()[0].figures.spilled_bytes


async def test_a_restarted_agent_does_not_compute_a_long_prompt_again(
    tmp_path: Path, loadable: Loadable
) -> None:
    kept = tmp_path / "prefixes"
    async with agent(tmp_path, loadable, kept) as first:
        await ask(first, f"{SYSTEM}How fast?")
        await until(lambda: spilled(first))
        # From the prefix in the sequence, so in the same steps as after the restart.
        expected, done = await ask(first, f"{SYSTEM}How loud?")
        assert done.cached_tokens >= len(SYSTEM)

    async with agent(tmp_path, loadable, kept) as second:
        said, again = await ask(second, f"{SYSTEM}How loud?")
        await until(lambda: second.statuses()[0].figures.restored_tokens)
        figures = second.statuses()[0].figures
    assert (said, again.cached_tokens) == (expected, done.cached_tokens)
    assert figures.prefill_tokens < again.prompt_tokens - len(SYSTEM) + 10
    (path,) = kept.iterdir()
    assert path.stat().st_size <= QUICK.prefix_bytes


async def test_a_worker_that_was_killed_finds_its_prefixes_again(
    tmp_path: Path, loadable: Loadable
) -> None:
    async with agent(tmp_path, loadable, tmp_path / "prefixes") as supervisor:
        await ask(supervisor, f"{SYSTEM}How fast?")
        await until(lambda: spilled(supervisor))
        (status,) = supervisor.statuses()
        assert status.worker_pid
        os.kill(status.worker_pid, signal.SIGKILL)
        await until(lambda: supervisor.statuses()[0].worker_pid not in {None, status.worker_pid})
        await until(lambda: supervisor.statuses()[0].can_answer)
        _, done = await ask(supervisor, f"{SYSTEM}How loud?")
    assert done.cached_tokens >= len(SYSTEM)


async def test_a_worker_whose_file_was_damaged_answers_as_without(
    tmp_path: Path, loadable: Loadable
) -> None:
    kept = tmp_path / "prefixes"
    async with agent(tmp_path, loadable, kept) as first:
        expected, _ = await ask(first, f"{SYSTEM}How fast?")
        await until(lambda: spilled(first))
    (path,) = kept.iterdir()
    data = bytearray(path.read_bytes())
    data[-1000] ^= 1
    path.write_bytes(data)
    async with agent(tmp_path, loadable, kept) as second:
        said, done = await ask(second, f"{SYSTEM}How fast?")
    assert (said, done.cached_tokens) == (expected, 0)
