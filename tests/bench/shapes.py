# pyright: reportUnknownMemberType=false
# gguf's writer and llama.cpp's bindings are only partly typed.
"""Models with random weights in the shapes of real ones: speed and size are real, texts are not.

The numbers are those of the published configurations (config.json) of the models that a shape is
named after. `phi-like` is a third of Phi-4-mini in each direction, with its fused matrices, so that
it can be built here; Phi-4-mini itself is only computed.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

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

Dims: TypeAlias = tuple[int, ...]  # rows, columns; of a vector its length


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
    architecture: str = "qwen3"
    context: int = 40_960
    is_tied: bool = True  # the embedding table is the output head too
    window: int = 0  # tokens that most layers look back; 0: all of them

    def tensors(self) -> Iterator[tuple[str, Dims]]:
        """Yield the name and the dimensions of each tensor."""
        yield "token_embd.weight", (self.vocabulary, self.width)
        yield "output_norm.weight", (self.width,)
        if not self.is_tied:
            yield "output.weight", (self.vocabulary, self.width)
        for layer in range(self.layers):
            for name, dims in _BLOCKS[self.architecture](self).items():
                yield f"blk.{layer}.{name}.weight", dims

    @property
    def parameters(self) -> int:
        """How many weights there are."""
        return sum(int(np.prod(dims)) for _, dims in self.tensors())


def _attention(shape: Shape) -> dict[str, Dims]:
    return {
        "attn_q": (shape.heads * shape.head, shape.width),
        "attn_k": (shape.kv_heads * shape.head, shape.width),
        "attn_v": (shape.kv_heads * shape.head, shape.width),
        "attn_output": (shape.width, shape.heads * shape.head),
    }


def _norms(shape: Shape) -> dict[str, Dims]:
    return {"attn_norm": (shape.width,), "ffn_norm": (shape.width,)}


def _head_norms(shape: Shape) -> dict[str, Dims]:
    return {"attn_q_norm": (shape.head,), "attn_k_norm": (shape.head,)}


def _gated(shape: Shape) -> dict[str, Dims]:
    return {
        "ffn_gate": (shape.inner, shape.width),
        "ffn_up": (shape.inner, shape.width),
        "ffn_down": (shape.width, shape.inner),
    }


def _llama(shape: Shape) -> dict[str, Dims]:
    return _norms(shape) | _attention(shape) | _gated(shape)


def _qwen3(shape: Shape) -> dict[str, Dims]:
    return _llama(shape) | _head_norms(shape)


def _gemma3(shape: Shape) -> dict[str, Dims]:
    after = {"post_attention_norm": (shape.width,), "post_ffw_norm": (shape.width,)}
    return _qwen3(shape) | after


def _phi3(shape: Shape) -> dict[str, Dims]:
    fused = (shape.heads + 2 * shape.kv_heads) * shape.head
    return _norms(shape) | {
        "attn_qkv": (fused, shape.width),
        "attn_output": (shape.width, shape.heads * shape.head),
        "ffn_up": (2 * shape.inner, shape.width),
        "ffn_down": (shape.width, shape.inner),
    }


_BLOCKS: Final = {"llama": _llama, "qwen3": _qwen3, "gemma3": _gemma3, "phi3": _phi3}

SMALL: Final = Shape("small", 12, 512, 1536, 8, 4, 64, 32_000)
MIDDLE: Final = Shape("middle", 20, 1024, 2816, 16, 16, 64, 65_024)
QWEN3_06B: Final = Shape("qwen3-0.6b", 28, 1024, 3072, 16, 8, 128, 151_936)
GEMMA3_270M: Final = Shape(
    "gemma3-270m", 18, 640, 2048, 4, 1, 256, 262_144, "gemma3", 32_768, window=512
)
GEMMA3_1B: Final = Shape(
    "gemma3-1b", 26, 1152, 6912, 4, 1, 256, 262_144, "gemma3", 32_768, window=512
)
SMOLLM2_135M: Final = Shape("smollm2-135m", 30, 576, 1536, 9, 3, 64, 49_152, "llama", 8192)
TINYLLAMA: Final = Shape(
    "tinyllama-1.1b", 22, 2048, 5632, 32, 4, 64, 32_000, "llama", 4096, is_tied=False
)
PHI_LIKE: Final = Shape("phi-like", 11, 1024, 2816, 8, 4, 128, 200_064, "phi3", 131_072)
PHI4_MINI: Final = Shape("phi-4-mini", 32, 3072, 8192, 24, 8, 128, 200_064, "phi3", 131_072)
GEMMA3_4B: Final = Shape(
    "gemma3-4b", 34, 2560, 10_240, 8, 4, 256, 262_208, "gemma3", 131_072, window=1024
)
SHAPES: Final[Mapping[str, Shape]] = {
    shape.name: shape
    for shape in (
        *(SMALL, MIDDLE, QWEN3_06B, GEMMA3_270M, GEMMA3_1B, SMOLLM2_135M, TINYLLAMA),
        *(PHI_LIKE, PHI4_MINI, GEMMA3_4B),
    )
}


def write(folder: Path, quantization: str = "Q4_0", shape: Shape = QWEN3_06B) -> Path:
    """Return the model's file in `folder`, made where it is not there yet (about a minute).

    Args:
        folder: Where models are kept from one run to the next.
        quantization: As llama.cpp spells it, for example `Q4_K_M`.
        shape: Which model.
    """
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
    writer = gguf.GGUFWriter(path, shape.architecture)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.inner)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    if shape.architecture in {"qwen3", "gemma3"}:
        writer.add_key_length(shape.head)
        writer.add_value_length(shape.head)
    else:
        writer.add_rope_dimension_count(shape.head)
    if shape.window:
        writer.add_sliding_window(shape.window)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(1e6)
    _add_tokenizer(writer, shape.vocabulary)
    random = np.random.default_rng(0)
    for name, dims in shape.tensors():
        writer.add_tensor(name, _weights(random, name, dims))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _weights(
    random: np.random.Generator, name: str, dims: Dims
) -> NDArray[np.float16] | NDArray[np.float32]:
    if len(dims) == 1:
        return np.ones(dims, np.float32)
    deviation = 0.02 if name == "token_embd.weight" else 0.05
    return (random.standard_normal(dims, dtype=np.float32) * deviation).astype(np.float16)


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
