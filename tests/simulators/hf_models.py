"""Tiny Hugging Face model folders, made with numpy alone: the same bytes wherever they are made.

`write(folder, kind)` makes one of `KINDS`. They have random weights, and tokenizers that are small
but whole: bytes, some merges, special tokens. Widths are multiples of 32, so they can be quantized.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from simulators import hf_tokenizers
from simulators.hf_tokenizers import TokenizerFolder

Array = NDArray[Any]
Shapes = dict[str, tuple[int, ...]]

WIDTH: Final = 64
INNER: Final = 128
VOCABULARY: Final = 448  # more rows than tokens, as real models have
BLOCKS: Final = 2

_TYPES: Final = {"float16": "F16", "float32": "F32", "uint8": "U8"}
_BF16: Final = "bfloat16"


@dataclass(frozen=True)
class HfModel:
    """A folder's recipe: the config, the shapes of its tensors, the tokenizer."""

    config: Mapping[str, Any]
    shapes: Shapes
    tokenizer: TokenizerFolder
    dtype: str = _BF16
    shards: int = 1
    scale: float = 0.25
    extra: Mapping[str, Array] = field(default_factory=dict[str, Array])
    card: str = "---\nlicense: apache-2.0\n---\n# A tiny model\n"

    @property
    def pre(self) -> str:
        """llama.cpp's name of the pre-tokenizer."""
        return self.tokenizer.pre


def write(folder: Path, kind: str) -> Path:
    """Make the folder `kind` of `KINDS` and return it."""
    return write_model(folder, KINDS[kind]())


def write_model(folder: Path, model: HfModel) -> Path:
    """Make the folder of a recipe and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / "config.json", model.config)
    (folder / "README.md").write_text(model.card, encoding="utf-8")
    for name, content in model.tokenizer.files.items():
        (folder / name).write_bytes(content)
    tensors = {
        name: _stored(_numbers(name, shape, model.scale), model.dtype)
        for name, shape in model.shapes.items()
    } | {
        name: (_TYPES[str(array.dtype)], array.shape, array.tobytes())
        for name, array in model.extra.items()
    }
    _write_tensors(folder, tensors, model.shards)
    return folder


def write_safetensors(
    path: Path, tensors: Mapping[str, tuple[str, tuple[int, ...], bytes]]
) -> None:
    """Write a safetensors file of types, shapes and bytes."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {
            "dtype": dtype, "shape": list(shape), "data_offsets": [end, end + len(data)]
        }  # fmt: skip
        end += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    data = b"".join(one for _, _, one in tensors.values())
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def _write_tensors(
    folder: Path, tensors: Mapping[str, tuple[str, tuple[int, ...], bytes]], shards: int
) -> None:
    if shards == 1:
        write_safetensors(folder / "model.safetensors", tensors)
        return
    names = sorted(tensors)
    places: dict[str, str] = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        mine = names[shard::shards]
        write_safetensors(folder / file, {name: tensors[name] for name in mine})
        places |= dict.fromkeys(mine, file)
    size = sum(len(data) for _, _, data in tensors.values())
    index = {"metadata": {"total_size": size}, "weight_map": places}
    _write_json(folder / "model.safetensors.index.json", index)


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")


def _numbers(name: str, shape: Sequence[int], scale: float) -> NDArray[np.float32]:
    """Return random numbers below `scale` that depend on the name alone."""
    raw = np.random.PCG64(zlib.crc32(name.encode())).random_raw(int(np.prod(shape)))
    unit = (np.asarray(raw) >> np.uint64(40)).astype(np.float32) / np.float32(1 << 23) - 1
    return (unit * np.float32(scale)).reshape(shape)


def _stored(numbers: NDArray[np.float32], dtype: str) -> tuple[str, tuple[int, ...], bytes]:
    if dtype == _BF16:
        data = (numbers.view(np.uint32) >> np.uint32(16)).astype("<u2").tobytes()
        return "BF16", numbers.shape, data
    data = numbers.astype(np.dtype(dtype).newbyteorder("<"))
    return _TYPES[dtype], numbers.shape, data.tobytes()


def _config(name: str, kind: str, **more: Any) -> dict[str, Any]:
    return {  # what is asked for has the last word
        "architectures": [name],
        "model_type": kind,
        "hidden_size": WIDTH,
        "intermediate_size": INNER,
        "num_hidden_layers": BLOCKS,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "rms_norm_eps": 1e-6,
        "vocab_size": VOCABULARY,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "torch_dtype": "bfloat16",
        **more,
    }


