from __future__ import annotations

from pathlib import Path

import pytest
from simulators.full_disk import fill, small_disk
from sprat_agent.registry.scratch import clear_scratch, scratch_folder


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    folder = tmp_path / "memory"
    folder.mkdir(mode=0o1777)
    folder.chmod(0o1777)
    return folder


def test_it_is_in_memory_for_nobody_else_to_read_and_gone_afterwards(
    tmp_path: Path, memory: Path
) -> None:
    with scratch_folder(tmp_path / "scratch", memory) as folder:
        assert folder.parent == memory
        assert folder.stat().st_mode & 0o077 == 0
        (folder / "root.json").write_bytes(b"{}")
    assert list(memory.iterdir()) == []


def test_where_the_memorys_folder_is_full_it_is_on_the_disk(tmp_path: Path) -> None:
    with small_disk(tmp_path / "memory", 1 << 20) as memory:
        with scratch_folder(tmp_path / "scratch", memory) as folder:
            assert folder.parent == tmp_path / "scratch"
        assert list((tmp_path / "scratch").iterdir()) == []


def test_it_is_nowhere_where_somebody_else_could_exchange_it(tmp_path: Path, memory: Path) -> None:
    memory.chmod(0o777)
    with scratch_folder(tmp_path / "scratch", memory) as folder:
        assert folder.parent == tmp_path / "scratch"


def test_where_the_disk_is_full_too_it_is_elsewhere(tmp_path: Path, memory: Path) -> None:
    with small_disk(tmp_path / "disk", 1 << 20) as disk:
        (disk / "scratch").mkdir()
        fill(disk, 0)
        with scratch_folder(disk / "scratch", tmp_path / "none", memory) as folder:
            assert folder.parent == memory
            (folder / "root.json").write_bytes(b"{}")
        assert list(memory.iterdir()) == []


def test_without_room_anywhere_it_is_where_it_always_is(tmp_path: Path) -> None:
    none = tmp_path / "none"
    with (
        small_disk(tmp_path / "disk", 1 << 20) as disk,
        scratch_folder(disk / "scratch", none, none) as folder,
    ):
        assert folder.parent == disk / "scratch"


def test_what_a_kill_left_is_cleared_and_what_another_agent_uses_is_not(
    tmp_path: Path, memory: Path
) -> None:
    mine, others = tmp_path / "mine" / "scratch", tmp_path / "others" / "scratch"
    with scratch_folder(others, memory) as kept, scratch_folder(mine, memory) as left:
        (mine / "left").mkdir()
        clear_scratch(mine, memory)
        assert not left.exists()
        assert kept.exists()
        assert list(mine.iterdir()) == []
        left.mkdir()
