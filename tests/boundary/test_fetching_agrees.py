"""What a plan says that a device must fetch is what the device finds missing in its store."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from simulators.controlled import MODEL, a_manifest
from sprat_agent.registry.store import Store
from sprat_controller.rollout import fetching
from sprat_proto.manifest import Adapter, Manifest

NAMES = "abcdefgh"


def content(name: str) -> bytes:
    return name.encode() * (NAMES.index(name) * 1000 + 1)


def blob(name: str) -> tuple[str, int]:
    return hashlib.sha256(content(name)).hexdigest(), len(content(name))


def variant(shards: list[str], adapters: list[str]) -> Manifest:
    made = a_manifest("q4_0", 1, model=MODEL, release="1.0.0", counter=1)
    shard = made.shards[0]
    return msgspec.structs.replace(
        made,
        shards=[
            msgspec.structs.replace(shard, slot=slot, sha256=blob(name)[0], size=blob(name)[1])
            for slot, name in enumerate(shards)
        ],
        adapters=[
            Adapter(f"lora-{number}", *blob(name), pieces=[])
            for number, name in enumerate(adapters)
        ],
    )


variants = st.builds(
    variant,
    st.lists(st.sampled_from(NAMES), min_size=1, max_size=4),
    st.lists(st.sampled_from(NAMES), max_size=2),
)


@settings(deadline=None, max_examples=50)  # each example syncs the disk
@given(variants, st.lists(variants, max_size=3))
def test_bytes_to_fetch(wanted: Manifest, running: list[Manifest]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        held = {sha256 for one in running for sha256, _ in one.blobs()}
        for name in NAMES:
            sha256, _ = blob(name)
            if sha256 in held:
                store.partial(sha256).write_bytes(content(name))
                store.adopt(sha256)
        cost = fetching.of_variant(wanted, running, 0)
        assert cost.fetch_bytes == store.bytes_missing(wanted.blobs())
