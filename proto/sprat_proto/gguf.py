"""Which model files may be loaded, and the facts that fit needs of them.

What passes `check` is a well-formed header of an allowed architecture whose tensors lie in the file
exactly as ggml lays them out. That is not proof against every crash of llama.cpp (of 30 mutants
that aborted it, a header check stopped 5): the SHA-256 in the signed manifest and the worker
process are the other two walls.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from sprat_proto.chat_template import presents_tools
from sprat_proto.gguf_header import Array, GgufFile, ModelFileError, Tensor, read
from sprat_proto.gguf_vocabulary import BYTES
from sprat_proto.manifest import Facts

__all__ = [
    "ARCHITECTURES",
    "GgufFile",
    "ModelFileError",
    "Tensor",
    "check",
    "facts",
    "presents_tools",
    "read",
]

ARCHITECTURES: Final = frozenset({"llama", "qwen2", "qwen3", "gemma3", "phi3"})

# Of llama.cpp's tokenizers those that models of these architectures have; two of the others end or
# hang its process on a vocabulary that is not theirs.
TOKENIZERS: Final = frozenset({"gpt2", "llama"})
_SENTENCEPIECE: Final = "llama"

MAX_BLOCKS: Final = 512  # llama.cpp keeps arrays of this length
MAX_EXPERTS: Final = 512  # as above
# llama.cpp ends its process on other scalings, and on values of these keys that do not belong to
# these architectures.
_ROPE_SCALINGS: Final = frozenset({"none", "linear", "yarn", "longrope"})
_MAX_WINDOW: Final = 1 << 22  # as long as the longest context
_MAX_PATTERN: Final = 64  # one block in so many looks further than the window
_EVEN_HEADS: Final = frozenset({"qwen2", "phi3"})  # whose heads share the embedding equally
_WHOLE_ROPE: Final = frozenset({"qwen2"})  # whose heads are turned whole
# Whose window llama.cpp 0.3.36 obeys, and its pattern where the file names none.
_WINDOWED: Final = frozenset({"gemma3"})
_WINDOW_PATTERN: Final = 6
_PATTERN: Final = "attention.sliding_window_pattern"
_FOREIGN: Final = ("expert_group_count", "expert_group_used_count", "nextn_predict_layers")
_NO_TOKEN: Final = 0xFFFFFFFF
_HIGHEST_TOKEN_TYPE: Final = 6
# `<architecture>.<key>`: the highest value that makes sense.
_RANGES: Final[Mapping[str, int]] = {
    "block_count": MAX_BLOCKS,
    "context_length": 1 << 22,
    "embedding_length": 1 << 17,
    "feed_forward_length": 1 << 20,
    "attention.head_count": 1 << 12,
}
_OPTIONAL_RANGES: Final[Mapping[str, int]] = {
    "attention.head_count_kv": 1 << 12,
    "attention.key_length": 1 << 12,
    "attention.value_length": 1 << 12,
}


def check(path: Path) -> GgufFile:
    """Read the header and check also that it describes a model that Sprat runs.

    Raises:
        ModelFileError: The first thing that is wrong.
    """
    file = read(path)
    fault = (
        _fault_of_kind(file)
        or _fault_of_architecture(file)
        or _fault_of_ranges(file)
        or _fault_of_attention(file)
        or _fault_of_experts(file)
        or _fault_of_foreign_keys(file)
        or _fault_of_vocabulary(file)
        or _fault_of_tokens(file)
        or _fault_of_tensors(file)
    )
    if fault:
        raise ModelFileError(f"model file {path.name}: {fault}")
    return file


def facts(path: Path, quantization: str) -> Facts:
    """Return what fit needs to know about a model file.

    Args:
        path: A GGUF file, checked here.
        quantization: The name of its form, for example `q4_0`.

    Raises:
        ModelFileError: As for `check`.
    """
    file = check(path)
    embedding = file.of_architecture("embedding_length") or 0
    heads = file.of_architecture("attention.head_count") or 1
    key_length = file.of_architecture("attention.key_length") or embedding // heads
    return Facts(
        architecture=file.architecture,
        quantization=quantization,
        parameters=sum(tensor.elements for tensor in file.tensors),
        weights_bytes=sum(tensor.size for tensor in file.tensors),
        layers=file.of_architecture("block_count") or 0,
        embedding_length=embedding,
        inner_length=file.of_architecture("feed_forward_length") or 0,
        heads=heads,
        kv_heads=file.of_architecture("attention.head_count_kv") or heads,
        key_length=key_length,
        value_length=file.of_architecture("attention.value_length") or embedding // heads,
        vocabulary=file.arrays["tokenizer.ggml.tokens"].count,
        context_length=file.of_architecture("context_length") or 0,
        licence=str(file.metadata.get("general.license", "")),
        tensor_bytes=_by_type((tensor, tensor.size) for tensor in file.tensors),
        bytes_per_token=_by_type(_read_per_token(file)),
        window=_window(file),
        window_layers=_window_layers(file),
        has_tools=presents_tools(str(file.metadata.get("tokenizer.chat_template", ""))),
    )


def _by_type(sizes: Iterable[tuple[Tensor, int]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for tensor, size in sizes:
        kind = tensor.type.lower()
        found[kind] = found.get(kind, 0) + size
    return dict(sorted(found.items()))


def _read_per_token(file: GgufFile) -> Iterator[tuple[Tensor, int]]:
    """Yield each tensor with the bytes of it that one decoded token reads."""
    has_head = any(tensor.name == "output.weight" for tensor in file.tensors)
    experts = file.of_architecture("expert_count") or 0
    used = file.of_architecture("expert_used_count") or 0
    for tensor in file.tensors:
        if tensor.name == "token_embd.weight" and has_head:
            yield tensor, tensor.size // max(tensor.dims[1], 1)
        elif "_exps." in tensor.name and experts:
            yield tensor, tensor.size * used // experts
        else:
            yield tensor, tensor.size


def _window(file: GgufFile) -> int:
    if file.architecture not in _WINDOWED:
        return 0
    return file.of_architecture("attention.sliding_window") or 0


def _window_layers(file: GgufFile) -> int:
    """Return how many layers look only as far as the window: all but each pattern's last."""
    if not _window(file) or f"{file.architecture}.{_PATTERN}" in file.arrays:
        return 0  # an array says it layer by layer; its elements are not kept, so count none
    layers = file.of_architecture("block_count") or 0
    pattern = file.of_architecture(_PATTERN) or _WINDOW_PATTERN
    return layers - layers // pattern


