"""The shapes of model files that have broken loaders, and mutants of a good one.

Each shape was refused by nothing but the header check in some release of llama.cpp or of a product
around it, or ended the process of llama-cpp-python 0.3.36 here (November 2026).
"""

from __future__ import annotations

import random
import struct
import tracemalloc
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from simulators.headers import (
    ARRAY,
    BOOL,
    DATA,
    F32,
    I32,
    PAIRS,
    STRING,
    TENSORS,
    U32,
    U64,
    array,
    build,
    pair,
    tensor,
    text,
)
from simulators.mutants import changed_bytes
from sprat_proto import gguf
from sprat_proto.gguf_header import MAX_ARRAY, MAX_KEYS, MAX_STRING_BYTES, MAX_TENSORS, MAX_TOKENS

# What the check may take beside a good file's own few kilobytes: a header is read in small pieces.
BOUND = 1 << 20
NEXT = DATA  # where a tensor after the good ones begins


def one_more(dims: tuple[int, ...], offset: int = NEXT, kind: int = 0) -> bytes:
    return build(tensors=[*TENSORS, tensor("x", dims, offset, kind)], data=4 * DATA)


def counted_array(key: str, kind: int, count: int) -> bytes:
    return text(key) + struct.pack("<IIQ", ARRAY, kind, count)


def llama(key: str, value: int) -> dict[str, bytes]:
    return {key: pair(f"llama.{key}", U32, value)}


def of_qwen2(key: str, value: int) -> bytes:
    return build(llama(key, value)).replace(b"llama", b"qwen2")


def sentencepiece(tokens: list[str], types: list[int]) -> bytes:
    """Return a file with a SentencePiece vocabulary."""
    return build(
        {
            "model": pair("tokenizer.ggml.model", STRING, "llama"),
            "tokens": array("tokenizer.ggml.tokens", STRING, tokens),
            "types": array("tokenizer.ggml.token_type", I32, types),
        },
        [
            tensor("token_embd.weight", (32, len(tokens)), 0),
            tensor("output_norm.weight", (32,), 128 * len(tokens)),
            tensor("blk.0.attn_norm.weight", (32,), 128 * len(tokens) + 128),
        ],
        data=128 * len(tokens) + 256,
    )


BYTE_TOKENS = [f"<0x{byte:02X}>" for byte in range(256)]
SPM = ["<unk>", "<s>", "</s>", *BYTE_TOKENS]
SPM_TYPES = [2, 3, 3, *[6] * 256]


@dataclass(frozen=True)
class Shape:
    """A file that has broken a loader, and what the refusal speaks of."""

    data: bytes
    says: str


