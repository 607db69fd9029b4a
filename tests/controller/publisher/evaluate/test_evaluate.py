from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import llama_cpp
import numpy as np
import pytest
from numpy.typing import NDArray
from simulators import demo_model, models
from sprat_controller.publisher.evaluate import calibration
from sprat_controller.publisher.evaluate.evaluate import EvaluateError, Scores, evaluate
from sprat_controller.publisher.quantize import quantize
from sprat_proto.gguf import ModelFileError

CHUNK = 512
SCORED = 255  # of a chunk
TEXT = calibration.default_text()
KINDS = ("f16", "q8_0", "q5_1", "q4_0")


def unheard(_what: str, _done: int, _total: int) -> None:
    """Told nothing."""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Return a model and its variants."""
    folder = tmp_path_factory.mktemp("variants")
    source = folder / "source.gguf"
    models.write_model(source, models.Shape(width=256, has_beginning=True))
    for kind in KINDS:
        quantize(source, folder / f"{kind}.gguf", kind)
    return {kind: folder / f"{kind}.gguf" for kind in KINDS}


@pytest.fixture(scope="module")
def told() -> list[tuple[str, int, int]]:
    return []


@pytest.fixture(scope="module")
def scores(
    files: Mapping[str, Path], told: list[tuple[str, int, int]], tmp_path_factory: Any
) -> Mapping[str, Scores]:
    scratch: Path = tmp_path_factory.mktemp("scratch")

    def report(what: str, done: int, total: int) -> None:
        told.append((what, done, total))

    found = evaluate(
        files["f16"], files, TEXT, scratch=scratch, report=report, limit=600, rates=False
    )
    assert list(scratch.iterdir()) == []
    return {one.variant: one for one in found}


def test_all_variants_are_scored_in_their_order(scores: Mapping[str, Scores]) -> None:
    assert list(scores) == list(KINDS)
    assert {one.tokens for one in scores.values()} == {2 * SCORED}


def test_sizes_are_those_of_the_files(
    scores: Mapping[str, Scores], files: Mapping[str, Path]
) -> None:
    for kind, path in files.items():
        assert scores[kind].bytes == path.stat().st_size


def test_the_reference_loses_nothing(scores: Mapping[str, Scores]) -> None:
    assert (scores["f16"].kl_divergence, scores["f16"].same_top) == (0, 1)
    assert scores["f16"].loss == 0


def test_fewer_bits_lose_more(scores: Mapping[str, Scores]) -> None:
    losses = [scores[kind].loss for kind in KINDS]
    assert losses == sorted(losses)
    assert losses[1] > 0
    agreed = [scores[kind].same_top for kind in KINDS]
    assert agreed == sorted(agreed, reverse=True)


def test_one_is_told_how_it_goes_on(
    scores: Mapping[str, Scores], told: list[tuple[str, int, int]]
) -> None:
    assert scores
    assert told[:2] == [("evaluating the reference", done, 510) for done in (255, 510)]
    assert told[-1] == ("evaluating q4_0", 510, 510)


def test_rates_were_not_measured(scores: Mapping[str, Scores]) -> None:
    assert scores["q4_0"].prefill_tps == scores["q4_0"].decode_tps == 0


def all_logits(path: Path, tokens: list[int]) -> NDArray[np.float64]:
    """Return the logits of all positions, by llama-cpp-python's own class."""
    model = llama_cpp.Llama(str(path), n_ctx=CHUNK, logits_all=True, flash_attn=True, verbose=False)
    try:
        model.eval(tokens)
        return np.array(model.scores[: len(tokens)], np.float64)
    finally:
        model.close()


