"""The API's world with both repositories founded, and the offline keys in our hand."""

from __future__ import annotations

# The names below are the libraries' documented API; they re-export them without saying so.
# pyright: reportPrivateImportUsage=false
from securesystemslib.signer import CryptoSigner, Signer
from sprat_controller.signer.keys import tuf_signer
from sprat_controller.trust import ceremony, repository
from sprat_controller.trust.words import read, seal
from sprat_proto import canonical
from sprat_proto.trust import DIRECTOR, IMAGE, Repository
from tuf.api.metadata import Targets

from simulators.http_world import Client, HttpWorld
from simulators.image_keys import ImageKeys


def found(world: HttpWorld) -> ImageKeys:
    """Found both repositories and return their keys."""
    keys = ImageKeys(
        online=tuf_signer(world.desk.keys.image), director=tuf_signer(world.desk.keys.director)
    )
    founded = keys.found(world.now)
    image = {name: founded[name] for name in ("1.root.json", "1.targets.json")}
    director = keys.found_director(world.now)
    with world.parts.database.transaction() as session:
        files: dict[Repository, dict[str, bytes]] = {IMAGE: image, DIRECTOR: director}
        repository.found(session, world.parts.signer, files, world.now)
    return keys


def next_targets(world: HttpWorld, keys: ImageKeys, publisher: str, key: Signer) -> bytes:
    """Return the next top-level targets, which delegate to one more publisher."""
    with world.parts.database.reading() as session:
        newest = repository.current(session, IMAGE).newest("targets")[1]
    before = read(newest, Targets, "targets").signed
    top = ceremony.next_targets(before, expires=world.now + ceremony.TARGETS_LIFE)
    ceremony.delegate(top, publisher, [key.public_key])
    return seal(top, keys.targets.values())


async def add_publisher(world: HttpWorld, client: Client, name: str) -> Signer:
    """Found the repositories, make a publisher known over the API, and return its key."""
    keys, key = found(world), CryptoSigner.generate_ed25519()
    world.image_keys, world.publishers[name] = keys, key
    data = next_targets(world, keys, name, key)
    sha256 = canonical.sha256_hex(data)
    await client.put_blob(sha256, data)
    answer = await client.post("trust/image", {"files": {"2.targets.json": sha256}})
    assert answer.status_code == 201, answer.text
    return key
