"""The manifest of a variant: what a publisher signs and a device obeys.

A variant is one form of a release (`q4_0` of `qwen3-0.6b` 1.3.0). Its identity is the SHA-256 of
the canonical bytes of its manifest, its *digest*, which is also the hash of a target in the image
repository (`sprat_proto.trust`): that is how it is signed. The manifest names blobs by SHA-256
only, so they may come from anywhere. The fields are those of the distribution design: `slots` and
`shards` (a stable table of tensors, one file each; today one shard per model), `deltas` (separately
signed, empty here), `adapters`, `encodings`, `activation`; sharded storage and deltas fill them
without a new format.
"""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from sprat_proto import canonical, probes
from sprat_proto.capability import PROBES
from sprat_proto.policy import DEFAULT, FitPolicy

SCHEMA: Final = 3
PIECE_SIZE: Final = 1 << 20  # bytes; a resumed or damaged download re-fetches one piece
# The tag of a model's name that asks for the model alone; clients append it to a name without one.
NO_ADAPTER: Final = "latest"
MAX_ADAPTERS: Final = 64  # each is an open file in the worker
# Leaves room: a 64 GiB model in 1 MiB pieces needs 4.4 MB.
MAX_MANIFEST_BYTES: Final = 8 << 20

_NAME_FORM: Final = r"[a-z0-9][a-z0-9._-]{0,63}"
_VERSION_FORM: Final = r"[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]{1,32})?"

Sha256: TypeAlias = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
Size: TypeAlias = Annotated[int, Meta(ge=0, le=1 << 48)]
Count: TypeAlias = Annotated[int, Meta(ge=0, le=1 << 40)]
Name: TypeAlias = Annotated[str, Meta(pattern=rf"^{_NAME_FORM}\Z")]
Version: TypeAlias = Annotated[str, Meta(pattern=rf"^{_VERSION_FORM}\Z")]
Text: TypeAlias = Annotated[str, Meta(max_length=65536)]

_NAME: Final = re.compile(_NAME_FORM)
_VERSION: Final = re.compile(_VERSION_FORM)


class ManifestError(ValueError):
    """The manifest does not say what a manifest must say."""


class Source(Struct, frozen=True, forbid_unknown_fields=True):
    """The original single file, for export and provenance."""

    sha256: Sha256
    size: Size
    origin: Annotated[str, Meta(max_length=1024)] = ""  # where it came from, as people say it


class Slot(Struct, frozen=True, forbid_unknown_fields=True):
    """One row of the stable slot table (append only): which tensors live in it; `*` is all."""

    slot: Count
    tensors: list[Text]


class Shard(Struct, frozen=True, forbid_unknown_fields=True):
    """One file of the model, with the SHA-256 of each piece of `piece_size` bytes in order."""

    slot: Count
    sha256: Sha256
    size: Size
    piece_size: Annotated[int, Meta(ge=1 << 12, le=1 << 26)]
    pieces: list[Sha256]


class Adapter(Struct, frozen=True, forbid_unknown_fields=True):
    """A LoRA as its own small artifact, tied to this variant; in pieces of `PIECE_SIZE` bytes."""

    name: Name
    sha256: Sha256
    size: Size
    pieces: list[Sha256]


class Delta(Struct, frozen=True, forbid_unknown_fields=True):
    """Where the separately signed delta from another shard to a slot of this variant is."""

    from_shard: Sha256
    to_slot: Count
    codec: Name
    sha256: Sha256
    size: Size


class GoldenPrompt(Struct, frozen=True, forbid_unknown_fields=True):
    """A prompt whose greedy answer is known: the probe asks it before activation."""

    prompt: Annotated[str, Meta(max_length=8192)]
    expect: Annotated[str, Meta(max_length=8192)]  # for `schema`, a JSON schema's text
    match: probes.Match = "contains"
    max_tokens: Annotated[int, Meta(ge=1, le=1024)] = 32
    # In the score; unset, as it was before there was one: 1.
    weight: Annotated[int, Meta(ge=1, le=1000)] | UnsetType = UNSET

    @property
    def counts(self) -> int:
        """What it counts for in the score."""
        return 1 if self.weight is UNSET else self.weight


