"""What a publisher says of each variant of a release, before it is signed: its manifest."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec
from sprat_proto import canonical, gguf, gguf_adapter
from sprat_proto.manifest import (
    PIECE_SIZE,
    SCHEMA,
    Activation,
    Adapter,
    Evaluation,
    Manifest,
    Shard,
    Slot,
    Source,
    decode,
    encode,
)
from sprat_proto.policy import DEFAULT, FitPolicy
from sprat_proto.trust import HARDWARE_IDS

RUNTIME: Final = "llama.cpp"
# For a model whose file names no template, as in llama.cpp; a device uses what is signed only.
CHATML: Final = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}<|im_start|>assistant\n"
)
MIN_RUNTIME: Final = "0.3.36"  # llama-cpp-python
# Where a model file says what it was made from, the nearest first.
_ORIGINS: Final = ("general.source.url", "general.source.repo_url", "general.repo_url")
_MAX_ORIGIN: Final = 1024  # characters that a manifest takes


@dataclass(frozen=True)
class AdapterSource:
    """A LoRA that comes with each variant of a release."""

    name: str
    path: Path


@dataclass(frozen=True)
class ReleaseTerms:
    """What is the same for all variants of a release."""

    model: str
    release: str
    counter: int
    activation: Activation
    licence: str
    created: datetime
    publisher: str
    hardware_ids: tuple[str, ...] = HARDWARE_IDS
    chat_template: str | None = None  # None: what the model file says
    adapters: tuple[AdapterSource, ...] = ()
    origin: str = ""  # where the original came from; empty: what the model file says
    policy: FitPolicy = DEFAULT
    unproven: str = ""  # why it was signed without its golden prompts being asked first


@dataclass(frozen=True)
class BuiltVariant:
    """A variant ready to be uploaded: its file and its manifest."""

    path: Path
    manifest: Manifest

    @property
    def payload(self) -> bytes:
        """The manifest's canonical bytes."""
        return encode(self.manifest)

    @property
    def digest(self) -> str:
        """The variant's identity."""
        return canonical.sha256_hex(self.payload)

    @property
    def bits_per_weight(self) -> float:
        """Bits that the variant spends on one weight, on average."""
        facts = self.manifest.facts
        return facts.weights_bytes * 8 / max(facts.parameters, 1)

    def with_counter(self, counter: int) -> BuiltVariant:
        """Return it with another release counter."""
        manifest = msgspec.structs.replace(self.manifest, release_counter=counter)
        return BuiltVariant(self.path, manifest)


def build_manifest(
    path: Path, variant: str, terms: ReleaseTerms, evaluation: Evaluation | None = None
) -> Manifest:
    """Read a model file once and return its manifest: one slot, one shard.

    Args:
        path: The variant's file.
        variant: Its name.
        terms: Of the release.
        evaluation: What was measured of it; None: nothing was.

    Raises:
        gguf.ModelFileError: The file is no model that Sprat runs, or an adapter does not fit it.
        ManifestError: The terms do not make a valid manifest.
    """
    check_adapters(path, terms.adapters)
    adapters = [_adapter(source) for source in terms.adapters]
    file, facts = gguf.check(path), gguf.facts(path, variant)
    template = _template(file) if terms.chat_template is None else terms.chat_template
    sha256, pieces, size = _hash(path)
    manifest = Manifest(
        schema=SCHEMA,
        publisher=terms.publisher,
        model=terms.model,
        release=terms.release,
        release_counter=terms.counter,
        variant=variant,
        hardware_ids=list(terms.hardware_ids),
        runtime=RUNTIME,
        min_runtime=MIN_RUNTIME,
        created=terms.created.isoformat(timespec="seconds"),
        source=Source(sha256, size, terms.origin or _origin(file)),
        slots=[Slot(0, ["*"])],
        shards=[Shard(0, sha256, size, PIECE_SIZE, pieces)],
        deltas=[],
        adapters=adapters,
        encodings=["raw"],
        facts=msgspec.structs.replace(
            facts,
            licence=terms.licence or facts.licence,
            # By the template that devices use, which need not be the file's.
            has_tools=gguf.presents_tools(template),
        ),
        chat_template=template,
        activation=terms.activation,
        disk_needed=size + sum(one.size for one in adapters),
        evaluation=evaluation,
        policy=terms.policy,
    )
    return decode(encode(manifest))  # what a device would not read is not signed


def _template(file: gguf.GgufFile) -> str:
    return str(file.metadata.get("tokenizer.chat_template", CHATML))


def _origin(file: gguf.GgufFile) -> str:
    found = (str(file.metadata.get(key, "")).strip() for key in _ORIGINS)
    return next((text for text in found if text and text.isprintable()), "")[:_MAX_ORIGIN]


def check_adapters(model: Path, adapters: Sequence[AdapterSource]) -> None:
    """Check that all adapters fit the model.

    Raises:
        gguf.ModelFileError: The first thing that is wrong, with the adapter's name.
    """
    base = gguf.check(model)
    for one in adapters:
        gguf_adapter.check(one.path, [base], one.name)


def _adapter(source: AdapterSource) -> Adapter:
    sha256, pieces, size = _hash(source.path)
    return Adapter(source.name, sha256, size, pieces)


def _hash(path: Path) -> tuple[str, list[str], int]:
    whole = hashlib.sha256()
    pieces: list[str] = []
    size = 0
    with path.open("rb") as file:
        while piece := file.read(PIECE_SIZE):
            whole.update(piece)
            pieces.append(hashlib.sha256(piece).hexdigest())
            size += len(piece)
    return whole.hexdigest(), pieces, size