def _fault_of_kind(file: GgufFile) -> str | None:
    """Models may leave out what they are; adapters, projectors and such say it."""
    kind = file.metadata.get("general.type", "model")
    if kind == "model":
        return None
    return f"expected a model (general.type), found {kind!r}"[:200]


def _fault_of_architecture(file: GgufFile) -> str | None:
    if file.architecture not in ARCHITECTURES:
        allowed = ", ".join(sorted(ARCHITECTURES))
        return f"expected an architecture of {allowed}, found {file.architecture[:64]!r}"
    epsilon = file.metadata.get(f"{file.architecture}.attention.layer_norm_rms_epsilon")
    if not isinstance(epsilon, float) or not 0 < epsilon < 1:
        return f"expected an RMS norm epsilon between 0 and 1, found {epsilon!r}"
    return None


def _fault_of_ranges(file: GgufFile) -> str | None:
    for key, highest in (_RANGES | _OPTIONAL_RANGES).items():
        full = f"{file.architecture}.{key}"
        if key in _OPTIONAL_RANGES and full not in file.metadata and full not in file.arrays:
            continue
        value = file.of_architecture(key)
        if value is None or not 0 < value <= highest:
            found = "an array" if full in file.arrays else repr(file.metadata.get(full))[:64]
            return f"expected {full} from 1 to {highest}, found {found}"
    heads = file.of_architecture("attention.head_count") or 1
    kv_heads = file.of_architecture("attention.head_count_kv") or heads
    if heads % kv_heads:
        return f"expected heads in groups for {kv_heads} key-value heads, found {heads} heads"
    embedding = file.of_architecture("embedding_length") or 0
    if file.of_architecture("attention.key_length") is None and embedding % heads:
        return f"expected {heads} heads to share the embedding equally, found {embedding} wide"
    return None


def _fault_of_attention(file: GgufFile) -> str | None:
    """Judge what llama.cpp asserts while it builds the graph, when no error can be returned."""
    architecture = file.architecture
    share = (file.of_architecture("embedding_length") or 0) // (
        file.of_architecture("attention.head_count") or 1
    )
    key_length = file.of_architecture("attention.key_length") or share
    value_length = file.of_architecture("attention.value_length") or share
    if architecture in _EVEN_HEADS and not key_length == value_length == share:
        return f"expected keys and values of {share}, found {key_length} and {value_length}"
    lowest = key_length if architecture in _WHOLE_ROPE else 2  # they are turned in pairs
    for key in ("rope.dimension_count", "rope.dimension_count_swa"):
        turned = file.of_architecture(key)
        turned = key_length if turned is None else turned
        if turned % 2 or not lowest <= turned <= key_length:
            return f"expected an even {key} from {lowest} to {key_length}, found {turned}"
    window = file.of_architecture("attention.sliding_window") or 0
    if not 0 <= window <= _MAX_WINDOW:
        return f"expected a sliding window of at most {_MAX_WINDOW}, found {window}"
    pattern = file.of_architecture(_PATTERN)
    if pattern is not None and not 1 < pattern <= _MAX_PATTERN:
        return f"expected a sliding window pattern of 2 to {_MAX_PATTERN}, found {pattern}"
    return None


