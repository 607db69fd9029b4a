"""What a model is, read from the folder that its publisher has: safetensors or ONNX.

The weights are judged by their headers, the rest by `model_config`; where both say the same thing
they have to agree. Nothing in the folder is run or imported.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final, Literal, TypedDict

from sprat_proto.gguf_header import ModelFileError

from sprat_controller.publisher.formats import onnx
from sprat_controller.publisher.formats.model_config import (
    MAX_CONFIG_BYTES,
    Config,
    GenaiConfig,
    has_tools,
    licence,
    read_json,
)
from sprat_controller.publisher.formats.safetensors import SafetensorsTensor
from sprat_controller.publisher.formats.safetensors_shards import parameters, read_shards

__all__ = ["FolderFacts", "ModelFileError", "facts_of_folder"]

MAX_ENTRIES: Final = 10_000  # of a folder
_CONFIG: Final = "config.json"
_GENAI: Final = "genai_config.json"
_LAYER: Final = re.compile(r"(?:^|\.)layers\.([0-9]{1,6})\.")
_CACHE: Final = re.compile(r"past_key_values\.([0-9]{1,6})\.key")
_EMBEDDING: Final = "embed_tokens.weight"
_FLOATS: Final = frozenset({"F64", "F32", "F16", "BF16"})


@dataclass(frozen=True)
class FolderFacts:
    """What is known of a model before it is converted; sizes in bytes, 0 where nothing is said."""

    format: Literal["safetensors", "onnx"]
    architecture: str  # as transformers or ONNX Runtime GenAI call it, for example `qwen3`
    parameters: int  # weights, also if several are packed into one number
    bytes_by_type: Mapping[str, int]  # by the format's own name of the type in small letters
    layers: int
    embedding_length: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int
    context_length: int
    window: int  # of a sliding window; 0: none
    licence: str  # of the front matter of README.md
    has_tools: bool  # the chat template presents tools
    files: tuple[str, ...]  # that have the weights

    @property
    def weights_bytes(self) -> int:
        """Bytes of all weights."""
        return sum(self.bytes_by_type.values())


def facts_of_folder(folder: Path) -> FolderFacts:
    """Read what a folder says of the model in it.

    Raises:
        ModelFileError: There is no such model, a file is not well formed, or two contradict each
            other.
    """
    try:
        return _facts(folder, _names(folder))
    except ModelFileError as error:
        raise ModelFileError(f"folder {folder.name}: {error}") from error


def _facts(folder: Path, names: Collection[str]) -> FolderFacts:
    if _GENAI in names:
        return _of_genai(folder, names)
    if any(name.endswith(".safetensors") for name in names):
        return _of_safetensors(folder, names)
    if any(name.endswith(".onnx") for name in names):
        return _of_onnx(folder, names)
    raise ModelFileError("expected a model in safetensors or ONNX, found none")


def _names(folder: Path) -> frozenset[str]:
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in islice(entries, MAX_ENTRIES + 1)]
    except OSError as error:
        raise ModelFileError(f"expected a readable folder, found: {error.strerror}") from error
    if len(names) > MAX_ENTRIES:
        raise ModelFileError(f"expected at most {MAX_ENTRIES} files, found more")
    return frozenset(names)


def _of_safetensors(folder: Path, names: Collection[str]) -> FolderFacts:
    config = read_json(folder / _CONFIG, Config, MAX_CONFIG_BYTES)
    shards = read_shards(folder, names)
    sizes: Counter[str] = Counter()
    for tensor in shards.tensors:
        sizes[tensor.dtype.lower()] += tensor.end - tensor.begin
    _check_tensors(config.text_config or config, shards.tensors)
    return FolderFacts(
        format="safetensors",
        parameters=parameters(shards.tensors, config.bits),
        bytes_by_type=dict(sorted(sizes.items())),
        files=shards.files,
        licence=licence(folder, names),
        has_tools=has_tools(folder, names),
        **_shape(config),
    )


def _check_tensors(config: Config, tensors: Iterable[SafetensorsTensor]) -> None:
    """Check what the tensors tell as well."""
    layers: set[int] = set()
    for tensor in tensors:
        if match := _LAYER.search(tensor.name):
            layers.add(int(match[1]))
        if tensor.name.endswith(_EMBEDDING) and tensor.dtype in _FLOATS:
            said = (config.vocab_size, config.hidden_size)
            if None not in said and tensor.shape != said:
                raise ModelFileError(
                    f"expected {tensor.name[-64:]!r} of {said} ({_CONFIG}), found {tensor.shape}"
                )
    missing = next((n for n in range(config.num_hidden_layers or 0) if n not in layers), None)
    if layers and missing is not None:
        raise ModelFileError(
            f"expected {config.num_hidden_layers} layers ({_CONFIG}), found no layer {missing}"
        )


def _of_genai(folder: Path, names: Collection[str]) -> FolderFacts:
    model = read_json(folder / _GENAI, GenaiConfig, MAX_CONFIG_BYTES).model
    decoder = model.decoder
    config = Config(
        model_type=model.type,
        num_hidden_layers=decoder.num_hidden_layers,
        hidden_size=decoder.hidden_size,
        num_attention_heads=decoder.num_attention_heads,
        num_key_value_heads=decoder.num_key_value_heads,
        head_dim=decoder.head_size,
        vocab_size=model.vocab_size,
        max_position_embeddings=model.context_length,
    )
    return _of_graph(folder, names, decoder.filename, config)


def _of_onnx(folder: Path, names: Collection[str]) -> FolderFacts:
    models = sorted(name for name in names if name.endswith(".onnx"))
    file = "model.onnx" if "model.onnx" in models else models[0]
    if file != "model.onnx" and len(models) > 1:
        raise ModelFileError(f"expected model.onnx, found {len(models)} others")
    return _of_graph(folder, names, file, read_json(folder / _CONFIG, Config, MAX_CONFIG_BYTES))


def _of_graph(folder: Path, names: Collection[str], file: str, config: Config) -> FolderFacts:
    if file not in names or not file.isprintable():
        raise ModelFileError(f"expected a file {file[:64]!r}, found none")
    model = onnx.read(folder / file)
    _check_cache(config.text_config or config, model)
    return FolderFacts(
        format="onnx",
        parameters=model.parameters,
        bytes_by_type=model.bytes_by_type,
        files=(file, *model.external),
        licence=licence(folder, names),
        has_tools=has_tools(folder, names),
        **_shape(config),
    )


def _check_cache(config: Config, model: onnx.OnnxFile) -> None:
    """Check what the inputs for keys tell as well: batch, heads, tokens, head size."""
    keys = [value for value in model.inputs if _CACHE.fullmatch(value.name)]
    if keys and len(keys) != config.num_hidden_layers:
        raise ModelFileError(
            f"expected {config.num_hidden_layers} layers, found a cache of {len(keys)}"
        )
    expected = (config.num_key_value_heads or config.num_attention_heads, config.head_dim)
    for key in keys:
        match key.shape:
            case (_, int(heads), _, int(size)) if None not in expected and expected != (
                heads,
                size,
            ):
                raise ModelFileError(
                    f"expected heads and their size of {expected}, found"
                    f" {(heads, size)} in {key.name}"
                )
            case _:
                pass  # as said, or said at run time only


class _Shape(TypedDict):
    architecture: str
    layers: int
    embedding_length: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int
    context_length: int
    window: int


def _shape(config: Config) -> _Shape:
    text = config.text_config or config
    heads, width = text.num_attention_heads or 0, text.hidden_size or 0
    return {
        "architecture": config.model_type or text.model_type,
        "layers": text.num_hidden_layers or 0,
        "embedding_length": width,
        "heads": heads,
        "kv_heads": text.num_key_value_heads or heads,
        "head_size": text.head_dim or (width // heads if heads else 0),
        "vocabulary": text.vocab_size or 0,
        "context_length": text.max_position_embeddings or 0,
        "window": text.window,
    }