def _shapes(
    config: Mapping[str, Any], *, norms: Sequence[str], has_head_norms: bool = False
) -> Shapes:
    """Return the tensors of a model with separate queries, keys and values."""
    width, inner = config["hidden_size"], config["intermediate_size"]
    head = config.get("head_dim") or width // config["num_attention_heads"]
    queries = head * config["num_attention_heads"]
    keys = head * config["num_key_value_heads"]
    matrices = {
        "self_attn.q_proj": (queries, width),
        "self_attn.k_proj": (keys, width),
        "self_attn.v_proj": (keys, width),
        "self_attn.o_proj": (width, queries),
        "mlp.gate_proj": (inner, width),
        "mlp.up_proj": (inner, width),
        "mlp.down_proj": (width, inner),
    }
    block: Shapes = {f"{name}.weight": shape for name, shape in matrices.items()}
    block |= {f"{name}.weight": (width,) for name in norms}
    if has_head_norms:
        block |= {"self_attn.q_norm.weight": (head,), "self_attn.k_norm.weight": (head,)}
    for name, shape in matrices.items():
        if config.get("attention_bias" if name.startswith("self") else "mlp_bias"):
            block[f"{name}.bias"] = shape[:1]
    return _whole(config, block)


def _whole(config: Mapping[str, Any], block: Shapes) -> Shapes:
    width, rows = config["hidden_size"], config["vocab_size"]
    shapes: Shapes = {"model.embed_tokens.weight": (rows, width)}
    for number in range(config["num_hidden_layers"]):
        shapes |= {f"model.layers.{number}.{name}": shape for name, shape in block.items()}
    shapes["model.norm.weight"] = (width,)
    if not config.get("tie_word_embeddings", False):
        shapes["lm_head.weight"] = (rows, width)
    return shapes


_TWO_NORMS: Final = ("input_layernorm", "post_attention_layernorm")
_FOUR_NORMS: Final = (*_TWO_NORMS, "pre_feedforward_layernorm", "post_feedforward_layernorm")


def llama(tokenizer: TokenizerFolder | None = None, **more: Any) -> HfModel:
    """A model of llama's architecture; SentencePiece's tokenizer unless told otherwise."""
    config = _config("LlamaForCausalLM", "llama", hidden_act="silu", **more)
    tokenizer = tokenizer or hf_tokenizers.sentencepiece()
    return HfModel(config, _shapes(config, norms=_TWO_NORMS), tokenizer)


def qwen3(tokenizer: TokenizerFolder | None = None, **more: Any) -> HfModel:
    """A model of qwen 3's, with heads wider than their share of the embedding."""
    settings: dict[str, Any] = {"head_dim": 32, "tie_word_embeddings": True} | more
    config = _config("Qwen3ForCausalLM", "qwen3", hidden_act="silu", **settings)
    shapes = _shapes(config, norms=_TWO_NORMS, has_head_norms=True)
    return HfModel(config, shapes, tokenizer or hf_tokenizers.byte_level("qwen2"))


def gemma3(tokenizer: TokenizerFolder | None = None, **more: Any) -> HfModel:
    """A model of gemma 3's, with six blocks: five with a window, one without."""
    settings: dict[str, Any] = {
        "num_hidden_layers": 6,
        "head_dim": 32,
        "query_pre_attn_scalar": 32,
        "sliding_window": 128,
        "hidden_activation": "gelu_pytorch_tanh",
        "tie_word_embeddings": True,
        "rope_theta": 1_000_000.0,
        "rope_local_base_freq": 10_000.0,
        "rope_scaling": None,
        "attn_logit_softcapping": None,
        "final_logit_softcapping": None,
        "sliding_window_pattern": 6,
        "bos_token_id": 2,
        "eos_token_id": [1, 3],
    } | more
    config = _config("Gemma3ForCausalLM", "gemma3_text", **settings)
    shapes = _shapes(config, norms=_FOUR_NORMS, has_head_norms=True)
    return HfModel(config, shapes, tokenizer or hf_tokenizers.gemma())


def phi3(tokenizer: TokenizerFolder | None = None, **more: Any) -> HfModel:
    """A model of phi 3's, with fused matrices."""
    settings: dict[str, Any] = {
        "hidden_act": "silu",
        "original_max_position_embeddings": 512,
        "sliding_window": 256,
        "pad_token_id": 0,
    } | more
    config = _config("Phi3ForCausalLM", "phi3", **settings)
    block: Shapes = {
        "self_attn.qkv_proj.weight": (WIDTH * 2, WIDTH),
        "self_attn.o_proj.weight": (WIDTH, WIDTH),
        "mlp.gate_up_proj.weight": (2 * INNER, WIDTH),
        "mlp.down_proj.weight": (WIDTH, INNER),
        "input_layernorm.weight": (WIDTH,),
        "post_attention_layernorm.weight": (WIDTH,),
    }
    return HfModel(config, _whole(config, block), tokenizer or hf_tokenizers.phi3())


