"""What this agent relies on in python-tuf beyond its documented ways, and rules of its own."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from simulators.tuf_world import NOW, TufWorld
from sprat_agent.registry.source import MemorySource
from sprat_agent.registry.tuf_client import (
    Anchor,
    MetadataRefusedError,
    look,
    named_in,
    pinned_keys,
    set_reference_time,
)
from tuf.ngclient import Updater

# What is private to python-tuf is what two of these tests are about.
# pyright: reportPrivateUsage=false


def test_the_time_by_which_tuf_judges_can_still_be_set(tmp_path: Path) -> None:
    """If this fails, python-tuf has moved `reference_time`: find where, or use its public way."""
    pinned = TufWorld().image.pinned
    updater = Updater(str(tmp_path), "tuf:///", bootstrap=pinned)
    moment = datetime(2031, 5, 5, tzinfo=UTC)
    set_reference_time(updater, moment)
    assert updater._trusted_set.reference_time == moment


def test_a_tuf_without_it_is_refused_at_once(tmp_path: Path) -> None:
    updater = Updater(str(tmp_path), "tuf:///", bootstrap=TufWorld().image.pinned)
    del updater._trusted_set.reference_time
    with pytest.raises(AssertionError, match="reference_time"):
        set_reference_time(updater, NOW)


def test_the_scratch_folder_is_gone_after_each_look(tmp_path: Path) -> None:
    world = TufWorld()
    anchor = Anchor("image", world.image.pinned, tmp_path)
    with look(anchor, (), MemorySource(world.files()), lambda _: NOW) as seen:
        seen.refresh()
        assert seen.version == 1
        folder = seen._folder
        assert (folder / "timestamp.json").exists()
    assert not folder.exists()


def test_time_is_asked_for_with_the_keys_of_the_newest_root(tmp_path: Path) -> None:
    world = TufWorld()
    pinned = world.image.pinned
    world.image.rotate_targets()
    asked: list[str] = []

    def time(keys: str) -> datetime:
        asked.append(keys)
        return NOW

    with look(Anchor("image", pinned, tmp_path), (), MemorySource(world.files()), time) as seen:
        seen.refresh()
    assert asked == [pinned_keys(world.image.contents["2.root.json"])]
    assert asked != [pinned_keys(pinned)]


@pytest.mark.parametrize("data", [b"", b"{}", b"[" * 9999])
def test_what_is_no_metadata_is_refused_by_name(data: bytes) -> None:
    with pytest.raises(MetadataRefusedError, match="DeserializationError"):
        pinned_keys(data)
    with pytest.raises(MetadataRefusedError, match="DeserializationError"):
        named_in(data, "x")
