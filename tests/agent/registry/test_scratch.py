from __future__ import annotations

from pathlib import Path

from simulators.full_disk import fill, small_disk
from sprat_agent.registry.scratch import scratch_folder


def test_it_is_on_the_disk_and_gone_afterwards(tmp_path: Path) -> None:
    place = tmp_path / "scratch"
    with scratch_folder(place) as folder:
        assert folder.parent == place
        (folder / "root.json").write_bytes(b"{}")
    assert list(place.iterdir()) == []


def test_on_a_full_disk_it_is_in_memory_for_nobody_else_to_read(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1 << 20) as disk:
        (disk / "scratch").mkdir()
        fill(disk, 0)
        memory = tmp_path / "memory"
        memory.mkdir()
        with scratch_folder(disk / "scratch", (tmp_path / "none", memory)) as folder:
            assert folder.parent == memory
            assert folder.stat().st_mode & 0o077 == 0
            (folder / "root.json").write_bytes(b"{}")
        assert list(memory.iterdir()) == []


def test_without_room_anywhere_it_is_where_it_always_is(tmp_path: Path) -> None:
    with (
        small_disk(tmp_path / "disk", 1 << 20) as disk,
        scratch_folder(disk / "scratch", (tmp_path / "none",)) as folder,
    ):
        assert folder.parent == disk / "scratch"
