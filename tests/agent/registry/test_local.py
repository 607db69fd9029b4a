"""A version's life on disk: verified, installed, opened again, collected."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from simulators.shop import Shop
from simulators.signed import Release, release
from sprat_agent.registry.blocking import Stop, in_thread
from sprat_agent.registry.store import Store
from sprat_agent.sync.ports import ExecutionError, Serving
from sprat_proto.assignment import ServingTerms
from sprat_proto.states import ReasonCode


@pytest.fixture
def model(shop: Shop, weights: bytes) -> Release:
    return shop.publish(release(data=[weights]))


def flip_last_bit(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


def cut_last_byte(data: bytes) -> bytes:
    return data[:-1]


async def installed(shop: Shop, one: Release) -> None:
    await shop.registry.download(one.wanted("e"))
    await shop.registry.verify(one.wanted("e"))
    await shop.registry.install(one.wanted("e"))


async def test_an_installed_version_can_be_loaded(
    shop: Shop, model: Release, weights: bytes
) -> None:
    await installed(shop, model)
    opened = await shop.registry.open_installed(model.wanted("e", "chat"), 512)
    one = opened.loadable
    assert opened.manifest == model.manifest
    assert (one.alias, one.context, one.digest) == ("chat", 512, model.digest)
    assert one.name == "talk@1.0.0+q4_0"
    assert one.signer.startswith("acme (")
    (file,) = one.files
    assert file.path.name == "model-00001-of-00001.gguf"
    assert file.path.read_bytes() == weights
    assert file.path.parent.name == model.digest


async def test_it_is_loaded_to_be_served_as_it_is_assigned(shop: Shop, model: Release) -> None:
    await installed(shop, model)
    terms = ServingTerms(slots=3, kv_type="q8_0", is_pinned=True)
    opened = await shop.registry.open_installed(model.wanted("e", terms=terms), 512)
    assert opened.loadable.serving == Serving(3, "q8_0", is_pinned=True, may_have_more=False)
    plain = await shop.registry.open_installed(model.wanted("e"), 512)
    assert plain.loadable.serving == Serving(1, "f16", is_pinned=False, may_have_more=True)


async def test_installing_again_changes_nothing(shop: Shop, model: Release) -> None:
    await installed(shop, model)
    before = shop.files()
    await shop.registry.install(model.wanted("e"))
    assert shop.files() == before


async def test_a_file_that_is_no_model_is_refused(shop: Shop) -> None:
    one = shop.publish(release(data=[b"GGUF, but not really" * 100]))
    await shop.registry.download(one.wanted("e"))
    with pytest.raises(ExecutionError) as caught:
        await shop.registry.verify(one.wanted("e"))
    assert caught.value.code is ReasonCode.MODEL_FILE_INVALID


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (flip_last_bit, ReasonCode.DIGEST_MISMATCH),
        (cut_last_byte, ReasonCode.SIZE_MISMATCH),
    ],
)
async def test_what_changed_on_disk_is_refused_and_can_be_fetched_again(
    shop: Shop, model: Release, change: Callable[[bytes], bytes], code: ReasonCode
) -> None:
    await shop.registry.download(model.wanted("e"))
    path = shop.store.blob(model.manifest.shards[0].sha256)
    path.chmod(0o644)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ExecutionError) as caught:
        await shop.registry.verify(model.wanted("e"))
    assert caught.value.code is code
    assert caught.value.expected != caught.value.found
    await shop.registry.download(model.wanted("e"))
    await shop.registry.verify(model.wanted("e"))


async def test_a_manifest_that_changed_on_disk_is_refused_and_fetched_again(
    shop: Shop, model: Release
) -> None:
    await installed(shop, model)
    await shop.registry.collect_garbage(frozenset({model.digest}))
    manifest = shop.folder / "versions" / model.digest / "manifest.json"
    manifest.chmod(0o644)
    manifest.write_bytes(manifest.read_bytes()[:-30])
    with pytest.raises(ExecutionError) as caught:
        await shop.registry.open_installed(model.wanted("e"), 512)
    assert caught.value.code is ReasonCode.DIGEST_MISMATCH
    await installed(shop, model)
    await shop.registry.open_installed(model.wanted("e"), 512)


async def test_what_is_not_there_is_said(shop: Shop, model: Release) -> None:
    for call in (
        shop.registry.verify(model.wanted("e")),
        shop.registry.install(model.wanted("e")),
        shop.registry.open_installed(model.wanted("e"), 512),
    ):
        with pytest.raises(ExecutionError) as caught:
            await call
        assert caught.value.code is ReasonCode.BLOB_NOT_FOUND


async def test_garbage_is_all_that_no_kept_version_needs(
    shop: Shop, model: Release, weights: bytes
) -> None:
    same = shop.publish(release("2.0.0", [weights], counter=2))
    other = shop.publish(release("3.0.0", [weights + b"x"], counter=3))
    await installed(shop, model)
    await installed(shop, same)
    await shop.registry.download(other.wanted("e"))
    (shop.folder / "partial" / "left.part").write_bytes(b"over")
    freed = await shop.registry.collect_garbage(frozenset({same.digest}))
    assert freed > len(weights)
    assert shop.store.versions() == {same.digest}
    assert shop.files() == {
        "manifest.json",
        "evidence.json",
        "model-00001-of-00001.gguf",
        model.manifest.shards[0].sha256,
    }
    await shop.registry.verify(same.wanted("e"))
    await shop.registry.collect_garbage(frozenset())
    assert shop.files() == set()


async def test_what_was_kept_of_prompts_goes_with_its_version(
    shop: Shop, model: Release, weights: bytes
) -> None:
    same = shop.publish(release("2.0.0", [weights], counter=2))
    await installed(shop, model)
    await installed(shop, same)
    folder = shop.folder / "prefixes"
    folder.mkdir()
    for one in (model, same):
        (folder / f"{one.digest}.f16.0123").write_bytes(b"prompts")
    await shop.registry.collect_garbage(frozenset({same.digest}))
    assert [path.name for path in folder.iterdir()] == [f"{same.digest}.f16.0123"]


async def test_a_version_of_several_parts_is_linked_as_llama_cpp_names_them(shop: Shop) -> None:
    one = shop.publish(release(data=[b"first", b"second"]))
    await shop.registry.download(one.wanted("e"))
    await shop.registry.install(one.wanted("e"))
    opened = await shop.registry.open_installed(one.wanted("e"), 512)
    assert [file.path.name for file in opened.loadable.files] == [
        "model-00001-of-00002.gguf",
        "model-00002-of-00002.gguf",
    ]
    assert [file.path.read_bytes() for file in opened.loadable.files] == [b"first", b"second"]


def test_a_version_replaces_one_with_other_evidence_whole(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.install("d" * 64, b"manifest", b"first", {"model.gguf": "a" * 64})
    store.install("d" * 64, b"manifest", b"second", {"model.gguf": "b" * 64})
    assert store.evidence("d" * 64) == b"second"
    assert store.blobs_of("d" * 64) == {"b" * 64}
    assert not list((tmp_path / "partial").iterdir())


async def test_cancelling_waits_for_the_thread() -> None:
    started, ended = asyncio.Event(), list[bool]()
    loop = asyncio.get_running_loop()

    def work(stop: Stop) -> None:
        loop.call_soon_threadsafe(started.set)
        try:
            while True:
                stop.check()
        finally:
            ended.append(True)

    task = asyncio.create_task(in_thread(work))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended


async def test_t49_what_was_retired_meanwhile_is_not_installed_and_what_runs_loads_for_ever(
    shop: Shop, model: Release, weights: bytes
) -> None:
    await installed(shop, model)
    newer = shop.publish(release("2.0.0", [weights], counter=2))
    await shop.registry.download(newer.wanted("e"))
    for one in (model, newer):
        shop.world.image.retire(one.path)
    with pytest.raises(ExecutionError) as caught:
        await shop.registry.install(newer.wanted("e"))
    assert caught.value.code is ReasonCode.NOT_RELEASED
    shop.remote.is_away = True
    await shop.registry.open_installed(model.wanted("e"), 512)


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff", b'{"schema":1,"proved_at":0,"files":{}}'])
async def test_evidence_that_proves_nothing_is_refused_and_made_anew(
    shop: Shop, model: Release, data: bytes
) -> None:
    await installed(shop, model)
    evidence = shop.store.version_file(model.digest, "evidence.json")
    evidence.chmod(0o644)
    evidence.write_bytes(data)
    with pytest.raises(ExecutionError) as caught:
        await shop.registry.open_installed(model.wanted("e"), 512)
    assert caught.value.code is ReasonCode.METADATA_REFUSED
    await shop.registry.install(model.wanted("e"))
    await shop.registry.open_installed(model.wanted("e"), 512)