def test_the_figures_are_those_of_an_independent_computation(
    scores: Mapping[str, Scores], files: Mapping[str, Path]
) -> None:
    vocabulary = llama_cpp.Llama(str(files["f16"]), vocab_only=True, verbose=False)
    tokens = vocabulary.tokenize(TEXT.encode())
    assert tokens[0] == vocabulary.token_bos()
    surprise, divergence, same = 0.0, 0.0, 0
    for chunk in (tokens[:CHUNK], tokens[CHUNK : 2 * CHUNK]):
        asked = [vocabulary.token_bos(), *chunk[1:]]
        p = np.exp(all_logits(files["f16"], asked))
        q = np.exp(all_logits(files["q5_1"], asked))
        p, q = p / p.sum(axis=1, keepdims=True), q / q.sum(axis=1, keepdims=True)
        for at in range(CHUNK // 2, CHUNK - 1):
            surprise -= math.log(q[at, chunk[at + 1]])
            divergence += float((p[at] * np.log(p[at] / q[at])).sum())
            same += int(p[at].argmax() == q[at].argmax())
    vocabulary.close()
    found = scores["q5_1"]
    assert found.perplexity == pytest.approx(math.exp(surprise / 510), rel=1e-5)
    assert found.kl_divergence == pytest.approx(divergence / 510, rel=1e-4)
    assert found.same_top == pytest.approx(same / 510)


def test_rates_and_memory_are_measured(
    files: Mapping[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sprat_controller.publisher.evaluate.evaluate.ROUNDS", 1)
    two = {"f16": files["f16"], "again": files["f16"]}
    found = evaluate(files["f16"], two, TEXT, scratch=tmp_path, report=unheard, limit=1)
    for one in found:
        assert one.tokens == SCORED  # one chunk, however low the limit
        assert one.prefill_tps > 0
        assert one.decode_tps > 0
        assert one.peak_bytes > one.bytes


def refused(reference: Path, variant: Path, text: str, scratch: Path) -> str:
    with pytest.raises(EvaluateError) as caught:
        evaluate(reference, {"q": variant}, text, scratch=scratch, report=unheard, rates=False)
    assert not [path for path in scratch.iterdir() if path.is_dir()]
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("text", ["", " \n"])
def test_an_empty_text_is_refused(files: Mapping[str, Path], tmp_path: Path, text: str) -> None:
    assert "an empty one" in refused(files["f16"], files["q4_0"], text, tmp_path)


def test_a_short_text_is_refused(files: Mapping[str, Path], tmp_path: Path) -> None:
    said = refused(files["f16"], files["q4_0"], "x" * 1022, tmp_path)
    assert "at least 1024 of the model's tokens, found 1023" in said


def test_a_model_with_next_to_no_context_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "source.gguf"
    models.write_model(source, models.Shape(context=63))
    assert "trained for 63" in refused(source, source, TEXT, tmp_path)


def test_a_shorter_context_makes_shorter_chunks(tmp_path: Path) -> None:
    source = tmp_path / "source.gguf"
    models.write_model(source, models.Shape(context=64))
    (found,) = evaluate(
        source, {"f32": source}, TEXT, scratch=tmp_path, report=unheard, limit=100, rates=False
    )
    assert found.tokens == 3 * 31


def test_a_quantized_reference_is_refused(files: Mapping[str, Path], tmp_path: Path) -> None:
    said = refused(files["q8_0"], files["q4_0"], TEXT, tmp_path)
    assert "q8_0.gguf with Q8_0 tensors" in said


def test_a_variant_with_another_vocabulary_is_refused(
    files: Mapping[str, Path], tmp_path: Path
) -> None:
    other = demo_model.make(tmp_path / "other.gguf")
    said = refused(files["f16"], other, TEXT, tmp_path)
    assert "other.gguf to have the reference's vocabulary of 258 tokens" in said


def test_a_variant_that_cuts_words_elsewhere_is_refused(
    files: Mapping[str, Path], tmp_path: Path
) -> None:
    models.write_model(tmp_path / "other.gguf", models.Shape(width=256))
    said = refused(files["f16"], tmp_path / "other.gguf", TEXT, tmp_path)
    assert "the same tokens" in said


def test_a_variant_without_numbers_is_refused(files: Mapping[str, Path], tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.gguf"
    shutil.copyfile(files["f16"], damaged)
    for tensor in gguf.GGUFReader(damaged, "r+").tensors:
        if tensor.name == "output_norm.weight":
            tensor.data[:] = np.nan
    assert "its weights are damaged" in refused(files["f16"], damaged, TEXT, tmp_path)


def test_a_variant_that_llama_cpp_does_not_load_is_refused(
    files: Mapping[str, Path], tmp_path: Path
) -> None:
    lacking = tmp_path / "lacking.gguf"
    data = files["f16"].read_bytes()
    lacking.write_bytes(data.replace(b"blk.0.attn_q.weight", b"blk.0.attn_x.weight"))
    said = refused(files["f16"], lacking, TEXT, tmp_path)
    assert "llama.cpp cannot load lacking.gguf" in said
    assert "blk.0.attn_q.weight" in said


def test_a_file_that_is_no_model_is_refused(files: Mapping[str, Path], tmp_path: Path) -> None:
    (tmp_path / "text.gguf").write_text("no model")
    with pytest.raises(ModelFileError):
        refused(files["f16"], tmp_path / "text.gguf", TEXT, tmp_path)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "crashed with signal 11"),
        ("import os; os.kill(os.getpid(), 9)", "memory runs out"),
        ("import sys; sys.exit('no such library')", "no such library"),
        ("pass", "it gave no reason"),
    ],
)
def test_native_code_that_fails_costs_one_sentence(
    files: Mapping[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    code: str,
    said: str,
) -> None:
    command = (sys.executable, "-c", code)
    monkeypatch.setattr("sprat_controller.publisher.evaluate.children.COMMAND", command)
    found = refused(files["f16"], files["q4_0"], TEXT, tmp_path)
    assert found.startswith("llama.cpp could not evaluate f16.gguf: ")
    assert said in found


def test_without_the_extra_one_is_told_what_to_install(
    files: Mapping[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    said = refused(files["f16"], files["q4_0"], TEXT, tmp_path)
    assert "pip install sprat-controller[publish]" in said
