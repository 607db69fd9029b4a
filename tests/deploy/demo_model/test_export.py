"""Files that the training writes, made of random weights."""

from __future__ import annotations

from pathlib import Path

import export
import gguf
import llama_cpp
import numpy as np
import pytest
import sprat_proto.gguf as model_files
from export import Described, Sizes
from numpy.typing import NDArray
from sprat_controller.publisher.convert.convert import convert
from sprat_proto import gguf_adapter
from tokenizer import Tokenizer

SIZES = Sizes(
    hidden=256,
    layers=2,
    heads=4,
    kv_heads=2,
    head=64,
    ffn=512,
    context=256,
    rope_base=10000.0,
    epsilon=1e-6,
)
ABOUT = Described("Random", "0.1.0", "Knows nothing.")
TOKENIZER = Tokenizer([("a", "b"), ("\u0120", "ab")])


def weights() -> dict[str, NDArray[np.float32]]:
    random = np.random.default_rng(7)

    def made(*shape: int) -> NDArray[np.float32]:
        return (random.standard_normal(shape) * 0.1).astype(np.float32)

    tensors = {"model.embed_tokens.weight": made(len(TOKENIZER.tokens), SIZES.hidden)}
    tensors["model.norm.weight"] = made(SIZES.hidden)
    for layer in range(SIZES.layers):
        for name, shape in (
            ("input_layernorm", (256,)),
            ("self_attn.q_proj", (256, 256)),
            ("self_attn.k_proj", (128, 256)),
            ("self_attn.v_proj", (128, 256)),
            ("self_attn.o_proj", (256, 256)),
            ("self_attn.q_norm", (64,)),
            ("self_attn.k_norm", (64,)),
            ("post_attention_layernorm", (256,)),
            ("mlp.gate_proj", (512, 256)),
            ("mlp.up_proj", (512, 256)),
            ("mlp.down_proj", (256, 512)),
        ):
            tensors[f"model.layers.{layer}.{name}.weight"] = made(*shape)
    return tensors


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "random.gguf"
    export.write_gguf(path, weights(), SIZES, TOKENIZER, ABOUT)
    return path


def test_a_gguf_is_one_that_sprat_and_llama_cpp_load(model: Path) -> None:
    facts = model_files.facts(model, "f16")
    assert facts.vocabulary == len(TOKENIZER.tokens)
    assert facts.context_length == SIZES.context
    llama = llama_cpp.Llama(str(model), n_ctx=64, verbose=False)
    try:
        assert llama.create_completion("ab", max_tokens=1, temperature=0)
    finally:
        llama.close()


def test_the_folder_for_hugging_face_converts_to_the_same_model(
    tmp_path: Path, model: Path
) -> None:
    folder = tmp_path / "hf"
    export.write_hugging_face(folder, weights(), SIZES, TOKENIZER)
    made = convert(folder, tmp_path / "made.gguf", report=_not_told)
    assert made.architecture == export.ARCHITECTURE
    assert made.chat_template == model_files.read(model).metadata["tokenizer.chat_template"]
    assert tensors(made.path) == tensors(model)
    same = ("tokenizer.ggml.pre", "tokenizer.ggml.eos_token_id", "tokenizer.ggml.add_bos_token")
    read = [model_files.read(path).metadata for path in (made.path, model)]
    assert [read[0][key] for key in same] == [read[1][key] for key in same]


def test_a_lora_is_one_that_fits_the_model(tmp_path: Path, model: Path) -> None:
    name = "model.layers.1.self_attn.k_proj"
    factors = {
        f"{name}.lora_a": np.ones((4, 256), np.float32),
        f"{name}.lora_b": np.ones((128, 4), np.float32),
    }
    path = tmp_path / "lora.gguf"
    export.write_lora(path, factors, 8.0, ABOUT)
    gguf_adapter.check(path, [model_files.check(model)], "lora")


def tensors(path: Path) -> dict[str, bytes]:
    return {one.name: one.data.tobytes() for one in gguf.GGUFReader(path).tensors}


def _not_told(_what: str, _done: int, _total: int) -> None:
    """Report of what is being done, which a test does not need."""