def _fault_of_experts(file: GgufFile) -> str | None:
    listed = next(
        (key for key in file.arrays if key.startswith(f"{file.architecture}.expert_")), ""
    )
    if listed:
        return f"expected a number for {listed}, found an array"
    count = file.of_architecture("expert_count") or 0
    used = file.of_architecture("expert_used_count") or 0
    if not 0 <= count <= MAX_EXPERTS:
        return f"expected up to {MAX_EXPERTS} experts, found {count}"
    if not 0 <= used <= count or (count and not used):
        return f"expected some of {count} experts to be used at once, found {used}"
    return None


def _fault_of_foreign_keys(file: GgufFile) -> str | None:
    for key in _FOREIGN:
        value = file.metadata.get(f"{file.architecture}.{key}", 0)
        if value != 0:
            return f"expected no {key} for the architecture {file.architecture}, found {value!r}"[
                :200
            ]
    scaling = file.metadata.get(f"{file.architecture}.rope.scaling.type", "none")
    if scaling not in _ROPE_SCALINGS:
        allowed = ", ".join(sorted(_ROPE_SCALINGS))
        return f"expected a RoPE scaling of {allowed}, found {scaling!r}"[:200]
    return None


def _fault_of_vocabulary(file: GgufFile) -> str | None:
    tokens = file.arrays.get("tokenizer.ggml.tokens")
    if tokens is None or not tokens.count:
        return "expected a vocabulary (tokenizer.ggml.tokens), found none"
    tokenizer = file.metadata.get("tokenizer.ggml.model")
    if tokenizer not in TOKENIZERS:
        allowed = ", ".join(sorted(TOKENIZERS))
        return f"expected a tokenizer (tokenizer.ggml.model) of {allowed}, found {tokenizer!r}"[
            :200
        ]
    for key in ("tokenizer.ggml.scores", "tokenizer.ggml.token_type"):
        array = file.arrays.get(key)
        if array is not None and array.count != tokens.count:
            return f"expected {tokens.count} elements in {key} (one a token), found {array.count}"
    for key, value in file.metadata.items():
        if not key.endswith("_token_id") or value == _NO_TOKEN:
            continue
        if type(value) is not int or not 0 <= value < tokens.count:
            return f"expected {key} below {tokens.count}, found {value!r}"[:200]
    return None


def _fault_of_tokens(file: GgufFile) -> str | None:
    vocabulary, none = file.vocabulary, Array(kind=0, count=0)
    types = file.arrays.get("tokenizer.ggml.token_type", none)
    if types.lowest < 0 or types.highest > _HIGHEST_TOKEN_TYPE:
        return (
            f"expected token types from 0 to {_HIGHEST_TOKEN_TYPE},"
            f" found {types.lowest} to {types.highest}"
        )
    suppressed = file.arrays.get("tokenizer.ggml.suppress_tokens", none)
    count = file.arrays["tokenizer.ggml.tokens"].count
    if suppressed.lowest < 0 or suppressed.highest >= count:
        return (
            f"expected suppressed tokens below {count},"
            f" found {suppressed.lowest} to {suppressed.highest}"
        )
    if not vocabulary.is_distinct:
        return "expected each token of the vocabulary once, found one twice"
    if not vocabulary.byte_typed <= vocabulary.byte_tokens:
        return "expected tokens of the type byte to be called <0x00> to <0xFF>, found another name"
    is_sentencepiece = file.metadata["tokenizer.ggml.model"] == _SENTENCEPIECE
    if is_sentencepiece and len(vocabulary.byte_tokens) != BYTES:
        found = len(vocabulary.byte_tokens)
        return f"expected a token for each of {BYTES} bytes (<0x00> to <0xFF>), found {found}"
    return None


def _fault_of_tensors(file: GgufFile) -> str | None:
    names = {tensor.name: tensor for tensor in file.tensors}
    embedding = file.of_architecture("embedding_length")
    vocabulary = file.arrays["tokenizer.ggml.tokens"].count
    for name, dims in (
        ("token_embd.weight", (embedding, vocabulary)),
        ("output_norm.weight", (embedding,)),
    ):
        found = names[name].dims if name in names else "none"
        if found != dims:
            return f"expected a tensor {name} of dimensions {dims}, found {found}"
    blocks = file.of_architecture("block_count") or 0
    missing = next((n for n in range(blocks) if f"blk.{n}.attn_norm.weight" not in names), None)
    if missing is not None:
        return f"expected {blocks} blocks, found no blk.{missing}.attn_norm.weight"
    return None
