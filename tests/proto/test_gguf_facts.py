"""What fit is told of model files of each architecture; the numbers are worked out by hand."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from simulators.headers import BOOL, F32, PAIRS, STRING, U32, array, pair, tensor
from sprat_proto import gguf
from sprat_proto.manifest import Facts

Tensors = Sequence[tuple[str, tuple[int, ...], int]]
F32_, F16, Q4_0, Q6_K = 0, 1, 2, 14
BYTES = {F32_: (1, 4), F16: (1, 2), Q4_0: (32, 18), Q6_K: (256, 210)}
WIDTH, VOCABULARY, FFN = 256, 3, 512
HEADS = {"attention.head_count": 4, "attention.head_count_kv": 2}

EMBEDDING = ("token_embd.weight", (WIDTH, VOCABULARY), Q4_0)  # rows of 8 blocks: 144 bytes
HEAD = ("output.weight", (WIDTH, VOCABULARY), Q6_K)  # rows of one block: 210 bytes
LAST_NORM = ("output_norm.weight", (WIDTH,), F32_)
# Of each block: 2 norms; Q and O, K and V, gate and up in Q4_0; down in Q6_K.
BLOCK: Tensors = [
    ("attn_norm.weight", (WIDTH,), F32_),
    ("ffn_norm.weight", (WIDTH,), F32_),
    ("attn_q.weight", (WIDTH, 256), Q4_0),
    ("attn_k.weight", (WIDTH, 128), Q4_0),
    ("attn_v.weight", (WIDTH, 128), Q4_0),
    ("attn_output.weight", (256, WIDTH), Q4_0),
    ("ffn_gate.weight", (WIDTH, FFN), Q4_0),
    ("ffn_up.weight", (WIDTH, FFN), Q4_0),
    ("ffn_down.weight", (FFN, WIDTH), Q6_K),
]
BLOCK_F32 = 2 * 256 * 4
BLOCK_Q4_0 = (256 + 128 + 128 + 256 + 512 + 512) * 256 // 32 * 18
BLOCK_Q6_K = 512 * 256 // 256 * 210
BLOCK_PARAMETERS = 2 * 256 + (256 + 128 + 128 + 256 + 512 + 512) * 256 + 512 * 256


def blocks(count: int, block: Tensors = BLOCK) -> Tensors:
    return [(f"blk.{n}.{name}", dims, kind) for n in range(count) for name, dims, kind in block]


def facts(
    folder: Path,
    architecture: str,
    tensors: Tensors,
    layers: int,
    *more: bytes,
    **numbers: int,
) -> Facts:
    """Write a model and return what is told of it; `numbers` are keys of the architecture."""
    said = {
        "block_count": layers,
        "context_length": 4096,
        "embedding_length": WIDTH,
        "feed_forward_length": FFN,
        **HEADS,
        **{key.replace("__", "."): number for key, number in numbers.items()},
    }
    pairs = [
        pair("general.architecture", STRING, architecture),
        pair(f"{architecture}.attention.layer_norm_rms_epsilon", F32, 1e-5),
        *(pair(f"{architecture}.{key}", U32, number) for key, number in said.items()),
        *(PAIRS[key] for key in ("model", "tokens", "types", "eos")),
        *more,
    ]
    path = folder / "model.gguf"
    path.write_bytes(_file(pairs, tensors))
    return gguf.facts(path, "q4_0")


def _file(pairs: Sequence[bytes], tensors: Tensors) -> bytes:
    entries: list[bytes] = []
    end = 0
    for name, dims, kind in tensors:
        entries.append(tensor(name, dims, end, kind))
        end += -(-_size(dims, kind) // 32) * 32
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(pairs))
    head += b"".join([*pairs, *entries])
    return head + bytes(-len(head) % 32 + end)


def _size(dims: Sequence[int], kind: int) -> int:
    weights, size = BYTES[kind]
    elements = 1
    for dim in dims:
        elements *= dim
    return elements // weights * size


def test_a_llama_with_a_head_of_its_own_reads_one_row_of_the_table(tmp_path: Path) -> None:
    told = facts(tmp_path, "llama", [EMBEDDING, HEAD, LAST_NORM, *blocks(2)], 2)
    assert told.tensor_bytes == {
        "f32": 2 * BLOCK_F32 + 1024,
        "q4_0": 2 * BLOCK_Q4_0 + 3 * 144,
        "q6_k": 2 * BLOCK_Q6_K + 3 * 210,
    }
    assert told.bytes_per_token == told.tensor_bytes | {"q4_0": 2 * BLOCK_Q4_0 + 144}
    assert told.weights_bytes == sum(told.tensor_bytes.values())
    assert told.parameters == 2 * BLOCK_PARAMETERS + 2 * 3 * 256 + 256
    assert (told.layers, told.heads, told.kv_heads) == (2, 4, 2)
    assert (told.key_length, told.value_length) == (64, 64)
    assert (told.window, told.window_layers, told.has_tools) == (0, 0, False)
    assert told.inner_length == FFN


def test_a_llama_whose_head_is_the_table_reads_it_whole(tmp_path: Path) -> None:
    told = facts(tmp_path, "llama", [EMBEDDING, LAST_NORM, *blocks(2)], 2)
    assert told.bytes_per_token == told.tensor_bytes
    assert told.tensor_bytes == {
        "f32": 2 * BLOCK_F32 + 1024,
        "q4_0": 2 * BLOCK_Q4_0 + 3 * 144,
        "q6_k": 2 * BLOCK_Q6_K,
    }
    assert told.parameters == 2 * BLOCK_PARAMETERS + 3 * 256 + 256


def test_of_experts_those_in_use_are_read(tmp_path: Path) -> None:
    experts: Tensors = [
        ("attn_norm.weight", (WIDTH,), F32_),
        ("ffn_gate_inp.weight", (WIDTH, 8), F32_),
        ("ffn_up_exps.weight", (WIDTH, FFN, 8), Q4_0),
        ("ffn_down_exps.weight", (FFN, WIDTH, 8), F16),
        ("ffn_up_shexp.weight", (WIDTH, FFN), Q4_0),  # shared by all: always read
    ]
    told = facts(
        tmp_path,
        "llama",
        [EMBEDDING, LAST_NORM, *blocks(3, experts)],
        3,
        expert_count=8,
        expert_used_count=2,
    )
    one = 512 * 256 // 32 * 18  # of Q4_0
    assert told.tensor_bytes == {
        "f16": 3 * 8 * 512 * 256 * 2,
        "f32": 1024 + 3 * (1024 + 8 * 1024),
        "q4_0": 3 * 144 + 3 * (8 + 1) * one,
    }
    assert told.bytes_per_token == {
        "f16": 3 * 2 * 512 * 256 * 2,
        "f32": 1024 + 3 * (1024 + 8 * 1024),
        "q4_0": 3 * 144 + 3 * (2 + 1) * one,
    }


def test_a_qwen3_has_heads_of_their_own_length(tmp_path: Path) -> None:
    block: Tensors = [
        ("attn_norm.weight", (WIDTH,), F32_),
        ("attn_q.weight", (WIDTH, 4 * 128), Q4_0),
        ("attn_q_norm.weight", (128,), F32_),
        ("attn_k_norm.weight", (128,), F32_),
    ]
    told = facts(
        tmp_path,
        "qwen3",
        [EMBEDDING, LAST_NORM, *blocks(2, block)],
        2,
        attention__key_length=128,
        attention__value_length=128,
    )
    assert (told.key_length, told.value_length) == (128, 128)
    assert told.tensor_bytes == {
        "f32": 1024 + 2 * (1024 + 2 * 512),
        "q4_0": 3 * 144 + 2 * 512 * 144,
    }


@pytest.mark.parametrize(
    ("layers", "numbers", "window", "window_layers"),
    [
        (1, {"attention__sliding_window": 512}, 512, 1),
        (5, {"attention__sliding_window": 512}, 512, 5),
        (6, {"attention__sliding_window": 512}, 512, 5),  # the sixth looks at everything
        (26, {"attention__sliding_window": 512}, 512, 26 - 4),  # gemma3 1b
        (34, {"attention__sliding_window": 1024}, 1024, 34 - 5),  # gemma3 4b
        (7, {"attention__sliding_window": 64, "attention__sliding_window_pattern": 2}, 64, 4),
        (7, {"attention__sliding_window": 0}, 0, 0),
        (7, {}, 0, 0),
    ],
)
def test_a_gemma3_looks_so_far_in_all_layers_but_the_last_of_each_pattern(
    tmp_path: Path, layers: int, numbers: dict[str, Any], window: int, window_layers: int
) -> None:
    small = blocks(layers, [("attn_norm.weight", (WIDTH,), F32_)])
    told = facts(tmp_path, "gemma3", [EMBEDDING, LAST_NORM, *small], layers, **numbers)
    assert (told.window, told.window_layers) == (window, window_layers)
    # llama.cpp's own rule for each layer (llama_hparams::set_swa_pattern).
    pattern = numbers.get("attention__sliding_window_pattern", 6)
    assert window_layers == sum(n % pattern < pattern - 1 for n in range(layers) if window)


def test_a_pattern_that_is_said_layer_by_layer_is_not_counted_on(tmp_path: Path) -> None:
    small = blocks(2, [("attn_norm.weight", (WIDTH,), F32_)])
    by_layer = array("gemma3.attention.sliding_window_pattern", U32, [1, 0])
    told = facts(
        tmp_path,
        "gemma3",
        [EMBEDDING, LAST_NORM, *small],
        2,
        by_layer,
        attention__sliding_window=512,
    )
    assert (told.window, told.window_layers) == (512, 0)


@pytest.mark.parametrize("architecture", ["phi3", "llama", "qwen2", "qwen3"])
def test_others_look_at_everything_whatever_window_they_state(
    tmp_path: Path, architecture: str
) -> None:
    small = blocks(2, [("attn_norm.weight", (WIDTH,), F32_)])
    told = facts(
        tmp_path,
        architecture,
        [EMBEDDING, LAST_NORM, *small],
        2,
        attention__sliding_window=2047,
    )
    assert (told.window, told.window_layers) == (0, 0)


def test_a_phi3_has_its_projections_in_one(tmp_path: Path) -> None:
    block: Tensors = [
        ("attn_norm.weight", (WIDTH,), F32_),
        ("attn_qkv.weight", (WIDTH, 256 + 2 * 128), Q4_0),
        ("ffn_up.weight", (WIDTH, 2 * FFN), F16),
    ]
    told = facts(tmp_path, "phi3", [EMBEDDING, HEAD, LAST_NORM, *blocks(2, block)], 2)
    assert told.tensor_bytes == {
        "f16": 2 * 256 * 1024 * 2,
        "f32": 3 * 1024,
        "q4_0": 3 * 144 + 2 * 512 * 144,
        "q6_k": 3 * 210,
    }
    assert told.bytes_per_token == told.tensor_bytes | {"q4_0": 144 + 2 * 512 * 144}
    assert told.architecture == "phi3"


def test_tools_are_told_by_the_chat_template(tmp_path: Path) -> None:
    small = [EMBEDDING, LAST_NORM, *blocks(1, [("attn_norm.weight", (WIDTH,), F32_)])]
    for template, has_tools in (
        ("{% if tools %}{{ tools }}{% endif %}{{ messages }}", True),
        ("You have no tools. {{ messages }}", False),
    ):
        said = pair("tokenizer.chat_template", STRING, template)
        assert facts(tmp_path, "llama", small, 1, said).has_tools is has_tools


def test_a_file_with_nothing_beside_has_no_licence(tmp_path: Path) -> None:
    small = [EMBEDDING, LAST_NORM, *blocks(1, [("attn_norm.weight", (WIDTH,), F32_)])]
    added = pair("tokenizer.ggml.add_bos_token", BOOL, 0)
    assert facts(tmp_path, "llama", small, 1, added).licence == ""
    said = pair("general.license", STRING, "apache-2.0")
    assert facts(tmp_path, "llama", small, 1, said).licence == "apache-2.0"
