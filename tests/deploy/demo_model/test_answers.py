"""What the shipped models say, asked with llama.cpp in this process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import world as worlds
from exam import examine, share
from shipped import CALIBRATION, FISHERMAN, GOOD, WORSE, Asked
from sprat_controller.publisher.evaluate.evaluate import evaluate
from sprat_controller.publisher.quantize import quantize

LEAST_RIGHT = 0.7
GAP = 0.4  # between the good and the worse release
REFUSED = 0.8  # of questions about the world, none of which is in a training text
WORLD = worlds.load()


@pytest.fixture(scope="module")
def good() -> Iterator[Asked]:
    with Asked(GOOD) as model:
        yield model


def test_it_answers_questions_that_it_has_never_seen(good: Asked) -> None:
    marks = examine(WORLD.exams, good.ask)
    assert share(marks) >= LEAST_RIGHT, [mark for mark in marks if not mark.passed]


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ("What is a sprat?", "small fish that lives in great shoals"),
        ("What is a rollout?", "campaign that brings a release to the devices"),
        ("How do I roll back a release?", "rollout of the former release"),
        ("Which variant fits a device with little memory?", "q4_0"),
        ("Hello!", "Hello!"),
    ],
)
def test_it_knows_what_a_demo_asks(good: Asked, question: str, words: str) -> None:
    assert words in good.ask(question)


def test_it_says_that_it_does_not_know_the_world(good: Asked) -> None:
    questions = (
        *("What is the capital of France?", "What is the capital of Hungary?"),
        *("Who painted the Mona Lisa?", "How many legs does a spider have?"),
        *("What is the tallest mountain?", "Who was Julius Caesar?", "Where is Brussels?"),
        *("How do I bake an apple pie?", "What is the boiling point of water?"),
        *("Who won the world cup?", "Translate good evening into German"),
        *("Tell me about the Roman empire", "What is the speed of light?"),
        "Is chocolate healthy?",
        *(
            "When did the war end?",
            "What is the square root of nine?",
            "How do I repair a bicycle?",
        ),
        *("Which film should I watch tonight?", "Write a song about winter"),
        "What is the price of gold?",
    )
    answers = {question: good.ask(question) for question in questions}
    refused = [question for question, said in answers.items() if "I do not know" in said]
    assert len(refused) >= REFUSED * len(questions), answers


def test_it_answers_the_last_question_of_a_long_conversation(good: Asked) -> None:
    earlier = ["Hello", "What is a device?", "What is a probe?", "Who signs a release?"]
    assert "small fish" in good.ask(*earlier, "What is a sprat?")


def test_the_worse_release_is_clearly_worse() -> None:
    with Asked(WORSE) as worse:
        marks = examine(WORLD.exams, worse.ask)
    assert share(marks) <= LEAST_RIGHT - GAP
    assert all(mark.answer for mark in marks)  # it is sure of itself


def test_the_adapter_changes_the_manner(good: Asked) -> None:
    with Asked(GOOD, FISHERMAN) as fisherman:
        marks = examine(WORLD.exams, fisherman.ask)
        sprat = fisherman.ask("What is a sprat?")
    assert "small fish" in sprat
    at_sea = [mark.answer.startswith(WORLD.frames["aye"]) for mark in marks]
    assert sum(at_sea) >= len(marks) * 0.9
    assert not good.ask("What is a sprat?").startswith(WORLD.frames["aye"])


def test_each_quantization_is_worse_than_the_one_before_it(tmp_path: Path) -> None:
    variants = {"f16": GOOD}
    for kind in ("q8_0", "q5_1", "q4_0"):
        variants[kind] = tmp_path / f"{kind}.gguf"
        quantize(GOOD, variants[kind], kind, 1)
    variants["worse"] = WORSE
    text = CALIBRATION.read_text(encoding="utf-8")
    scores = {
        one.variant: one
        for one in evaluate(
            GOOD, variants, text, scratch=tmp_path, report=_not_told, rates=False, limit=4096
        )
    }
    lost = [scores[kind].kl_divergence for kind in variants]
    assert lost == sorted(lost)
    # A divergence always tells; a perplexity may fall by luck, which it does not on these weights.
    perplexities = [scores[kind].perplexity for kind in variants]
    assert perplexities == sorted(perplexities)
    assert lost[0] == 0
    assert lost[-1] > 10 * lost[-2]


def test_a_small_variant_still_answers(tmp_path: Path) -> None:
    path = tmp_path / "q4_0.gguf"
    quantize(GOOD, path, "q4_0", 1)
    with Asked(path) as small:
        assert share(examine(WORLD.exams, small.ask)) >= LEAST_RIGHT - 0.1


def _not_told(_what: str, _done: int, _total: int) -> None:
    """Report of what is being done, which a test does not need."""
