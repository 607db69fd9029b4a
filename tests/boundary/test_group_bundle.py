"""A group's bundle from the ceremony to the answer, with the real command, exporter and device."""

from __future__ import annotations

from collections.abc import Generator
from datetime import timedelta
from pathlib import Path

import pytest
from simulators.controlled import World
from simulators.models import Shape, write_model
from simulators.operator_api import ADMIN, URL, OperatorApi
from simulators.site import Site
from simulators.sprat_command import Sprat
from simulators.tuf_world import NOW, signed
from sprat_controller.bundle.export import Exporter
from sprat_controller.publisher.signing import generate_key_files
from sprat_controller.store.tables import Publisher, Release, TrustMetadata, Variant
from sprat_controller.trust import ceremony
from sprat_controller.trust.file_names import parse_name
from sprat_proto import manifest
from sprat_proto.approval import Approver
from sprat_proto.trust import DIRECTOR, IMAGE


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A device of the group `store`, enrolled before anybody was named, and never online."""
    (path,) = write_model(tmp_path / "model.gguf", Shape())
    return Site(tmp_path, path.read_bytes())


@pytest.fixture
def controller() -> Generator[World]:
    made = World()
    yield made
    made.close()


def hold_ceremony(site: Site, folder: Path) -> list[Path]:
    """Name ann and bob in the director's root; return their private keys."""
    director, people, files = site.world.director, list[Approver](), list[Path]()
    for name in ("ann", "bob"):
        private, _, key = generate_key_files(folder / name, None)
        people.append(Approver(name, key.public_pem))
        files.append(private)
    expires = NOW + ceremony.ROOT_LIFE
    staged = ceremony.next_root(DIRECTOR, director.root, offline=people, expires=expires)
    director.roots.append(signed(staged.signed, director.root_keys))
    return files


def stock(controller: World, site: Site) -> None:
    """Have the controller publish what the world does."""
    one = site.one.manifest
    files = [(IMAGE, name, data) for name, data in site.world.files().items()]
    files += [(DIRECTOR, f"{n}.root.json", d) for n, d in enumerate(site.world.director.roots, 1)]
    with controller.database.transaction() as session:
        for repository, name, data in files:
            parsed = parse_name(name)
            role = parsed.role if parsed else "timestamp"
            version = parsed.version if parsed else site.world.image.version
            session.add(TrustMetadata(repository=repository, role=role, version=version, data=data))
        session.add(Publisher(name=one.publisher, key_ids=["k"], created_at=NOW))
        session.add(
            Release(
                model=one.model,
                release=one.release,
                counter=one.release_counter,
                created_at=NOW,
                pushed_by="token:ann",
            )
        )
        session.flush()
        session.add(
            Variant(
                digest=site.one.digest,
                model=one.model,
                release=one.release,
                variant=one.variant,
                manifest=manifest.encode(one),
                publisher=one.publisher,
            )
        )


async def test_exported_signed_by_two_and_imported_by_a_device_that_was_never_online(
    site: Site, controller: World, tmp_path: Path
) -> None:
    keys = hold_ceremony(site, tmp_path)
    stock(controller, site)
    api = OperatorApi()
    api.blobs.update(site.one.blobs)
    variants = [{"variant": "q4_0", "digest": site.one.digest}]
    api.models["talk"] = [{"release": "1.0.0", "counter": 1, "variants": variants}]
    environ = {"SPRAT_URL": URL, "SPRAT_TOKEN": ADMIN, "HOME": str(tmp_path)}
    sprat = Sprat(api, environ, now=NOW)
    said, stick = tmp_path / "store.json", tmp_path / "store.sprat"

    wanted = ("--alias", "assistant", "--release", "talk@1.0.0", "--variant", "q4_0")
    state = sprat("bundle", "state", "--group", "store", *wanted, "--out", str(said))
    assert state.status == 0, state
    exporter = Exporter(controller.database, controller.signer, controller.clock)
    for key in keys:
        # One signature of two is exported as well, and refused by the device.
        api.bundle = list(exporter.for_group(said.read_text(), actor="user:ann").small)
        export = sprat("bundle", "export", "--statement", str(said), "--out", str(stick))
        assert export.status == 0, export
        assert "the bundle's statement is refused" in await site.refused(stick)
        signing = sprat("bundle", "sign", str(said), "--key", str(key), "--yes")
        assert signing.status == 0, signing
    api.bundle = list(exporter.for_group(said.read_text(), actor="user:ann").small)
    export = sprat("bundle", "export", "--statement", str(said), "--out", str(stick))
    assert export.status == 0, export

    site.clock.now = NOW + timedelta(days=29)  # a long way; the statement is good for 30
    loaded = await site.load(stick)
    assert [one.digest for one in loaded.models] == [site.one.digest]
    assert await site.run() == {"assistant": site.one.digest}