SHAPES: dict[str, Shape] = {
    # Counts that are allocated before they are looked at (CVE-2024-23496 and its kin).
    "tensor count": Shape(build(count=MAX_TENSORS + 1), "tensors"),
    "tensor count that overflows": Shape(build(count=(1 << 64) - 1), "tensors"),
    "key count": Shape(build(keys=MAX_KEYS + 1), "metadata keys"),
    "key count that overflows": Shape(build(keys=1 << 63), "metadata keys"),
    "key length": Shape(build({"x": struct.pack("<Q", 1 << 40)}), "metadata key"),
    "string length": Shape(
        build({"x": text("x") + struct.pack("<IQ", STRING, (1 << 64) - 1)}), "value of x"
    ),
    "string length of one more": Shape(
        build({"x": pair("x", STRING, "y" * (MAX_STRING_BYTES + 1))}), "value of x"
    ),
    "array length": Shape(
        build({"x": counted_array("x", U64, (1 << 61) + 1)}), f"at most {MAX_ARRAY} elements"
    ),
    "vocabulary length": Shape(
        build({"tokens": counted_array("tokenizer.ggml.tokens", STRING, MAX_TOKENS + 1)}),
        f"at most {MAX_TOKENS} elements",
    ),
    "array past the end of the file": Shape(
        build({"x": counted_array("x", U64, MAX_ARRAY)}), "end of the file"
    ),
    "tensor name without an end": Shape(
        build(tensors=[*TENSORS, tensor("n" * 64, (32,), NEXT)], data=2 * DATA), "tensor name"
    ),
    # Sizes whose product wraps round (CVE-2025-53630, CVE-2026-27940, CVE-2026-33298).
    "dimension": Shape(one_more(((1 << 63) + 32,)), "dimensions"),
    "product of dimensions": Shape(one_more((1 << 32, 1 << 32)), "dimensions"),
    "product that wraps to nothing": Shape(one_more((1 << 31, 1 << 31, 4)), "dimensions"),
    "size in bytes": Shape(one_more((1 << 40, 64)), "end of the file|cut off"),
    "dimension of nothing": Shape(one_more((32, 0)), "dimensions"),
    "dimensions without number": Shape(
        build(tensors=[*TENSORS, text("x") + struct.pack("<I", 0xFFFFFFFF)]), "dimensions"
    ),
    "row that is no multiple of its block": Shape(one_more((33,), kind=2), "multiples of 32"),
    "tensor type out of the table": Shape(one_more((32,), kind=0x7FFFFFFF), "known type"),
    "tensor type that was removed": Shape(one_more((32,), kind=4), "known type"),
    # Offsets (CVE-2026-7482 read what lay behind the file).
    "offset outside the file": Shape(one_more((32,), offset=1 << 40), "at offset"),
    "offset that wraps round": Shape(one_more((32,), offset=(1 << 64) - 128), "at offset"),
    "offset not aligned": Shape(one_more((32,), offset=NEXT + 4), "at offset"),
    "tensors that overlap": Shape(one_more((32,), offset=NEXT - 32), "at offset"),
    "two tensors in one place": Shape(one_more((32,), offset=0), "at offset"),
    "tensor behind the end": Shape(one_more((1 << 20,)), "cut off"),
    "alignment 0": Shape(build({"x": pair("general.alignment", U32, 0)}), "alignment"),
    "alignment 3": Shape(build({"x": pair("general.alignment", U32, 3)}), "alignment"),
    "alignment 2 GiB": Shape(build({"x": pair("general.alignment", U32, 1 << 31)}), "alignment"),
    "alignment as text": Shape(
        build({"x": pair("general.alignment", STRING, "32")}), "general.alignment"
    ),
    # Types that the loader takes for granted (llama.cpp#26690).
    "tokens that are numbers": Shape(
        build({"tokens": array("tokenizer.ggml.tokens", U32, [1, 2, 3])}), "element type"
    ),
    "scores that are integers": Shape(
        build({"x": array("tokenizer.ggml.scores", I32, [1, 2, 3])}), "element type"
    ),
    "token types that are floats": Shape(
        build({"types": array("tokenizer.ggml.token_type", F32, [1, 1, 3])}), "element type"
    ),
    "merges that are numbers": Shape(
        build({"x": array("tokenizer.ggml.merges", U32, [1])}), "element type"
    ),
    "array of arrays": Shape(build({"x": counted_array("x", ARRAY, 1)}), "element type"),
    "array of nothing known": Shape(build({"x": counted_array("x", 77, 1)}), "element type"),
    "a value's type of nothing known": Shape(
        build({"x": text("x") + struct.pack("<I", 77)}), "value type"
    ),
    "architecture that is a number": Shape(
        build({"general.architecture": pair("general.architecture", U32, 1)}),
        "general.architecture",
    ),
    "boolean of neither": Shape(build({"x": pair("x", BOOL, 7)}), "boolean"),
    "blocks that are a list": Shape(
        build({"block_count": array("llama.block_count", U32, [1])}), "block_count"
    ),
    "experts that are a list": Shape(
        build({"x": array("llama.expert_used_count", U32, [1, 2])}), "expert_used_count"
    ),
    # Keys and tensors that come twice: which of them counts?
    "key twice": Shape(build({"x": PAIRS["embedding_length"]}), "occur once"),
    "key once as a list": Shape(build({"x": array("llama.block_count", U32, [1])}), "occur once"),
    "tensor twice": Shape(
        build(tensors=[*TENSORS, tensor("output_norm.weight", (32,), NEXT)], data=2 * DATA), "once"
    ),
    # Hyperparameters (llama.cpp#25821, #26051 and what ended the process here).
    "513 blocks": Shape(build(llama("block_count", 513)), "block_count from 1 to 512"),
    "blocks that are not there": Shape(build(llama("block_count", 512)), "no blk.1"),
    "no heads": Shape(build({"head_count": pair("llama.attention.head_count", U32, 0)}), "head"),
    "100,000 experts": Shape(build(llama("expert_count", 100_000)), "experts"),
    "more experts at once than there are": Shape(build(llama("expert_used_count", 2)), "experts"),
    "groups of experts": Shape(build(llama("expert_group_count", 3)), "expert_group_count"),
    "more predicted layers than blocks": Shape(
        build(llama("nextn_predict_layers", 3)), "nextn_predict_layers"
    ),
    "keys that are no share of the embedding": Shape(of_qwen2("attention.key_length", 4), "keys"),
    "RoPE beyond the head": Shape(build(llama("rope.dimension_count", 1 << 30)), "from 2 to 8"),
    "RoPE over nothing, without end": Shape(build(llama("rope.dimension_count", 0)), "from 2 to"),
    "RoPE over half a pair": Shape(build(llama("rope.dimension_count", 3)), "an even rope"),
    "RoPE over half a pair in a window": Shape(
        build(llama("rope.dimension_count_swa", 3)), "an even rope"
    ),
    "RoPE over half a head": Shape(of_qwen2("rope.dimension_count", 4), "from 8 to 8"),
    "sliding window of 2 Gi": Shape(build(llama("attention.sliding_window", 1 << 31)), "window"),
    "sliding window in each block": Shape(
        build(llama("attention.sliding_window_pattern", 1)), "pattern"
    ),
    "RoPE scaling of no kind": Shape(
        build({"x": pair("llama.rope.scaling.type", STRING, "x")}), "RoPE scaling"
    ),
    "architecture of no allowed kind": Shape(
        build({"general.architecture": pair("general.architecture", STRING, "plamo2")}),
        "an architecture of",
    ),
    # Vocabularies (CVE-2025-49847, llama.cpp#25969, #27226).
    "tokenizer of plamo2": Shape(
        build({"model": pair("tokenizer.ggml.model", STRING, "plamo2")}), "a tokenizer"
    ),
    "tokenizer that hangs": Shape(
        build({"model": pair("tokenizer.ggml.model", STRING, "rwkv")}), "a tokenizer"
    ),
    "token that comes twice": Shape(
        build({"tokens": array("tokenizer.ggml.tokens", STRING, ["a", "b", "a"])}), "one twice"
    ),
    "tokens that differ behind a zero": Shape(
        build({"tokens": array("tokenizer.ggml.tokens", STRING, ["a\0b", "b", "a\0c"])}),
        "one twice",
    ),
    "token named as an empty one is": Shape(
        build({"tokens": array("tokenizer.ggml.tokens", STRING, ["[EMPTY_2]", "b", ""])}),
        "one twice",
    ),
    "byte token without a byte": Shape(
        build({"types": array("tokenizer.ggml.token_type", I32, [6, 1, 3])}), "type byte"
    ),
    "byte token that is cut off": Shape(sentencepiece([*SPM[:-1], "<0x"], SPM_TYPES), "type byte"),
    "byte without a token": Shape(
        sentencepiece(["<0xZZ>" if one == "<0x0A>" else one for one in SPM], [1] * len(SPM)),
        "256 bytes",
    ),
    "token type out of the table": Shape(
        build({"types": array("tokenizer.ggml.token_type", I32, [1, 1, 1 << 30])}), "token types"
    ),
    "fewer token types than tokens": Shape(
        build({"types": array("tokenizer.ggml.token_type", I32, [1, 1])}), "one a token"
    ),
    "end token outside the vocabulary": Shape(
        build({"eos": pair("tokenizer.ggml.eos_token_id", U32, 3)}), "eos_token_id"
    ),
    "begin token outside the vocabulary": Shape(
        build({"x": pair("tokenizer.ggml.bos_token_id", U32, 1 << 31)}), "bos_token_id"
    ),
    "negative token": Shape(
        build({"x": pair("tokenizer.ggml.padding_token_id", I32, -2)}), "padding_token_id"
    ),
    "suppressed token outside the vocabulary": Shape(
        build({"x": array("tokenizer.ggml.suppress_tokens", I32, [0, 3])}), "suppressed"
    ),
    "negative suppressed token": Shape(
        build({"x": array("tokenizer.ggml.suppress_tokens", I32, [-1])}), "suppressed"
    ),
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_t43_a_shape_that_broke_a_loader_is_refused_within_bounds(
    tmp_path: Path, shape: Shape
) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(shape.data)
    with within_bounds(), pytest.raises(gguf.ModelFileError, match=shape.says):
        gguf.check(path)


def test_a_whole_sentencepiece_vocabulary_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(sentencepiece(SPM, SPM_TYPES))
    assert gguf.check(path).vocabulary.byte_tokens == frozenset(range(3, 259))


def test_several_empty_tokens_are_different_ones(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(build({"tokens": array("tokenizer.ggml.tokens", STRING, ["", "b", ""])}))
    assert gguf.check(path).vocabulary.is_distinct


def test_a_vocabulary_as_large_as_they_come_is_judged_within_16_mib(tmp_path: Path) -> None:
    count = 262_144
    tokens = b"".join(text(f"token {number}") for number in range(count - 1)) + text("token 0")
    path = tmp_path / "model.gguf"
    path.write_bytes(
        build(
            {
                "tokens": counted_array("tokenizer.ggml.tokens", STRING, count) + tokens,
                "types": counted_array("tokenizer.ggml.token_type", I32, count)
                + struct.pack("<I", 1) * count,
            }
        )
    )
    with within_bounds(16 << 20), pytest.raises(gguf.ModelFileError, match="one twice"):
        gguf.check(path)


def test_2000_mutants_are_accepted_or_refused_within_bounds(tmp_path: Path) -> None:
    judge_mutants(tmp_path / "model.gguf", 2_000, seed=43)


@pytest.mark.full
@pytest.mark.timeout(1200)
def test_100000_mutants_are_accepted_or_refused_within_bounds(tmp_path: Path) -> None:
    judge_mutants(tmp_path / "model.gguf", 100_000, seed=44)


def judge_mutants(path: Path, count: int, *, seed: int) -> None:
    """Check mutants; some pass and some do not, and nothing else happens."""
    randomly = random.Random(seed)  # noqa: S311 - the same mutants in each run
    originals = [build(), sentencepiece(SPM, SPM_TYPES)]
    outcomes = {True: 0, False: 0}
    for number in range(count):
        original = originals[number % len(originals)]
        path.write_bytes(changed_bytes(original, randomly, keep=DATA))
        with within_bounds():
            outcomes[is_accepted(path)] += 1
    assert outcomes[True] > count // 100
    assert outcomes[False] > count // 2


def is_accepted(path: Path) -> bool:
    outcome = outcome_of(path)
    if isinstance(outcome, str):
        assert "\n" not in outcome
        assert len(outcome) < 500
        return False
    # Whatever was changed, what is read from the file lies in the file.
    ends = [outcome.data_start + one.offset + one.size for one in outcome.tensors]
    assert max(ends) <= outcome.size == path.stat().st_size
    return True


def outcome_of(path: Path) -> gguf.GgufFile | str:
    try:
        return gguf.check(path)
    except gguf.ModelFileError as error:
        return str(error)


@contextmanager
def within_bounds(bound: int = BOUND) -> Generator[None]:
    """Fail if more memory than this was in use at any moment."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < bound
