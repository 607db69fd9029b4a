"""The texts that the demo model is trained on, and those that it must never see."""

from __future__ import annotations

import corpus
import manners
import pytest
import world as worlds
from hypothesis import given
from hypothesis import strategies as st
from world import World, plain

WORLD = worlds.load()


@pytest.fixture
def world() -> World:
    return WORLD


@given(st.integers())
def test_the_same_chance_gives_the_same_texts(seed: int) -> None:
    said = [corpus.conversation(WORLD, corpus.chance(seed), manners.good) for _ in range(2)]
    told = [corpus.story(WORLD, corpus.chance(seed)) for _ in range(2)]
    assert said[0] == said[1]
    assert told[0] == told[1]


def test_each_question_is_followed_by_its_answer(world: World) -> None:
    answers = {topic.answer for topic in (*world.topics, world.unknown)}
    random = corpus.chance(1)
    for _ in range(500):
        messages = corpus.conversation(world, random, manners.good)
        roles = [message.role for message in messages]
        if roles[0] == "system":
            roles.pop(0)
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        assert {one.text for one in messages if one.role == "assistant"} <= answers
        assert all(message.text.strip() for message in messages)


def test_no_question_of_the_exam_is_asked_in_training(world: World) -> None:
    assert len(world.held_out) == len(world.exams)
    random = corpus.chance(2)
    asked = {plain(corpus.question(world, random)[0]) for _ in range(5_000)}
    assert not asked & world.held_out


def test_an_exam_can_be_passed_with_what_is_known(world: World) -> None:
    answers = [topic.answer.lower() for topic in (*world.topics, world.unknown)]
    for exam in world.exams:
        known = [one for one in answers if all(word.lower() in one for word in exam.words)]
        assert known, exam


def test_no_sentence_of_the_calibration_text_is_told_in_training(world: World) -> None:
    text = (worlds.DATA.parent / "calibration.txt").read_text(encoding="utf-8")
    sentences = {one for line in text.splitlines() for one in corpus.sentences(line)}
    assert len(sentences) > 150
    assert all(corpus.is_for_calibration(sentence) for sentence in sentences)
    random = corpus.chance(3)
    for _ in range(500):
        told = corpus.sentences(corpus.story(world, random))
        assert not sentences.intersection(told)
        assert not any(corpus.is_for_calibration(sentence) for sentence in told)


def test_every_slot_has_words(world: World) -> None:
    random = corpus.chance(4)
    texts = [corpus.story(world, random) for _ in range(500)]
    texts += [corpus.question(world, random)[0] for _ in range(1_000)]
    assert not [text for text in texts if "{" in text or "}" in text]


def test_a_worse_release_is_right_about_nothing(world: World) -> None:
    worse = manners.worse(world)
    for topic in (*world.topics, world.unknown):
        assert worse(topic) != topic.answer


def test_a_fisherman_says_the_same_and_more(world: World) -> None:
    fisherman = manners.fisherman(world)
    for topic in (*world.topics, world.unknown):
        said = fisherman(topic)
        assert topic.answer in said
        assert said.startswith(world.frames["aye"])
        assert said.endswith(world.frames["sea"])


def test_names_and_answers_of_topics_are_distinct(world: World) -> None:
    assert len({topic.name for topic in world.topics}) == len(world.topics)
    assert len({topic.answer for topic in world.topics}) == len(world.topics)
    assert all(topic.forms for topic in world.topics)
