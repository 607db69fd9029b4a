"""What the JSON files beside a model's weights say of it, under limits.

Read are `config.json` of transformers, `genai_config.json` of ONNX Runtime GenAI, and what tells of
the chat template and the licence. Only the fields named here are built; the rest of a file is
passed over, so it costs its own length.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Final, TypeVar

import msgspec
from msgspec import Meta, Struct
from sprat_proto.chat_template import presents_tools
from sprat_proto.gguf_header import ModelFileError
from sprat_proto.opened import opened

T = TypeVar("T")

MAX_CONFIG_BYTES: Final = 4 << 20
MAX_TOKENIZER_BYTES: Final = 16 << 20  # names each added token
MAX_INDEX_BYTES: Final = 32 << 20  # names each tensor twice
MAX_CARD_BYTES: Final = 64 << 10  # its front matter; of a longer card the beginning is read
MAX_TEMPLATE_BYTES: Final = 1 << 20

_Count = Annotated[int, Meta(ge=1, le=1 << 20)]
_Long = Annotated[int, Meta(ge=1, le=1 << 40)]
_Bits = Annotated[int, Meta(ge=1, le=32)]
_Word = Annotated[str, Meta(max_length=128)]
_JINJA: Final = "chat_template.jinja"
_CARD: Final = "README.md"
_LICENCE: Final = re.compile(r"(license|license_name):[ \t]*(.*)")
_ITEM: Final = re.compile(r"[ \t]*-[ \t]+(.*)")


class Quantization(Struct):
    """How weights are packed (MLX, GPTQ, AWQ; BitNet, which says no bits)."""

    bits: _Bits | None = None
    quant_method: _Word = ""


class Config(Struct):
    """The fields of `config.json` that say how large a model is."""

    model_type: _Word = ""
    num_hidden_layers: _Count | None = None
    hidden_size: _Count | None = None
    num_attention_heads: _Count | None = None
    num_key_value_heads: _Count | None = None
    head_dim: _Count | None = None
    vocab_size: _Long | None = None
    max_position_embeddings: _Long | None = None
    sliding_window: Annotated[int, Meta(ge=0, le=1 << 40)] | None = None
    use_sliding_window: bool = True
    quantization: Quantization | None = None
    quantization_config: Quantization | None = None
    text_config: Config | None = None  # of models that see or hear as well

    @property
    def bits(self) -> int | None:
        """Bits of a packed weight, if weights are packed."""
        packing = self.quantization or self.quantization_config
        if packing is None or packing.quant_method != "bitnet":
            return packing.bits if packing else None
        return 2  # for each of three values

    @property
    def window(self) -> int:
        """Tokens that a layer of a sliding window looks back; 0: there is none."""
        return (self.sliding_window or 0) if self.use_sliding_window else 0


class Decoder(Struct):
    """The part of `genai_config.json` that tells of the language model."""

    filename: _Word = "model.onnx"
    head_size: _Count | None = None
    hidden_size: _Count | None = None
    num_attention_heads: _Count | None = None
    num_key_value_heads: _Count | None = None
    num_hidden_layers: _Count | None = None


class GenaiModel(Struct):
    """What `genai_config.json` says of the model."""

    type: _Word = ""
    context_length: _Long | None = None
    vocab_size: _Long | None = None
    decoder: Decoder = msgspec.field(default_factory=Decoder)


class GenaiConfig(Struct):
    """`genai_config.json`; how to search is left out."""

    model: GenaiModel


class Index(Struct):
    """`model.safetensors.index.json`: which file has which tensor."""

    weight_map: Annotated[dict[str, _Word], Meta(min_length=1, max_length=100_000)]


class _Named(Struct):
    name: str
    template: str


class _Tokenizer(Struct):
    chat_template: str | Annotated[list[_Named], Meta(max_length=64)] | None = None


def read_json(path: Path, kind: type[T], limit: int) -> T:
    """Read a JSON file.

    Raises:
        ModelFileError: It cannot be read, is longer than `limit` bytes, or says something else.
    """
    try:
        # As text: msgspec looks at the bytes of fields that it builds only.
        return msgspec.json.decode(_read(path, limit).decode(), type=kind)
    except ModelFileError as error:
        raise ModelFileError(f"file {path.name}: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        what = f"expected JSON with its usual fields, found: {error}"
        raise ModelFileError(f"file {path.name}: {_shown(what)}") from error


def has_tools(folder: Path, names: Collection[str]) -> bool:
    """Tell whether the chat template of a model presents tools.

    Args:
        folder: Of the model.
        names: Of the files in it.

    Raises:
        ModelFileError: A file that may have it is not what it should be.
    """
    if _JINJA in names:
        return presents_tools(_text(folder / _JINJA, MAX_TEMPLATE_BYTES))
    for name in ("chat_template.json", "tokenizer_config.json"):
        if name not in names:
            continue
        found = read_json(folder / name, _Tokenizer, MAX_TOKENIZER_BYTES).chat_template
        templates = [found] if isinstance(found, str) else [one.template for one in found or ()]
        if templates:
            return any(presents_tools(template) for template in templates)
    return False


def licence(folder: Path, names: Collection[str]) -> str:
    """Return the licence in the front matter of `README.md`, or nothing.

    Args:
        folder: Of the model.
        names: Of the files in it.

    Raises:
        ModelFileError: The file cannot be read.
    """
    if _CARD not in names:
        return ""
    try:
        with opened(folder / _CARD) as file:
            text = file.read(MAX_CARD_BYTES).decode(errors="replace")
    except ModelFileError as error:
        raise ModelFileError(f"file {_CARD}: {error}") from error
    found = _front_matter(text)
    # "other" is what a card says whose licence has a name of its own.
    own = found.get("license_name", "")
    return own if own and found.get("license", "other") == "other" else found.get("license", "")


def _front_matter(text: str) -> dict[str, str]:
    """Return the licences that a card begins with; of a list the first."""
    lines = text.splitlines()
    found: dict[str, str] = {}
    if not lines or lines[0].strip() != "---":
        return found
    key = ""
    for line in lines[1:]:
        if line.rstrip() == "---":
            break
        item = _ITEM.match(line) if key else None
        said = _LICENCE.match(line)
        value = said[2] if said else item[1] if item else ""
        key = said[1] if said else key if item else ""
        value = _shown(value.partition(" #")[0].strip().strip("'\"[]"))[:128]
        if value:
            found.setdefault(key, value)
            key = ""
    return found


def _read(path: Path, limit: int) -> bytes:
    with opened(path) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise ModelFileError(f"expected at most {limit} bytes, found more")
    return data


def _text(path: Path, limit: int) -> str:
    try:
        return _read(path, limit).decode()
    except UnicodeDecodeError as error:
        raise ModelFileError(f"file {path.name}: expected UTF-8, found other bytes") from error
    except ModelFileError as error:
        raise ModelFileError(f"file {path.name}: {error}") from error


def _shown(text: str) -> str:
    """Return a text that a terminal can show, and not too long."""
    return "".join(character if character.isprintable() else " " for character in text)[:300]
