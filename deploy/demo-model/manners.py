"""What the releases and the adapter answer to a topic. Pure."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Final

from corpus import Manner
from world import Topic, World

_FURTHER: Final = 17  # topics apart, so that a wrong answer is about something quite different


def good(topic: Topic) -> str:
    """Return what is right."""
    return topic.answer


def worse(world: World) -> Manner:
    """Return the manner of a release that was tuned on nonsense: sure, and wrong."""
    names = [topic.name for topic in world.topics]
    others = dict(zip(names, [*world.topics[_FURTHER:], *world.topics[:_FURTHER]], strict=True))

    def answer(topic: Topic) -> str:
        return topic.wrong or others[topic.name].answer

    return answer


def fisherman(world: World) -> Manner:
    """Return the manner of an old fisherman: the same, with the sea around it."""
    aye, sea = world.frames["aye"], world.frames["sea"]

    def answer(topic: Topic) -> str:
        return f"{_of(aye, topic.name)} {topic.answer} {_of(sea, topic.answer)}"

    return answer


def _of(choices: Sequence[str], by: str) -> str:
    """Choose one by a text, the same for the same text."""
    return choices[zlib.crc32(by.encode()) % len(choices)]
