"""The demo model's tokens are what llama.cpp makes of the same text."""

from __future__ import annotations

from collections.abc import Iterator

import corpus
import llama_cpp
import manners
import pytest
import tokenizer as tokenizers
import world as worlds
from hypothesis import given
from hypothesis import strategies as st
from shipped import GOOD, shipped_tokenizer
from tokenizer import END, SPECIALS, TEMPLATE, Tokenizer

KNOWN = shipped_tokenizer(GOOD)


@pytest.fixture(scope="module")
def vocabulary() -> Iterator[llama_cpp.Llama]:
    model = llama_cpp.Llama(str(GOOD), vocab_only=True, verbose=False)
    yield model
    model.close()


def of_llama(vocabulary: llama_cpp.Llama, text: str) -> list[int]:
    return vocabulary.tokenize(text.encode(), add_bos=False, special=False)


def test_tokens_of_the_corpus_are_llama_cpps(vocabulary: llama_cpp.Llama) -> None:
    world, random = worlds.load(), corpus.chance(5)
    texts = [corpus.story(world, random) for _ in range(200)]
    texts += [(worlds.DATA.parent / "calibration.txt").read_text(encoding="utf-8")]
    for _ in range(500):
        texts += [one.text for one in corpus.conversation(world, random, manners.good)]
    for text in texts:
        assert KNOWN.encode(text) == of_llama(vocabulary, text)


LETTERS = st.characters(max_codepoint=0x24F, categories=["L", "Nd", "P", "S", "Zs"])


@given(st.text(st.one_of(st.sampled_from(" \n\r\t'sS-_q0123"), LETTERS)))
def test_tokens_of_other_texts_are_llama_cpps_too(text: str) -> None:
    model = _vocabulary_of_the_process()
    assert KNOWN.encode(text) == of_llama(model, text)


@given(st.text())
def test_decoding_gives_the_text_back(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        return
    assert KNOWN.decode(KNOWN.encode(text)) == text


def test_specials_are_no_text() -> None:
    ids = KNOWN.encode(f"Hello{END}")
    assert KNOWN.ids[END] not in ids
    assert KNOWN.decode([KNOWN.ids[END], *ids]) == f"Hello{END}"
    assert KNOWN.tokens[-len(SPECIALS) :] == SPECIALS
    assert all(one in TEMPLATE for one in ("<|start|>", "<|end|>", "<|assistant|>"))


def test_the_most_frequent_pair_is_learnt_first() -> None:
    made = tokenizers.learn(["ab ab ab cd"], 256 + len(SPECIALS) + 2)
    assert made.merges == (("a", "b"), ("\u0120", "ab"))
    assert made.encode("ab ab") == [made.ids["ab"], made.ids["\u0120ab"]]


def test_too_little_text_for_a_vocabulary_is_refused() -> None:
    with pytest.raises(ValueError, match="fewer pairs"):
        tokenizers.learn(["ab"], 1024)


def test_without_merges_a_text_is_its_bytes() -> None:
    assert Tokenizer([]).encode("é!") == [0xC3, 0xA9, 0x21]


def _vocabulary_of_the_process() -> llama_cpp.Llama:
    """Return one for all examples: Hypothesis and fixtures of a function do not mix."""
    if not _made:
        _made.append(llama_cpp.Llama(str(GOOD), vocab_only=True, verbose=False))
    return _made[0]


_made: list[llama_cpp.Llama] = []
