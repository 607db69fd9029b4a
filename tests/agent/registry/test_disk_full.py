"""A real, small disk that something else fills up while a version is taken in (T47)."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest
from simulators.blob_source import BlobSource, serving
from simulators.full_disk import fill, small_disk
from simulators.shop import Shop
from simulators.signed import Release, release
from simulators.trusting import HARDWARE, WorldRemote, judge, trusting
from simulators.tuf_world import TufWorld
from sprat_agent.errors import StateError
from sprat_agent.registry.fetch import Access, Fetcher, Sources
from sprat_agent.registry.local import LocalRegistry
from sprat_agent.registry.store import Store
from sprat_agent.state import State
from sprat_agent.sync.ports import ExecutionError
from sprat_proto.states import ReasonCode

DISK = 4 << 20  # bytes
KIB = 1 << 10


@pytest.fixture
def shop(tmp_path: Path, authority: Path) -> Generator[Shop]:
    """A shop on a disk of its own; nobody looks how much is free before it is written to."""
    access, world = Access(), TufWorld()
    remote, source, ca = WorldRemote(world), BlobSource(), authority / "root.pem"
    with (
        small_disk(tmp_path / "disk", DISK) as folder,
        serving(source, authority / "server.pem", authority / "server.key"),
    ):
        state = State(folder)
        trust = trusting(world, state, folder, remote)
        access.grant(Sources((source.url,), source.bearer))
        store = Store(folder)
        registry = LocalRegistry(
            store,
            Fetcher(access, ca),
            judge(trust),
            trust.image_anchor,
            HARDWARE,
            free=lambda _: 1 << 30,
        )
        yield Shop(folder, source, world, remote, state, trust, access, store, registry, ca)
        state.close()


async def take_in(shop: Shop, one: Release) -> None:
    await shop.registry.download(one.wanted("e"))
    await shop.registry.verify(one.wanted("e"))
    await shop.registry.install(one.wanted("e"))


async def end_of(shop: Shop, one: Release) -> str:
    """Take a version in and return how that ended."""
    try:
        await take_in(shop, one)
    except ExecutionError as error:
        return error.code
    except StateError as error:
        return "state" if "full" in str(error) else str(error)
    return "done"


async def test_t47_a_version_is_taken_in_whole_or_not_at_all_however_much_is_free(
    shop: Shop, weights: bytes
) -> None:
    old, new = release("1.0.0", [weights]), release("2.0.0", [weights[:-1] + b"?"], counter=2)
    shop.publish(old)
    await take_in(shop, old)
    shop.publish(new)
    ends: list[str] = []
    for left in (0, *(4 * KIB << step for step in range(9))):
        filler = fill(shop.folder, left)
        ends.append(await end_of(shop, new))
        opened = await shop.registry.open_installed(old.wanted("e", "chat"), 512)
        assert opened.loadable.files[0].path.read_bytes() == weights
        if ends[-1] != "done":
            assert new.digest not in shop.store.versions()
        filler.unlink()
    assert set(ends) <= {"state", ReasonCode.INSUFFICIENT_DISK, "done"}
    assert ends[0] != "done"
    assert ReasonCode.INSUFFICIENT_DISK in ends
    assert ends[-1] == "done"
    await shop.registry.open_installed(new.wanted("e"), 512)