class Activation(Struct, frozen=True, forbid_unknown_fields=True):
    """How a device proves the variant before it keeps it.

    Until the commit the previous variant answers. `soak_traffic_percent` of the real requests may
    be given to the new one while it soaks (0: it is watched with its golden prompts only).
    """

    probe: Annotated[list[GoldenPrompt], Meta(max_length=64)] = []
    probe_timeout_s: Annotated[int, Meta(ge=1, le=3600)] = 300
    soak_s: Annotated[int, Meta(ge=0, le=30 * 86400)] = 0
    soak_traffic_percent: Annotated[int, Meta(ge=0, le=100)] = 0
    rollback: Literal["automatic"] = "automatic"
    # What else it is held to; unset, as it was before there was more: nothing.
    proof: probes.Proof | UnsetType = UNSET

    @property
    def terms(self) -> probes.Proof:
        """What it is held to."""
        return probes.NOTHING_MORE if self.proof is UNSET else self.proof

    @property
    def needs(self) -> int:
        """The capability of an agent that can read it; 0: of any that reads this schema."""
        is_new = self.proof is not UNSET or any(
            one.weight is not UNSET or one.match == "schema" for one in self.probe
        )
        return PROBES if is_new else 0


class Facts(Struct, frozen=True, forbid_unknown_fields=True):
    """What was read from the model file and what fit is computed from; sizes in bytes."""

    architecture: Name
    quantization: Name
    parameters: Count
    weights_bytes: Size
    layers: Count
    embedding_length: Count
    heads: Count
    kv_heads: Count
    key_length: Count
    value_length: Count
    vocabulary: Count
    context_length: Count
    licence: Text = ""
    # Bytes by ggml's name of the tensor type in lower case, as `q4_0`; of vectors mostly `f32`.
    tensor_bytes: Annotated[dict[Name, Size], Meta(max_length=64)] = {}
    # Of each type, what is read to decode one token: not an input-embedding table of its own, of
    # which a token takes one row, and of experts only those in use.
    bytes_per_token: Annotated[dict[Name, Size], Meta(max_length=64)] = {}
    window: Count = (
        0  # tokens that a layer of `window_layers` looks back; 0: all look at everything
    )
    window_layers: Count = 0
    has_tools: bool = False  # the chat template can present tools
    inner_length: Count = 0  # of the feed-forward layers; 0: unknown


class Evaluation(Struct, frozen=True, forbid_unknown_fields=True):
    """What the quantization cost in quality, measured against the reference on a text.

    Integers, since this is signed. The quality loss is e^KL - 1: by how much the perplexity rises,
    on average, on text that the reference itself would write. It is never negative.
    """

    reference: Name  # the variant that is the yardstick, as `f16`
    text_sha256: Sha256
    tokens: Count  # that were scored
    perplexity_milli: Count
    kl_nano: Count  # mean Kullback-Leibler divergence from the reference, 1e-9 nats a token
    same_top_ppm: Annotated[int, Meta(ge=0, le=1_000_000)]  # tokens with the same best guess
    loss_ppm: Count  # millionths


