# pyright: reportUnknownMemberType=false
# gguf's writer is only partly typed.
"""Tiny real GGUF files: a random llama of two layers with a vocabulary of bytes.

The same seed gives the same file and, greedily, the same answers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import gguf
import numpy as np
from sprat_agent.sync.ports import AdapterFile, Loadable, ShardFile
from sprat_proto.gguf import facts, read
from sprat_proto.manifest import Facts

TEMPLATE = (
    "{% for message in messages %}<{{ message.role }}>{{ message.content }}{% endfor %}<assistant>"
)


@dataclass(frozen=True)
class Shape:
    """How big, and how it talks."""

    seed: int = 0
    layers: int = 2
    width: int = 64
    context: int = 512
    template: str = TEMPLATE
    shards: int = 1
    has_beginning: bool = False  # texts begin with <s>
    pre: str = "gpt-2"  # how texts are cut before their tokens are looked for
    origin: str = ""  # where it says that it came from


def write_model(path: Path, shape: Shape | None = None) -> list[Path]:
    """Write a model and return its files: `path`, or the shards llama.cpp names by it."""
    shape = shape or Shape()
    tensors = _tensors(shape)
    per_shard = -(-len(tensors) // shape.shards) if shape.shards > 1 else 0
    writer = gguf.GGUFWriter(path, "llama", split_max_tensors=per_shard)
    _describe(writer, shape)
    for name, values in tensors.items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return sorted(path.parent.glob(f"{path.stem}*.gguf"))


def write_adapter(path: Path, base: Path, seed: int, *, rank: int = 4, strength: float = 1) -> Path:
    """Write a LoRA that changes what the model in `base` answers."""
    random = np.random.default_rng(1000 + seed)
    model = read(base)
    writer = gguf.GGUFWriter(path, model.architecture)
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, 2.0 * rank)
    for tensor in model.tensors:
        if not tensor.name.endswith(("attn_q.weight", "ffn_down.weight")):
            continue
        width, height = tensor.dims
        for suffix, size in (("lora_a", (rank, width)), ("lora_b", (height, rank))):
            drawn = random.standard_normal(size) * 0.3 * strength
            writer.add_tensor(f"{tensor.name}.{suffix}", drawn.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def loadable(
    files: list[Path],
    *,
    alias: str = "assistant",
    release: str = "1.0.0",
    context: int = 256,
    known: Facts | None = None,
) -> Loadable:
    """Return a model's files as a verified variant, as the registry would.

    `known` are the facts of a split model, which no single file of it tells.
    """
    shards = tuple(ShardFile(path, _sha256(path), path.stat().st_size) for path in files)
    return Loadable(
        alias=alias,
        model="tiny",
        release=release,
        variant="f32",
        digest=hashlib.sha256(f"{release} {shards[0].sha256}".encode()).hexdigest(),
        signer="publisher (0123456789ab)",
        files=shards,
        facts=known or facts(files[0], "f32"),
        context=context,
        chat_template=TEMPLATE,
    )


def with_adapters(one: Loadable, folder: Path, *names: str) -> Loadable:
    """Return it with a LoRA for each name, written into a folder."""
    made: list[AdapterFile] = []
    for seed, name in enumerate(names):
        path = write_adapter(folder / f"{name}.gguf", one.files[0].path, seed)
        made.append(AdapterFile(name, ShardFile(path, _sha256(path), path.stat().st_size)))
    return replace(one, adapters=tuple(made))


def with_release(one: Loadable, release: str) -> Loadable:
    """Return the same files as another release."""
    digest = hashlib.sha256(f"{release} {one.files[0].sha256}".encode()).hexdigest()
    return replace(one, release=release, digest=digest)


def _describe(writer: gguf.GGUFWriter, shape: Shape) -> None:
    tokens = _vocabulary()
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.width * 2)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(shape.pre)
    writer.add_token_list(list(tokens))
    writer.add_token_merges(["a b"])
    writer.add_token_types([gguf.TokenType.NORMAL] * 256 + [gguf.TokenType.CONTROL] * 2)
    writer.add_bos_token_id(256)
    writer.add_eos_token_id(257)
    if shape.has_beginning:
        writer.add_add_bos_token(True)  # noqa: FBT003 - the writer's own
    writer.add_chat_template(shape.template)
    if shape.origin:
        writer.add_string(gguf.Keys.General.SOURCE_URL, shape.origin)


def _tensors(shape: Shape) -> Mapping[str, np.ndarray]:
    random = np.random.default_rng(shape.seed)
    width, inner = shape.width, shape.width * 2
    ones = np.ones(width, np.float32)

    def matrix(rows: int, columns: int) -> np.ndarray:
        return (random.standard_normal((rows, columns)) * 0.1).astype(np.float32)

    vocabulary = len(_vocabulary())
    tensors = {
        "token_embd.weight": matrix(vocabulary, width),
        "output.weight": matrix(vocabulary, width),
        "output_norm.weight": ones,
    }
    for layer in range(shape.layers):
        block = {
            "attn_norm": ones,
            "attn_q": matrix(width, width),
            "attn_k": matrix(width // 2, width),
            "attn_v": matrix(width // 2, width),
            "attn_output": matrix(width, width),
            "ffn_norm": ones,
            "ffn_gate": matrix(inner, width),
            "ffn_up": matrix(inner, width),
            "ffn_down": matrix(width, inner),
        }
        tensors |= {f"blk.{layer}.{name}.weight": values for name, values in block.items()}
    return tensors


@cache
def _vocabulary() -> tuple[str, ...]:
    """GPT-2's printable stand-ins for the 256 bytes, and two control tokens."""
    printable = [byte for byte in range(256) if 33 <= byte < 127 or 161 <= byte < 173 or byte > 173]
    stand_ins = {byte: chr(byte) for byte in printable}
    others = (byte for byte in range(256) if byte not in stand_ins)
    stand_ins |= {byte: chr(256 + at) for at, byte in enumerate(others)}
    return (*(stand_ins[byte] for byte in range(256)), "<s>", "</s>")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
