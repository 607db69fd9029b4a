"""A small real GGUF that speaks: one fixed sentence, whatever it is asked.

A llama-architecture model whose layers hold random weights but add nothing (their output
projections are zero), so what reaches the output layer is the embedding of the last token. The
output layer maps each token to its successor: after the assistant marker come the sentence's
chunks, one token each, then the end token. Every kernel runs as for a trained model of this shape,
every quantization changes the bytes, and the answer is known. The same arguments give the same
bytes.

Usage: python deploy/demo/model.py OUT.gguf [--sentence TEXT] [--babble] [--small] [--seed N]
"""

# gguf declares its writer's numpy arrays without element types.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import gguf
import numpy as np
from numpy.typing import NDArray

SENTENCE: Final = (
    "A sprat is a small fish that lives in great shoals."
    " I run on this very device, signed and offline."
)
TEMPLATE: Final = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIALS: Final = ("<|start|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>")
HEAD: Final = 64  # width of an attention head
SHARPNESS: Final = np.float32(2)  # makes the successor certain even at temperature 1

Matrix: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True)
class Shape:
    """How large the model is; `hidden` is a multiple of 256, so that K-quants work."""

    hidden: int = 512
    layers: int = 12
    ffn: int = 1536
    vocabulary: int = 0  # at least; filled up with words that are never said

    def __post_init__(self) -> None:
        if self.hidden <= 0 or self.hidden % 256 or self.ffn <= 0 or self.ffn % 256:
            raise ValueError(
                f"expected widths that are multiples of 256, found {self.hidden} and {self.ffn}"
            )


SMALL: Final = Shape(hidden=256, layers=2, ffn=256)
LARGE: Final = Shape(hidden=1024, layers=28, ffn=3072, vocabulary=151936)  # as a 0.6 B model


def make_model(
    path: Path,
    sentence: str = SENTENCE,
    seed: int = 0,
    *,
    hidden: int = 512,
    layers: int = 12,
    ffn: int = 1536,
) -> Path:
    """Write a model that answers `sentence`; about 80 MB in F16 at the default size."""
    return _write(path, split(sentence), seed, Shape(hidden, layers, ffn))


def make_babbling_model(
    path: Path,
    sentence: str = SENTENCE,
    seed: int = 0,
    *,
    hidden: int = 512,
    layers: int = 12,
    ffn: int = 1536,
) -> Path:
    """Write a model that says the chunks of `sentence` backwards: its golden prompt fails."""
    chunks = split(sentence)[::-1]
    if len(chunks) == 1:
        chunks = split("Blub, blub.")
    return _write(path, chunks, seed, Shape(hidden, layers, ffn))


def make_large_model(path: Path, sentence: str = SENTENCE, seed: int = 0) -> Path:
    """Write a model as large as a 0.6 B one (1.3 GB in F16), for measuring."""
    return _write(path, split(sentence), seed, LARGE)


def split(sentence: str) -> list[str]:
    """Return the sentence in chunks of words, no chunk twice and none a single byte.

    A vocabulary holds each text once, so a word that returns is joined with the next ones.
    """
    words = sentence.split(" ")
    chunks: list[str] = []
    chunk = ""
    for number, word in enumerate(words):
        chunk += word if number == 0 else f" {word}"
        if len(chunk.encode()) > 1 and chunk not in chunks:
            chunks.append(chunk)
            chunk = ""
    while chunk and (chunk in chunks or len(chunk.encode()) == 1) and chunks:
        chunk = chunks.pop() + chunk
    chunks += [chunk] if chunk else []
    if len("".join(chunks).encode()) < 2:  # noqa: PLR2004 - one byte is a byte token already
        raise ValueError(f"expected a sentence of at least two letters, found {sentence!r}")
    return chunks


