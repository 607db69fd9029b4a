# pyright: reportUnknownMemberType=false
# gguf's writer and llama.cpp's bindings are only partly typed.
"""Models of the Qwen3 architecture with random weights: their speed and size are real, not texts.

The shape of Qwen3-0.6B is the one that its published configuration states: 28 layers of width 1024,
16 heads of 128 on 8 of keys and values, an inner width of 3072, 151,936 tokens, tied embeddings.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import gguf
import llama_cpp
import numpy as np
from numpy.typing import NDArray

_SPECIAL: Final = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")  # before the last unused ones
_UNUSED: Final = 293 - len(_SPECIAL)
TEMPLATE: Final = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "<|im_start|>assistant\n"
)


@dataclass(frozen=True)
class Shape:
    """What the speed and the size of a model follow from."""

    name: str
    layers: int
    width: int
    inner: int
    heads: int
    kv_heads: int
    head: int
    vocabulary: int


QWEN3_06B: Final = Shape("qwen3-0.6b", 28, 1024, 3072, 16, 8, 128, 151_936)


def write(folder: Path, quantization: str = "Q4_0", shape: Shape = QWEN3_06B) -> Path:
    """Return the model's file in `folder`, made where it is not there yet (about a minute)."""
    path = folder / f"{shape.name}-shape-{quantization.lower()}.gguf"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    whole = folder / f"{shape.name}-shape-f16.gguf"
    if not whole.exists():
        unfinished = whole.with_suffix(".new")
        _write_f16(unfinished, shape)
        unfinished.rename(whole)
    if path == whole:
        return path
    unfinished = path.with_suffix(".new")
    _quantize(whole, unfinished, quantization)
    unfinished.rename(path)
    return path


def _write_f16(path: Path, shape: Shape) -> None:
    writer = gguf.GGUFWriter(path, "qwen3")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_context_length(40_960)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.inner)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head)
    writer.add_value_length(shape.head)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(1e6)
    _add_tokenizer(writer, shape.vocabulary)
    random = np.random.default_rng(0)

    def matrix(rows: int, columns: int, deviation: float = 0.05) -> NDArray[np.float16]:
        values = random.standard_normal((rows, columns), dtype=np.float32) * deviation
        return values.astype(np.float16)

    def ones(length: int) -> NDArray[np.float32]:
        return np.ones(length, np.float32)

    writer.add_tensor("token_embd.weight", matrix(shape.vocabulary, shape.width, 0.02))
    writer.add_tensor("output_norm.weight", ones(shape.width))
    for layer in range(shape.layers):
        block: dict[str, NDArray[np.float16] | NDArray[np.float32]] = {
            "attn_norm": ones(shape.width),
            "ffn_norm": ones(shape.width),
            "attn_q": matrix(shape.heads * shape.head, shape.width),
            "attn_k": matrix(shape.kv_heads * shape.head, shape.width),
            "attn_v": matrix(shape.kv_heads * shape.head, shape.width),
            "attn_output": matrix(shape.width, shape.heads * shape.head),
            "attn_q_norm": ones(shape.head),
            "attn_k_norm": ones(shape.head),
            "ffn_gate": matrix(shape.inner, shape.width),
            "ffn_up": matrix(shape.inner, shape.width),
            "ffn_down": matrix(shape.width, shape.inner),
        }
        for name, values in block.items():
            writer.add_tensor(f"blk.{layer}.{name}.weight", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_tokenizer(writer: gguf.GGUFWriter, count: int) -> None:
    """Add a byte-level vocabulary of the real size, in which every byte is a token."""
    kept = {byte for byte in range(256) if 33 <= byte < 127 or 161 <= byte < 173 or byte >= 174}
    others = iter(range(256, 512))
    tokens = [chr(byte if byte in kept else next(others)) for byte in range(256)]
    tokens += [f"\u0120w{number:x}" for number in range(256, count)]
    types = [gguf.TokenType.NORMAL] * count
    first = count - _UNUSED - len(_SPECIAL)
    for number, text in enumerate(_SPECIAL, first):
        tokens[number] = text
        types[number] = gguf.TokenType.CONTROL
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(["\u0120 \u0120"])
    writer.add_eos_token_id(first + 2)
    writer.add_pad_token_id(first)
    writer.add_bos_token_id(first)
    writer.add_add_bos_token(False)  # noqa: FBT003 - gguf's
    writer.add_chat_template(TEMPLATE)


def _quantize(source: Path, target: Path, quantization: str) -> None:
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{quantization}")
    paths = (str(source).encode(), str(target).encode())
    if llama_cpp.llama_model_quantize(*paths, ctypes.pointer(parameters)) != 0:
        raise RuntimeError(f"llama.cpp could not quantize {source.name} to {quantization}")
