"""What is made equals what llama.cpp's own converter makes, tensor by tensor and key by key."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from fnmatch import fnmatch
from itertools import islice
from pathlib import Path
from typing import Any, Final

import llama_cpp
import numpy as np
import pytest
from simulators import hf_models, reference_converter
from simulators.reference_converter import PROMPT, TEXTS, Digest, Job, Result
from sprat_controller.publisher.convert.convert import convert

_GOLDEN: Final[dict[str, Any]] = json.loads(
    Path(__file__).with_name("reference.json").read_text(encoding="utf-8")
)

# All that differs: in which folders, which keys, and why.
DIFFERENCES: Final = (
    (
        "*",
        "general.name",
        "The folder's name is kept as it is; llama.cpp's converter makes a title of it.",
    ),
    (
        "*",
        "general.size_label",
        "A manifest says how many parameters a model has, and where it comes from.",
    ),
    (
        "phi4-mini",
        "general.basename",
        "As the size: guessed from a folder's name.",
    ),
    (
        "llama3*",
        "rope_freqs.weight",
        (
            "Computed in double precision, so they are the same on every machine; the reference"
            " computes in single precision and is up to 3e-7 of a factor away."
        ),
    ),
    (
        "qwen3-copied-head",
        "output.weight",
        (
            "A head that is a copy of the embedding is left out; with tie_word_embeddings llama.cpp"
            " takes the embedding. Fewest bytes: a fifth of qwen 3 of 0.6 B."
        ),
    ),
    (
        "llama-smollm",
        "tokenizer.ggml.add_bos_token",
        (
            "Said to be false where the tokenizer puts nothing before a text; the reference leaves"
            " it to what llama.cpp takes for granted."
        ),
    ),
    (
        "gemma3-f16",
        "*norm.weight",
        (
            "1 is added in single precision, as the model computes it; the reference adds it in the"
            " precision of the checkpoint. No difference for checkpoints in BF16, as gemma's are."
        ),
    ),
)
# And of what no folder here has: from the card and generation_config.json the licence alone is
# taken (not base models, tags, languages, sampling: a manifest and each request say what matters);
# of several chat templates the default one; no ids of infill tokens for CodeLlama's 32,016 rows,
# which llama.cpp knows by their texts.

# Without tokenizer.model the reference cannot be compared with. For llama it gives all tokens one
# score, so texts are cut otherwise than by the tokenizer, and leaves out tokens that the embedding
# has rows for; gemma 3 and phi 3 it does not convert (for gemma 3 it takes byte-level pairs). Here
# they become what they are with tokenizer.model, but for the scores: their order is all that
# tokenizer.json has.
TWINS: Final = {"llama-spm-json": "llama", "gemma3-json": "gemma3", "phi3-json": "phi3"}


# transformers 4, which is asked, does not read what transformers 5 writes; it is the same model.
_SAME: Final = {"llama3-new-config": "llama3", "gemma3-new-config": "gemma3"}
# BitNet's layers also round what they are given to 8 bits in transformers.
_NEAR: Final = {"bitnet": 0.2}


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    for kind in hf_models.KINDS:
        folder = hf_models.write(root / kind, kind)
        convert(folder, root / f"{kind}.gguf", report=unheard)
    return {kind: root / f"{kind}.gguf" for kind in hf_models.KINDS}


def unheard(_name: str, _done: int, _total: int) -> None:
    """Nobody watches."""


@pytest.fixture(scope="module")
def load(converted: dict[str, Path]) -> Generator[Callable[[str], llama_cpp.Llama]]:
    """Load each model once; all are small."""
    models: dict[str, llama_cpp.Llama] = {}

    def one(kind: str) -> llama_cpp.Llama:
        if kind not in models:
            path = str(converted[kind])
            models[kind] = llama_cpp.Llama(
                path, n_ctx=64, n_threads=1, verbose=False, logits_all=True
            )
        models[kind].reset()
        return models[kind]

    yield one
    for model in models.values():
        model.close()


def differing(ours: Digest, theirs: Digest) -> set[str]:
    return {key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key)}


def excused(kind: str, keys: set[str]) -> set[str]:
    patterns = [key for where, key, _ in DIFFERENCES if fnmatch(kind, where)]
    return {key for key in keys if any(fnmatch(key, pattern) for pattern in patterns)}


def golden(kind: str) -> Digest:
    return {
        key: _GOLDEN[kind][key] for key in _GOLDEN[kind].keys() - {"is_converted", "ids", "logits"}
    }


@pytest.mark.parametrize("kind", [kind for kind in hf_models.KINDS if kind not in TWINS])
def test_each_tensor_and_key_is_the_references(converted: dict[str, Path], kind: str) -> None:
    keys = differing(reference_converter.digest(converted[kind]), golden(kind))
    assert keys - excused(kind, keys) == set()


@pytest.mark.parametrize(("kind", "twin"), TWINS.items())
def test_without_tokenizer_model_all_but_scores_is_as_with_it(
    converted: dict[str, Path], kind: str, twin: str
) -> None:
    keys = differing(reference_converter.digest(converted[kind]), golden(twin))
    assert keys - excused(kind, keys) == {"tokenizer.ggml.scores"}


@pytest.mark.parametrize(("where", "key", "_reason"), DIFFERENCES)
def test_no_difference_is_listed_in_vain(
    converted: dict[str, Path], where: str, key: str, _reason: str
) -> None:
    kind = {"*": "llama", "llama3*": "llama3"}.get(where, where)
    keys = differing(reference_converter.digest(converted[kind]), golden(kind))
    assert any(fnmatch(one, key) for one in keys)


def test_computed_factors_differ_in_the_last_digit_alone(converted: dict[str, Path]) -> None:
    kind, ours = reference_converter.digest(converted["llama3"])["rope_freqs.weight"]
    wanted, theirs = golden("llama3")["rope_freqs.weight"]
    assert kind == wanted
    assert ours == pytest.approx(theirs, rel=3e-7)
    assert max(ours) > min(ours) == 1


@pytest.mark.parametrize("kind", hf_models.KINDS)
def test_llama_cpp_cuts_texts_as_the_tokenizers_own_library(
    load: Callable[[str], llama_cpp.Llama], kind: str
) -> None:
    """The ids are those of Hugging Face's tokenizers, or of SentencePiece."""
    model = load(kind)
    ids = [model.tokenize(text.encode(), add_bos=False, special=True) for text in TEXTS]
    assert ids == _GOLDEN[kind]["ids"]


