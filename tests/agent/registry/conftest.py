"""Both repositories, a source of blobs over real TLS, and a device's registry on a real disk."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest
from simulators.blob_source import BlobSource, serving
from simulators.models import Shape, write_model
from simulators.pki import Pki
from simulators.shop import Shop
from simulators.trusting import HARDWARE, WorldRemote, judge, trusting
from simulators.tuf_world import TufWorld
from sprat_agent.registry.fetch import Access, Fetcher, Sources
from sprat_agent.registry.local import LocalRegistry
from sprat_agent.registry.store import Store
from sprat_agent.state import State


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("authority")
    ca = Pki()
    pair = ca.server()
    (folder / "server.pem").write_bytes(pair.certificate_pem)
    (folder / "server.key").write_bytes(pair.key_pem)
    (folder / "root.pem").write_bytes(ca.root_pem)
    return folder


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A real, small model file of many pieces."""
    (path,) = write_model(tmp_path_factory.mktemp("model") / "model.gguf", Shape())
    return path.read_bytes()


@pytest.fixture
def shop(tmp_path: Path, authority: Path) -> Generator[Shop]:
    access, store, state, world = Access(), Store(tmp_path), State(tmp_path), TufWorld()
    remote = WorldRemote(world)
    trust = trusting(world, state, tmp_path, remote)
    ca = authority / "root.pem"
    source = BlobSource()
    with serving(source, authority / "server.pem", authority / "server.key"):
        access.grant(Sources((source.url,), source.bearer))
        registry = LocalRegistry(
            store, Fetcher(access, ca), judge(trust), trust.image_anchor, HARDWARE
        )
        yield Shop(tmp_path, source, world, remote, state, trust, access, store, registry, ca)
    state.close()
