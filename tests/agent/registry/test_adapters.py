"""A release's adapters are fetched, verified and installed with it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from msgspec import structs
from simulators.models import Shape, write_adapter, write_model
from simulators.shop import Shop
from simulators.signed import Release, release
from sprat_agent.sync.ports import ExecutionError
from sprat_proto import canonical, manifest
from sprat_proto.manifest import Adapter
from sprat_proto.states import ReasonCode


def with_adapter(one: Release, name: str, data: bytes) -> Release:
    """Return the release with an adapter of less than one piece."""
    sha256 = hashlib.sha256(data).hexdigest()
    adapter = Adapter(name, sha256, len(data), [sha256])
    stated = structs.replace(one.manifest, adapters=[*one.manifest.adapters, adapter])
    encoded = manifest.encode(stated)
    blobs = {**one.blobs, sha256: data, canonical.sha256_hex(encoded): encoded}
    return Release(stated, blobs)


def adapter_of(folder: Path, shape: Shape, seed: int = 0) -> bytes:
    (model,) = write_model(folder / "base.gguf", shape)
    return write_adapter(folder / "adapter.gguf", model, seed).read_bytes()


async def test_adapters_come_with_their_model(shop: Shop, weights: bytes, tmp_path: Path) -> None:
    polite, rude = (adapter_of(tmp_path, Shape(), seed) for seed in (1, 2))
    model = with_adapter(release(data=[weights]), "polite", polite)
    model = shop.publish(with_adapter(model, "rude", rude))
    await shop.registry.download(model.wanted("e"))
    await shop.registry.verify(model.wanted("e"))
    await shop.registry.install(model.wanted("e"))
    opened = (await shop.registry.open_installed(model.wanted("e"), 512)).loadable
    assert opened.adapter_names == ("polite", "rude")
    for one, data in zip(opened.adapters, (polite, rude), strict=True):
        assert one.file.path.name == f"adapter-{one.name}.gguf"
        assert one.file.path.read_bytes() == data
        assert (one.file.size, one.file.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    await shop.registry.collect_garbage(frozenset({model.digest}))
    assert opened.adapters[1].file.path.read_bytes() == rude


async def test_an_adapter_of_another_model_is_refused(
    shop: Shop, weights: bytes, tmp_path: Path
) -> None:
    wide = adapter_of(tmp_path, Shape(width=128))
    model = shop.publish(with_adapter(release(data=[weights]), "broad", wide))
    await shop.registry.download(model.wanted("e"))
    with pytest.raises(ExecutionError, match="adapter broad: expected") as caught:
        await shop.registry.verify(model.wanted("e"))
    assert caught.value.code is ReasonCode.MODEL_FILE_INVALID