@pytest.mark.parametrize("kind", hf_models.KINDS)
def test_llama_cpp_says_what_transformers_says(
    load: Callable[[str], llama_cpp.Llama], kind: str
) -> None:
    """The numbers after a prompt, computed in half precision there and in single here."""
    theirs = np.array(_GOLDEN[_SAME.get(kind, kind)]["logits"])
    model = load(kind)
    model.eval(PROMPT)
    ours = model.scores[len(PROMPT) - 1][: len(theirs)]
    assert np.abs(ours - theirs).max() < _NEAR.get(kind, 0.01) * theirs.std()


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gemma3", "phi3", "bitnet"])
def test_what_is_converted_loads_and_speaks(
    load: Callable[[str], llama_cpp.Llama], kind: str
) -> None:
    answer = list(islice(load(kind).generate(PROMPT, temp=0), 4))
    assert len(answer) == 4
    assert all(0 <= token < hf_models.VOCABULARY for token in answer)


@pytest.mark.full
@pytest.mark.timeout(900)
@pytest.mark.skipif(
    not reference_converter.is_there(),
    reason=f"{reference_converter.PYTHON} and {reference_converter.LLAMA_CPP} are not set"
    " (oracle.py says how to make the environment)",
)
def test_the_golden_file_is_what_the_reference_makes_today(tmp_path: Path) -> None:
    jobs = [
        Job(hf_models.write(tmp_path / kind, kind), tmp_path / f"{kind}.gguf", pre=make().pre)
        for kind, make in hf_models.KINDS.items()
    ]
    results: dict[str, Result] = dict(
        zip(hf_models.KINDS, reference_converter.run(jobs), strict=True)
    )
    assert {kind: one.ids for kind, one in results.items()} == {
        kind: one["ids"] for kind, one in _GOLDEN.items()
    }
    assert {kind: one.logits for kind, one in results.items()} == {
        kind: pytest.approx(one["logits"], abs=1e-3) for kind, one in _GOLDEN.items()
    }
    assert {kind: not one.error for kind, one in results.items()} == {
        kind: one["is_converted"] for kind, one in _GOLDEN.items()
    }
    assert {kind: one.digest for kind, one in results.items()} == {
        kind: golden(kind) for kind in _GOLDEN
    }
