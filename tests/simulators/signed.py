"""A publisher and a controller's assignment key, and what they sign."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from sprat_proto import assignment, canonical, manifest
from sprat_proto.assignment import AssignedModel, Assignment, EnvelopeRef, Policy
from sprat_proto.manifest import Activation, Facts, Manifest, Shard, Slot, Source
from sprat_proto.signing import SigningKey, TrustedKey, generate_private_pem

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


@dataclass
class Signer:
    """A key with a name."""

    name: str = "publisher"
    key: SigningKey = field(default_factory=lambda: SigningKey(generate_private_pem()))

    @property
    def trusted(self) -> TrustedKey:
        return TrustedKey(self.name, self.key.public_pem)


@dataclass(frozen=True)
class Release:
    """A signed variant, the bytes of its blobs, and how it is assigned."""

    manifest: Manifest
    envelope: bytes
    blobs: dict[str, bytes]

    @property
    def digest(self) -> str:
        return canonical.sha256_hex(manifest.encode(self.manifest))

    def wanted(self, execution: str, alias: str = "assistant") -> AssignedModel:
        return AssignedModel(
            alias=alias,
            model=self.manifest.model,
            release=self.manifest.release,
            variant=self.manifest.variant,
            digest=self.digest,
            envelope=EnvelopeRef(canonical.sha256_hex(self.envelope), len(self.envelope)),
            execution_id=execution,
            rollout_id="rollout",
        )


def release(
    signer: Signer,
    version: str = "1.0.0",
    data: Sequence[bytes] = (b"weights",),
    *,
    counter: int = 1,
    activation: Activation | None = None,
    pieces: list[str] | None = None,
) -> Release:
    """Sign a release whose shards hold `data`."""
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
        schema=1,
        model="talk",
        release=version,
        release_counter=counter,
        variant="q4_0",
        runtime="llama.cpp",
        min_runtime="0",
        created="2026-11-24T00:00:00Z",
        source=Source(shards[0].sha256, shards[0].size),
        slots=[Slot(0, ["*"])],
        shards=shards,
        deltas=[],
        adapters=[],
        encodings=["raw"],
        facts=FACTS,
        activation=activation or Activation(),
        disk_needed=sum(len(one) for one in data),
    )
    envelope = signer.key.sign(manifest.encode(stated), manifest.PAYLOAD_TYPE)
    blobs = {hashlib.sha256(one).hexdigest(): one for one in data}
    return Release(stated, envelope, blobs | {canonical.sha256_hex(envelope): envelope})


def pieces_of(data: bytes) -> list[str]:
    """Return the SHA-256 of each piece."""
    starts = range(0, len(data), PIECE)
    return [hashlib.sha256(data[start : start + PIECE]).hexdigest() for start in starts]


def assigned(
    version: int, models: Sequence[AssignedModel], *, device_id: str = "gw-1", context: int = 256
) -> Assignment:
    """Return an assignment of a device."""
    return Assignment(
        schema=1,
        device_id=device_id,
        version=version,
        issued="2026-11-24T00:00:00Z",
        models=list(models),
        policy=Policy(context),
    )


def sign_assignment(signer: Signer, one: Assignment) -> bytes:
    """Return the envelope in which it travels."""
    return signer.key.sign(assignment.encode(one), assignment.PAYLOAD_TYPE)
