"""Releases as a publisher makes them; `tuf_world` signs them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from sprat_proto import canonical, manifest, trust
from sprat_proto.assignment import (
    AS_DEVICE_DECIDES,
    AT_ANY_TIME,
    AssignedModel,
    Assignment,
    Policy,
    ServingTerms,
    Windows,
    spelled,
    spelled_policy,
    spelled_windows,
)
from sprat_proto.manifest import Activation, Facts, Manifest, Shard, Slot, Source
from sprat_proto.policy import FitPolicy

PIECE = 1 << 12

FACTS = Facts(
    architecture="llama",
    quantization="q4_0",
    parameters=1,
    weights_bytes=1,
    layers=1,
    embedding_length=1,
    heads=1,
    kv_heads=1,
    key_length=1,
    value_length=1,
    vocabulary=1,
    context_length=1,
)


@dataclass(frozen=True)
class Release:
    """A variant, the bytes of its blobs (and of its manifest), and how it is assigned."""

    manifest: Manifest
    blobs: dict[str, bytes]

    @property
    def digest(self) -> str:
        return canonical.sha256_hex(manifest.encode(self.manifest))

    @property
    def path(self) -> str:
        return trust.path_of(self.manifest)

    def wanted(
        self,
        execution: str,
        alias: str = "assistant",
        *,
        run_until: int = 0,
        terms: ServingTerms = AS_DEVICE_DECIDES,
        policy: FitPolicy | None = None,
        windows: Windows = AT_ANY_TIME,
    ) -> AssignedModel:
        return AssignedModel(
            alias=alias,
            publisher=self.manifest.publisher,
            model=self.manifest.model,
            release=self.manifest.release,
            variant=self.manifest.variant,
            digest=self.digest,
            size=len(manifest.encode(self.manifest)),
            execution_id=execution,
            rollout_id="rollout",
            run_until=run_until,
            serving=spelled(terms),
            policy=spelled_policy(policy),
            windows=spelled_windows(windows),
        )


def release(
    version: str = "1.0.0",
    data: Sequence[bytes] = (b"weights",),
    *,
    counter: int = 1,
    activation: Activation | None = None,
    pieces: list[str] | None = None,
    publisher: str = "acme",
    hardware_ids: Sequence[str] = ("cpu-x86_64",),
    facts: Facts = FACTS,
    template: str = "",
) -> Release:
    """Return a release whose shards hold `data`."""
    shards = [
        Shard(
            slot=0,
            sha256=hashlib.sha256(one).hexdigest(),
            size=len(one),
            piece_size=PIECE,
            pieces=pieces or pieces_of(one),
        )
        for one in data
    ]
    stated = Manifest(
        schema=3,
        publisher=publisher,
        model="talk",
        release=version,
        release_counter=counter,
        variant="q4_0",
        hardware_ids=list(hardware_ids),
        runtime="llama.cpp",
        min_runtime="0",
        created="2026-11-24T00:00:00Z",
        source=Source(shards[0].sha256, shards[0].size),
        slots=[Slot(0, ["*"])],
        shards=shards,
        deltas=[],
        adapters=[],
        encodings=["raw"],
        facts=facts,
        chat_template=template,
        activation=activation or Activation(),
        disk_needed=sum(len(one) for one in data),
    )
    encoded = manifest.encode(stated)
    blobs = {hashlib.sha256(one).hexdigest(): one for one in data}
    return Release(stated, blobs | {canonical.sha256_hex(encoded): encoded})


def pieces_of(data: bytes) -> list[str]:
    """Return the SHA-256 of each piece."""
    starts = range(0, len(data), PIECE)
    return [hashlib.sha256(data[start : start + PIECE]).hexdigest() for start in starts]


def assigned(
    version: int, models: Sequence[AssignedModel], *, device_id: str = "gw-1", context: int = 256
) -> Assignment:
    """Return an assignment of a device."""
    return Assignment(
        schema=2,
        device_id=device_id,
        version=version,
        issued="2026-11-24T00:00:00Z",
        models=list(models),
        policy=Policy(context),
    )
