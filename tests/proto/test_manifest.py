from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sprat_proto import canonical, manifest
from sprat_proto.manifest import (
    Activation,
    Adapter,
    Facts,
    GoldenPrompt,
    Manifest,
    Shard,
    Slot,
    Source,
)

SHA = "a" * 64
FACTS = Facts(
    architecture="llama",
    quantization="q4_0",
    parameters=10,
    weights_bytes=6,
    layers=1,
    embedding_length=32,
    heads=4,
    kv_heads=2,
    key_length=8,
    value_length=8,
    vocabulary=3,
    context_length=128,
)
GOOD = Manifest(
    schema=3,
    publisher="acme",
    model="talk",
    release="1.0.0",
    release_counter=1,
    variant="q4_0",
    hardware_ids=["cpu-x86_64"],
    runtime="llama.cpp",
    min_runtime="0.3.36",
    created="2026-11-23T10:00:00+00:00",
    source=Source(SHA, 5000),
    slots=[Slot(0, ["*"])],
    shards=[Shard(0, SHA, 5000, 4096, ["b" * 64, "c" * 64])],
    deltas=[],
    adapters=[],
    encodings=["raw"],
    facts=FACTS,
    chat_template="{{ messages }}",
    activation=Activation(probe=[GoldenPrompt("1+1?", "2")]),
    disk_needed=5000,
)


def altered(**fields: Any) -> bytes:
    return canonical.encode({**msgspec.to_builtins(GOOD), **fields})


def shard(**fields: Any) -> list[dict[str, Any]]:
    return [{**msgspec.to_builtins(GOOD.shards[0]), **fields}]


def test_a_manifest_comes_back_as_it_was() -> None:
    assert manifest.decode(manifest.encode(GOOD)) == GOOD
    assert GOOD.name == "talk@1.0.0+q4_0"
    assert manifest.to_builtins(GOOD)["variant"] == "q4_0"


def test_it_names_every_blob_that_it_needs() -> None:
    adapter = Adapter("polite", "d" * 64, 7, ["e" * 64])
    with_adapter = msgspec.structs.replace(GOOD, adapters=[adapter])
    assert with_adapter.blobs() == [(SHA, 5000), ("d" * 64, 7)]


def adapters(*names: str) -> bytes:
    return altered(adapters=[msgspec.to_builtins(Adapter(one, "d" * 64, 7, [])) for one in names])


def test_it_may_have_adapters_of_different_names() -> None:
    assert len(manifest.decode(adapters("polite", "rude")).adapters) == 2


BAD: dict[str, bytes] = {
    "two adapters of one name": adapters("polite", "rude", "polite"),
    "an adapter that cannot be asked for": adapters("latest"),
    "an adapter with a path in its name": adapters("../x"),
    "more adapters than a worker opens": adapters(*(f"a{n}" for n in range(65))),
    "nothing": b"",
    "no JSON": b"{",
    "not UTF-8": b'{"schema":"\xff"}',
    "a list": b"[]",
    "a float": altered(release_counter=1.5),
    "an unknown field": altered(command="rm"),
    "a missing field": canonical.encode({"schema": 1}),
    "another schema": altered(schema=1),
    "a counter of 0": altered(release_counter=0),
    "a counter beyond exact numbers": altered(release_counter=(1 << 53) + 1),
    "a name with a slash": altered(model="../x"),
    "a name with a newline": altered(model="talk\n"),
    "an empty name": altered(variant=""),
    "a release that is a word": altered(release="latest"),
    "a release with a newline": altered(release="1.0.0\n"),
    "a short digest": altered(source={"sha256": "ab", "size": 1}),
    "an upper-case digest": altered(source={"sha256": "A" * 64, "size": 1}),
    "a negative size": altered(disk_needed=-1),
    "no shard": altered(shards=[]),
    "no raw encoding": altered(encodings=["planes-zstd"]),
    "too few pieces": altered(shards=shard(pieces=["b" * 64])),
    "too many pieces": altered(shards=shard(pieces=["b" * 64] * 3)),
    "pieces of nothing": altered(shards=shard(size=0)),
    "a piece size of 0": altered(shards=shard(piece_size=0)),
    "a shard in no slot": altered(shards=shard(slot=7)),
    "an endless soak": altered(
        activation={**msgspec.to_builtins(GOOD.activation), "soak_s": 1 << 40}
    ),
    "spaces": manifest.encode(GOOD).replace(b":1,", b": 1,", 1),
    "keys in another order": msgspec.json.encode(
        dict(sorted(msgspec.to_builtins(GOOD).items(), reverse=True))
    ),
    "a key twice": manifest.encode(GOOD)[:-1] + b',"variant":"q4_0"}',
    "more behind it": manifest.encode(GOOD) + b" ",
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD.keys())
def test_what_is_no_manifest_is_refused(data: bytes) -> None:
    with pytest.raises(manifest.ManifestError) as caught:
        manifest.decode(data)
    assert "manifest" in str(caught.value)


@given(
    at=st.integers(0, len(manifest.encode(GOOD)) - 1),
    byte=st.integers(0, 255),
    removed=st.integers(0, 3),
)
def test_a_mutant_is_refused_or_another_manifest(at: int, byte: int, removed: int) -> None:
    data = manifest.encode(GOOD)
    mutant = data[:at] + bytes([byte]) + data[at + removed :]
    try:
        read = manifest.decode(mutant)
    except manifest.ManifestError:
        return
    assert manifest.encode(read) == mutant  # one spelling for each meaning


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_in_the_same_way(data: bytes) -> None:
    with pytest.raises(manifest.ManifestError):
        manifest.decode(data)


@given(st.text(max_size=70))
def test_names_have_no_character_that_means_something_elsewhere(text: str) -> None:
    if manifest.is_model_name(text):
        assert 0 < len(text) <= 64
        assert set(text) <= set("abcdefghijklmnopqrstuvwxyz0123456789._-")
        assert text[0] not in "._-"


@pytest.mark.parametrize("text", ["1.0.0", "10.20.30", "1.3.0-rc1", "1.0.0-a.b-c"])
def test_versions_have_three_numbers(text: str) -> None:
    assert manifest.is_release_version(text)


@pytest.mark.parametrize("text", ["1", "1.0", "v1.0.0", "1.0.0-", "1.0.0\n", "1.0.0+q4", ""])
def test_other_words_are_no_versions(text: str) -> None:
    assert not manifest.is_release_version(text)
