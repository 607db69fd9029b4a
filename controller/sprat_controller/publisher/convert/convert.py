"""A model folder as a GGUF in half precision, without torch.

What llama.cpp's converter makes of a folder is what is made here, tensor by tensor; the differences
that are left, each with its reason, are listed in `tests/controller/publisher/convert/oracle.py`.
The numbers need numpy and gguf (the extra `publish`); this module itself does not.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sprat_proto import gguf

from sprat_controller.publisher.convert.accepted import read_config
from sprat_controller.publisher.convert.architectures import EMBEDDING, HEAD, Plan, plan
from sprat_controller.publisher.convert.checkpoint import (
    Source,
    Stored,
    find,
    is_checkpoint,
    match,
)
from sprat_controller.publisher.convert.config import Config
from sprat_controller.publisher.convert.errors import ConvertError
from sprat_controller.publisher.convert.metadata import Metadata, general
from sprat_controller.publisher.convert.special_tokens import chat_template, special_tokens
from sprat_controller.publisher.convert.tokenizer_files import TokenizerFiles, read_tokenizer
from sprat_controller.publisher.convert.vocabulary import Vocabulary, vocabulary

__all__ = ["ConvertError", "Converted", "convert", "is_model_folder"]

Report = Callable[[str, int, int], None]

_PHI3: Final = ("phi-3", "phi3")
_PHI3_TOKENS: Final = ("</s>", "<unk>", "<s>", "<|endoftext|>")


@dataclass(frozen=True)
class Converted:
    """The GGUF and what a publisher wants to know of it."""

    path: Path
    architecture: str
    is_ternary: bool  # its weights are -1, 0 and 1, times one number a layer
    licence: str  # as the model's card says, or nothing
    chat_template: str | None
    parameters: int


def is_model_folder(path: Path) -> bool:
    """Say whether a path looks like a Hugging Face model with safetensors."""
    return (path / "config.json").is_file() and is_checkpoint(path)


def convert(folder: Path, target: Path, *, pre: str | None = None, report: Report) -> Converted:
    """Write a model folder as a GGUF to `target`, whole or not at all.

    Matrices are stored in half precision, vectors in single precision. It takes less
    than 200 MB of memory, however large the model (seen in November 2026 with one of 2.5 GB); one
    that is packed takes some bytes for each weight of its largest layer.

    Args:
        folder: Of safetensors, in the format of Hugging Face.
        target: The file to write.
        pre: llama.cpp's name of the pre-tokenizer, where the folder's is not known.
        report: Called with a tensor's name, and how many bytes of how many are written.

    Raises:
        ConvertError: The folder is not a model that is converted here; or gguf is not installed.
    """
    tensors, writer = _with_numpy("tensors"), _with_numpy("write")
    partial = target.with_name(f".{target.name}.partial")
    try:
        model = _read(folder, pre, tensors.is_equal)
        writer.write(
            partial,
            model.architecture,
            metadata=model.metadata,
            factors=model.plan.factors,
            sources=model.sources,
            report=report,
        )
        file = gguf.check(partial)
        partial.replace(target)
    except gguf.ModelFileError as error:
        raise ConvertError(str(error).replace(partial.name, target.name)) from error
    except OSError as error:
        raise ConvertError(
            f"cannot convert {folder.name} to {target.name}: {error.strerror or error}"
        ) from error
    finally:
        partial.unlink(missing_ok=True)
    return Converted(
        path=target,
        architecture=model.architecture,
        is_ternary=any(source.scale for source in model.sources),
        licence=str(model.metadata.get("general.license", "")),
        chat_template=model.template,
        parameters=sum(tensor.elements for tensor in file.tensors),
    )


@dataclass(frozen=True)
class _Model:
    architecture: str
    metadata: Metadata
    plan: Plan
    sources: tuple[Source, ...]
    template: str | None


def _read(folder: Path, pre: str | None, is_equal: Callable[[Stored, Stored], bool]) -> _Model:
    """Read all but the numbers."""
    architecture, config = read_config(folder)
    wanted = plan(architecture, config)
    found = find(folder)
    sources = match(wanted.weights, found, is_packed=config.quantization_config is not None)
    _check_head(config, found, is_equal)
    files = read_tokenizer(folder)
    words = vocabulary(architecture, files, config.vocab_size, pre)
    template = chat_template(files)
    about = general(folder)
    _check_name(str(about["general.name"]), words)
    metadata = about | wanted.metadata | _of_words(words, files, config)
    if template:
        metadata["tokenizer.chat_template"] = template
    return _Model(architecture, metadata, wanted, sources, template)


def _of_words(words: Vocabulary, files: TokenizerFiles, config: Config) -> Metadata:
    metadata: Metadata = {
        "tokenizer.ggml.model": words.model,
        "tokenizer.ggml.pre": words.pre,
        "tokenizer.ggml.tokens": words.tokens,
        "tokenizer.ggml.token_type": words.types,
    }
    if words.scores:
        metadata["tokenizer.ggml.scores"] = words.scores
    if words.merges:
        metadata["tokenizer.ggml.merges"] = words.merges
    if words.has_space_prefix is not None:
        metadata["tokenizer.ggml.add_space_prefix"] = words.has_space_prefix
    return metadata | special_tokens(files, config, len(words.tokens))


def _check_head(
    config: Config, found: Mapping[str, Stored], is_equal: Callable[[Stored, Stored], bool]
) -> None:
    """Leave out a copy of the embedding, and nothing but a copy."""
    if not config.tie_word_embeddings or HEAD not in found:
        return
    if not is_equal(found[HEAD], found[EMBEDDING]):
        raise ConvertError(
            f"expected {HEAD} to be a copy of {EMBEDDING} (tie_word_embeddings), found another"
        )


def _check_name(name: str, words: Vocabulary) -> None:
    """llama.cpp asks for phi 3's tokens by the model's name: without them it does not load."""
    if not any(part in name.lower() for part in _PHI3):
        return
    known = set(words.tokens)
    missing = next((text for text in _PHI3_TOKENS if text not in known), None)
    if missing is not None:
        raise ConvertError(
            f"expected a token {missing} in a model called {name[:64]!r}, found none:"
            " give the folder a name without phi3"
        )


def _with_numpy(name: str) -> Any:
    """Return one of this package's modules that need the extra `publish`."""
    try:
        return importlib.import_module(f"sprat_controller.publisher.convert.{name}")
    except ImportError as error:
        raise ConvertError(
            f"converting needs {error.name}, which is not installed here:"
            " run `pip install sprat-controller[publish]`"
        ) from error