class Manifest(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole signed statement; see the module's docstring."""

    schema: Literal[3]
    publisher: Name
    model: Name
    release: Version
    # Rises with each release of a model; a device never installs a lower one than it committed.
    release_counter: Annotated[int, Meta(ge=1, le=1 << 53)]
    variant: Name
    # Which devices it may run on; see `trust.hardware_id`.
    hardware_ids: Annotated[list[Name], Meta(min_length=1, max_length=16)]
    runtime: Name
    min_runtime: Text
    created: Text
    source: Source
    slots: list[Slot]
    shards: list[Shard]
    deltas: list[Delta]
    adapters: Annotated[list[Adapter], Meta(max_length=MAX_ADAPTERS)]
    encodings: list[Name]
    facts: Facts
    # Jinja; what the model file says of itself is never used. Empty: messages cannot be chatted.
    chat_template: Text
    activation: Activation
    disk_needed: Size
    # None: nobody measured what this variant lost.
    evaluation: Evaluation | None = None
    # The release's own terms; a rollout may have others.
    policy: FitPolicy = DEFAULT

    @property
    def name(self) -> str:
        """`model@release+variant`, as people and headers say it."""
        return f"{self.model}@{self.release}+{self.variant}"

    def blobs(self) -> list[tuple[str, int]]:
        """Return (SHA-256, size) of every blob that this variant needs."""
        shards = [(shard.sha256, shard.size) for shard in self.shards]
        return shards + [(adapter.sha256, adapter.size) for adapter in self.adapters]


def is_model_name(text: str) -> bool:
    """Tell whether `text` may name a model, an alias, a variant or a runtime."""
    return _NAME.fullmatch(text) is not None


def is_release_version(text: str) -> bool:
    """Tell whether `text` is a release version: MAJOR.MINOR.PATCH with an optional -suffix."""
    return _VERSION.fullmatch(text) is not None


def encode(manifest: Manifest) -> bytes:
    """Return the canonical bytes, whose SHA-256 is the variant's digest."""
    return canonical.encode(manifest)


def decode(data: bytes) -> Manifest:
    """Read a manifest from its canonical bytes.

    Raises:
        ManifestError: Not canonical, wrong structure, or fields that contradict each other.
    """
    try:
        manifest = canonical.decode(data, Manifest, "manifest")
    except canonical.NotCanonicalError as error:
        raise ManifestError(str(error)) from error
    check(manifest)
    return manifest


def check(manifest: Manifest) -> None:
    """Check what types cannot say.

    Raises:
        ManifestError: The first contradiction found.
    """
    if not manifest.shards:
        raise ManifestError(f"manifest {manifest.name}: expected at least one shard, found none")
    if "raw" not in manifest.encodings:
        raise ManifestError(f"manifest {manifest.name}: every variant can be had as 'raw'")
    slots = {slot.slot for slot in manifest.slots}
    for shard in manifest.shards:
        expected = -(-shard.size // shard.piece_size)
        if len(shard.pieces) != expected:
            raise ManifestError(
                f"manifest {manifest.name}: shard {shard.sha256[:12]} of {shard.size} bytes"
                f" has {expected} pieces, found {len(shard.pieces)}"
            )
        if shard.slot not in slots:
            raise ManifestError(
                f"manifest {manifest.name}: shard {shard.sha256[:12]} is in slot {shard.slot},"
                " which the slot table does not have"
            )
    _check_adapters(manifest)
    _check_probe(manifest)


def _check_adapters(manifest: Manifest) -> None:
    names = [adapter.name for adapter in manifest.adapters]
    for adapter in manifest.adapters:
        if adapter.name == NO_ADAPTER or names.count(adapter.name) > 1:
            raise ManifestError(
                f"manifest {manifest.name}: expected different names of adapters, none of them"
                f" {NO_ADAPTER!r}, found {adapter.name!r}"
            )


def _check_probe(manifest: Manifest) -> None:
    for golden in manifest.activation.probe:
        if golden.match == "schema":
            try:
                probes.check_schema(golden.expect)
            except probes.ProbesError as error:
                raise ManifestError(
                    f"manifest {manifest.name}: the golden prompt {golden.prompt[:60]!r}: {error}"
                ) from error


def to_builtins(manifest: Manifest) -> dict[str, object]:
    """Return the manifest as plain JSON values, for an API answer."""
    return msgspec.to_builtins(manifest)