def bitnet(**more: Any) -> HfModel:
    """A model of llama's architecture whose linear layers are -1, 0 and 1, four in a byte."""
    quantization = {"quant_method": "bitnet", "modules_to_not_convert": None}
    tokenizer = hf_tokenizers.byte_level("llama-bpe")
    plain = llama(tokenizer, quantization_config=quantization, **more)
    packed: dict[str, Array] = {}
    shifts = np.array([0, 2, 4, 6], dtype=np.uint8).reshape(4, 1, 1)
    for name, shape in plain.shapes.items():
        if "_proj" in name:
            raw = np.random.PCG64(zlib.crc32(name.encode())).random_raw(int(np.prod(shape)))
            codes = (np.asarray(raw) % np.uint64(3)).astype(np.uint8)
            parts = codes.reshape(4, shape[0] // 4, *shape[1:])
            packed[name] = np.bitwise_or.reduce(parts << shifts)
            packed[f"{name}_scale"] = np.array([4 + len(name) % 3], dtype=np.float32)
    shapes = {name: shape for name, shape in plain.shapes.items() if name not in packed}
    return HfModel(plain.config, shapes, plain.tokenizer, extra=packed)


def _but(model: HfModel, **changes: Any) -> HfModel:
    fields = {name: getattr(model, name) for name in HfModel.__dataclass_fields__}
    return HfModel(**(fields | changes))


_LLAMA3: Final = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 128,
}
_LINEAR: Final = {"rope_type": "linear", "factor": 2.0}
_YARN: Final = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}


def _longrope(pairs: int) -> dict[str, Any]:
    return {
        "type": "longrope",
        "long_factor": [1.0 + at / 7 for at in range(pairs)],
        "short_factor": [1.0 + at / 90 for at in range(pairs)],
    }


# What is converted and compared with llama.cpp's converter.
KINDS: Final[Mapping[str, Callable[[], HfModel]]] = {
    "llama": llama,
    "llama-tied": lambda: llama(tie_word_embeddings=True, head_dim=16, rope_theta=50_000.0),
    "llama-sharded": lambda: _but(llama(), shards=3),
    "llama-f16": lambda: _but(llama(), dtype="float16"),
    "llama-f32": lambda: _but(llama(num_key_value_heads=4), dtype="float32"),
    "llama-biases": lambda: llama(attention_bias=True, mlp_bias=True),
    "llama-linear": lambda: llama(rope_scaling=_LINEAR),
    "llama3": lambda: llama(
        hf_tokenizers.byte_level("llama-bpe"),
        rope_theta=500_000.0,
        rope_scaling=_LLAMA3,
        head_dim=32,
    ),
    "llama3-new-config": lambda: llama(  # as transformers 5 writes it
        hf_tokenizers.byte_level("llama-bpe"),
        rope_parameters={"rope_theta": 500_000.0, **_LLAMA3},
        head_dim=32,
    ),
    "llama-gpt2": lambda: llama(hf_tokenizers.byte_level("gpt-2")),
    "llama-smollm": lambda: llama(hf_tokenizers.byte_level("smollm"), tie_word_embeddings=True),
    "llama-spm-json": lambda: llama(hf_tokenizers.sentencepiece(has_model=False)),
    "llama-spm-alone": lambda: llama(hf_tokenizers.sentencepiece(has_json=False)),
    "qwen3": qwen3,
    "qwen3-untied": lambda: _but(qwen3(tie_word_embeddings=False), shards=2),
    "qwen3-framed": lambda: qwen3(hf_tokenizers.byte_level("qwen2", is_framed=True)),
    "qwen3-yarn": lambda: qwen3(rope_scaling=_YARN),
    "qwen3-copied-head": lambda: _with_copied_head(qwen3()),
    "gemma3": gemma3,
    "gemma3-linear": lambda: gemma3(rope_scaling=_LINEAR, final_logit_softcapping=30.0),
    "gemma3-new-config": lambda: gemma3(
        rope_parameters={
            "full_attention": {"rope_type": "default", "rope_theta": 1_000_000.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
        },
        layer_types=[*["sliding_attention"] * 5, "full_attention"],
    ),
    "gemma3-json": lambda: gemma3(hf_tokenizers.gemma(has_model=False)),
    "gemma3-f16": lambda: _but(gemma3(), dtype="float16"),
    "phi3": phi3,
    "phi3-longrope": lambda: phi3(max_position_embeddings=2048, rope_scaling=_longrope(8)),
    "phi3-json": lambda: phi3(hf_tokenizers.phi3(has_model=False)),
    "phi4-mini": lambda: phi3(
        hf_tokenizers.byte_level("gpt-4o", tokenizer_class="GPT2Tokenizer"),
        tie_word_embeddings=True,
        partial_rotary_factor=0.75,
        max_position_embeddings=2048,
        rope_scaling=_longrope(6),
        sliding_window=None,
    ),
    "phi4": lambda: phi3(
        hf_tokenizers.byte_level("dbrx", tokenizer_class="GPT2Tokenizer"), sliding_window=None
    ),
    "bitnet": bitnet,
}


def _with_copied_head(model: HfModel) -> HfModel:
    """A tied model whose checkpoint has the embedding twice, as qwen 3's of 0.6 B has."""
    name = "model.embed_tokens.weight"
    numbers = _numbers(name, model.shapes[name], model.scale)
    shapes = {key: shape for key, shape in model.shapes.items() if key != name}
    half = numbers.astype(np.float16)
    return _but(model, shapes=shapes, extra={name: half, "lm_head.weight": half}, dtype="float16")
