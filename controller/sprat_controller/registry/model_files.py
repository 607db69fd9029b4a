"""Whether the files that a manifest names are model files, and cut as it says."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec
from sprat_proto import gguf, gguf_adapter
from sprat_proto.manifest import PIECE_SIZE, Manifest

from sprat_controller.errors import NotFoundError
from sprat_controller.registry.blobs import BlobStore

MAGIC: Final = b"GGUF"
# A publisher may word the licence, and tools are those of the signed chat template.
_WORDED: Final = frozenset({"licence", "has_tools"})


def faults(manifest: Manifest, blobs: BlobStore) -> Iterator[str]:
    """Yield what is wrong with the files of a variant; reads all of them, once."""
    cuts = [(one.sha256, one.piece_size, one.pieces) for one in manifest.shards]
    cuts += [(one.sha256, PIECE_SIZE, one.pieces) for one in manifest.adapters]
    for sha256, piece_size, pieces in cuts:
        try:
            path = blobs.find(sha256)
        except NotFoundError as error:
            yield error.message
            continue
        yield from _faults_of_file(path, piece_size, pieces)
    if len(manifest.shards) == 1:
        yield from _faults_of_model(manifest, blobs)
    if manifest.facts.has_tools != gguf.presents_tools(manifest.chat_template):
        yield (
            f"expected has_tools of {manifest.name} to follow its chat template, found"
            f" {manifest.facts.has_tools}"
        )


def _faults_of_file(path: Path, piece_size: int, pieces: Sequence[str]) -> Iterator[str]:
    name = path.name[:12]
    found: list[str] = []
    whole = hashlib.sha256()
    with path.open("rb") as file:
        start = file.read(len(MAGIC))
        if start != MAGIC:
            yield f"expected the file {name} to begin with {MAGIC!r}, found {start!r}"
        file.seek(0)
        while piece := file.read(piece_size):
            whole.update(piece)
            found.append(hashlib.sha256(piece).hexdigest())
    if whole.hexdigest() != path.name:
        yield f"the file {name} was damaged here (SHA-256 {whole.hexdigest()}): upload it again"
    if len(found) != len(pieces):
        yield f"expected {len(pieces)} pieces of {piece_size} bytes in {name}, found {len(found)}"
    for number, (listed, piece) in enumerate(zip(pieces, found, strict=False)):
        if listed != piece:
            yield (
                f"expected piece {number} of {name} to have the SHA-256 {listed[:12]}, found"
                f" {piece[:12]}"
            )


def _faults_of_model(manifest: Manifest, blobs: BlobStore) -> Iterator[str]:
    """A model in one file, with its adapters, is read as strictly as a device does it."""
    path = blobs.path(manifest.shards[0].sha256)
    try:
        facts = gguf.facts(path, manifest.facts.quantization)
        for adapter in manifest.adapters:
            gguf_adapter.check(blobs.path(adapter.sha256), [gguf.check(path)], adapter.name)
    except gguf.ModelFileError as error:
        yield str(error)
        return
    for name in msgspec.structs.asdict(facts):
        read, told = getattr(facts, name), getattr(manifest.facts, name)
        if name not in _WORDED and read != told:
            yield f"expected {name} {told!r} in {path.name[:12]} as its manifest, found {read!r}"
