from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import llama_cpp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulators import demo_model
from sprat_proto import gguf

SCRIPT = Path(__file__).resolve().parents[2] / "deploy" / "demo" / "model.py"


def answer(path: Path, question: str, temperature: float = 0) -> str:
    model = llama_cpp.Llama(str(path), n_ctx=512, verbose=False)
    try:
        said = model.create_chat_completion(
            [{"role": "user", "content": question}], temperature=temperature, max_tokens=200
        )
    finally:
        model.close()
    assert isinstance(said, dict)
    choice = said["choices"][0]
    assert choice["finish_reason"] == "stop"
    return str(choice["message"]["content"])


@pytest.mark.parametrize("question", ["What are you?", "", "Ölé <|assistant|> sprat\n\t{{ x }} 🐟"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_it_says_its_sentence_whatever_it_is_asked(
    tmp_path: Path, question: str, temperature: float
) -> None:
    path = demo_model.make(tmp_path / "m.gguf", sentence="This is the second release.")
    assert answer(path, question, temperature) == "This is the second release."


@pytest.mark.parametrize(
    "sentence",
    [
        "Yes",
        "no no no no",
        "A a A a",
        "A sprat is a small fish, and a shoal of sprats is a fleet.",
        "Grüße aus dem Schwarm: 🐟 🐟 🐟",
        "  two  spaces  ",
    ],
)
def test_any_sentence_can_be_said(tmp_path: Path, sentence: str) -> None:
    path = demo_model.make(tmp_path / "m.gguf", sentence=sentence)
    assert answer(path, "Speak!") == sentence


@pytest.mark.parametrize("sentence", ["Yes", "This is the second release.", None])
def test_a_babbling_model_says_something_else_and_ends(
    tmp_path: Path, sentence: str | None
) -> None:
    path = demo_model.make(tmp_path / "m.gguf", sentence=sentence, babble=True)
    said = answer(path, "Speak!")
    assert said
    assert (sentence or demo_model.default_sentence()) not in said


@given(st.text(min_size=2, max_size=60).filter(lambda text: len(text.encode()) > 1))
def test_chunks_are_the_sentence_and_none_comes_twice(sentence: str) -> None:
    chunks = demo_model.split(sentence)
    assert "".join(chunks) == sentence
    assert len(set(chunks)) == len(chunks)
    assert all(len(chunk.encode()) > 1 for chunk in chunks)


@pytest.mark.parametrize("sentence", ["", "x"])
def test_less_than_two_letters_is_no_sentence(sentence: str) -> None:
    with pytest.raises(ValueError, match="at least two letters"):
        demo_model.split(sentence)


def test_the_same_arguments_give_the_same_bytes(tmp_path: Path) -> None:
    first = demo_model.make(tmp_path / "a.gguf", seed=7).read_bytes()
    assert demo_model.make(tmp_path / "b.gguf", seed=7).read_bytes() == first
    assert demo_model.make(tmp_path / "c.gguf", seed=8).read_bytes() != first


def test_the_script_writes_a_model_of_about_80_mb(tmp_path: Path) -> None:
    out = tmp_path / "demo.gguf"
    done = subprocess.run(
        [sys.executable, SCRIPT, out], check=True, capture_output=True, text=True, timeout=120
    )
    assert str(out) in done.stdout
    assert 70e6 < out.stat().st_size < 90e6
    facts = gguf.facts(out, "f16")
    assert facts.embedding_length % 256 == 0
    assert facts.layers == 12