def _write(path: Path, chunks: list[str], seed: int, shape: Shape) -> Path:
    rng = np.random.default_rng(seed)
    alphabet = _byte_alphabet()
    spoken = ["".join(alphabet[byte] for byte in chunk.encode()) for chunk in chunks]
    tokens = [*alphabet, *SPECIALS, *spoken]
    tokens += [f"\u0120w{number:x}" for number in range(len(tokens), shape.vocabulary)]
    writer = gguf.GGUFWriter(path, "llama")
    _add_metadata(writer, shape, tokens)
    embeddings, output = _chain(rng, shape.hidden, len(spoken), len(tokens))
    _add(writer, "token_embd.weight", embeddings)
    for block in range(shape.layers):
        _add_block(writer, rng, shape, block)
    writer.add_tensor("output_norm.weight", np.ones(shape.hidden, np.float32))
    _add(writer, "output.weight", output)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_metadata(writer: gguf.GGUFWriter, shape: Shape, tokens: list[str]) -> None:
    heads = shape.hidden // HEAD
    writer.add_name("sprat-talk")
    writer.add_license("Apache-2.0")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_context_length(4096)
    writer.add_embedding_length(shape.hidden)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.ffn)
    writer.add_head_count(heads)
    writer.add_head_count_kv(heads // 2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(HEAD)
    writer.add_vocab_size(len(tokens))
    normal, control = gguf.TokenType.NORMAL, gguf.TokenType.CONTROL
    types = [control if token in SPECIALS else normal for token in tokens]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(["\u0120 \u0120"])  # the loader wants one; no such token exists
    writer.add_bos_token_id(tokens.index("<|start|>"))
    writer.add_eos_token_id(tokens.index("<|end|>"))
    writer.add_add_bos_token(True)  # noqa: FBT003 - gguf's signature
    writer.add_chat_template(TEMPLATE)


def _chain(rng: np.random.Generator, hidden: int, words: int, tokens: int) -> tuple[Matrix, Matrix]:
    """Return the embeddings, and the output rows that send each token to its successor.

    Random unit vectors in hundreds of dimensions are nearly orthogonal: the successor's logit
    stands several times above all others, also after quantization to 4 bits. The bytes and the
    markers that may end a prompt share one direction, which leads to the first word.
    """
    first = 256 + len(SPECIALS)
    end = 256 + SPECIALS.index("<|end|>")
    last = first + words
    embeddings = _units(rng.standard_normal((tokens, hidden), dtype=np.float32))
    prompt = _units(rng.standard_normal((1, hidden), dtype=np.float32))
    embeddings[:first] = _units(prompt + embeddings[:first] * np.float32(0.5))
    output = np.zeros_like(embeddings)
    output[first] = prompt[0]
    output[first + 1 : last] = embeddings[first : last - 1]
    output[end] = embeddings[last - 1]
    return embeddings, SHARPNESS * output


def _add_block(writer: gguf.GGUFWriter, rng: np.random.Generator, shape: Shape, block: int) -> None:
    hidden, ffn = shape.hidden, shape.ffn
    for name in ("attn_norm", "ffn_norm"):
        writer.add_tensor(f"blk.{block}.{name}.weight", np.ones(hidden, np.float32))
    for name, rows in (
        ("attn_q", hidden),
        ("attn_k", hidden // 2),
        ("attn_v", hidden // 2),
        ("ffn_gate", ffn),
        ("ffn_up", ffn),
    ):
        weights = rng.standard_normal((rows, hidden), dtype=np.float32)
        _add(writer, f"blk.{block}.{name}.weight", weights * np.float32(0.05))
    _add(writer, f"blk.{block}.attn_output.weight", np.zeros((hidden, hidden), np.float32))
    _add(writer, f"blk.{block}.ffn_down.weight", np.zeros((hidden, ffn), np.float32))


def _add(writer: gguf.GGUFWriter, name: str, weights: Matrix) -> None:
    writer.add_tensor(name, weights.astype(np.float16))


def _units(rows: NDArray[np.floating[Any]]) -> Matrix:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def _byte_alphabet() -> list[str]:
    """Return GPT-2's printable stand-in for each byte."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    rest = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(rest)) for byte in range(256)]


def main() -> None:
    """Write a model as the command line says."""
    parser = argparse.ArgumentParser(description="Write a small GGUF that speaks one sentence.")
    parser.add_argument("out", type=Path, metavar="OUT.gguf")
    parser.add_argument("--sentence", default=SENTENCE)
    parser.add_argument("--babble", action="store_true", help="a model that fails its probe")
    parser.add_argument("--small", action="store_true", help="2 MB instead of 80")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    shape = SMALL if asked.small else Shape()
    make = make_babbling_model if asked.babble else make_model
    make(
        *(asked.out, asked.sentence, asked.seed),
        hidden=shape.hidden,
        layers=shape.layers,
        ffn=shape.ffn,
    )
    print(f"{asked.out}: {asked.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
