"""Makes conversations and stories from the tables. Pure: chance is an argument.

No text made here has a question of `held_out.toml`. Sentences of stories are told apart by their
checksum: one in eight is never trained on and is left for `calibration.txt`.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from string import ascii_lowercase
from typing import Final

from world import Topic, World, plain

_SLOT: Final = re.compile(r"\{(\w+)\}")
_SENTENCE_END: Final = re.compile(r"(?<=[.]) ")
_LEFT_FOR_CALIBRATION: Final = 8  # one sentence of so many
_TURNS: Final = (1, 1, 1, 1, 1, 2, 2, 2, 3, 4)
_UNKNOWN: Final = 0.3  # share of questions that nobody here can answer
_SYSTEM: Final = 0.15  # share of conversations with a system message
_INVENTED: Final = 0.4  # share of names in those that do not exist
_SYLLABLES: Final = 0.6  # share of invented words that can be spoken
_REWORDED: Final = 0.25  # share of questions with a word more or less
_LONG: Final = 5  # words, from which on one less leaves the sense
_MORE: Final = 0.7  # share of those that have one more
_CARELESS: Final = 0.3  # share of questions without capitals or without their mark
_TYPO: Final = 0.06  # share of questions with a letter too many, too few or elsewhere


@dataclass(frozen=True)
class Message:
    """Of a conversation; `role` is system, user or assistant."""

    role: str
    text: str


Manner = Callable[[Topic], str]  # what is answered to a topic


def chance(seed: int) -> Random:
    """Return chance that repeats itself."""
    return Random(seed)  # noqa: S311 - nothing secret comes from it


def conversation(world: World, random: Random, manner: Manner) -> list[Message]:
    """Return one to four questions with their answers."""
    messages: list[Message] = []
    if random.random() < _SYSTEM:
        messages.append(Message("system", random.choice(world.frames["system"])))
    for _ in range(random.choice(_TURNS)):
        asked, topic = question(world, random)
        messages += [Message("user", asked), Message("assistant", manner(topic))]
    return messages


def question(world: World, random: Random) -> tuple[str, Topic]:
    """Return a question that is not held out, and the topic it is about."""
    while True:
        if random.random() < _UNKNOWN:
            asked, topic = _elsewhere(world, random), world.unknown
        else:
            topic = random.choices(world.topics, world.weights)[0]
            asked = _about(topic, world, random)
        asked = _as_typed(_reworded(asked, world, random), random)
        if plain(asked) not in world.held_out:
            return asked, topic


def story(world: World, random: Random, *, calibrates: bool = False) -> str:
    """Return a paragraph of plain text, of sentences that are for training or for calibration."""
    values = {name: random.choice(words) for name, words in world.stories.items()}
    sentences: list[str] = []
    wanted = random.randint(2, 6)
    while len(sentences) < wanted:
        pattern = random.choice(world.stories["sentences"])
        sentence = _SLOT.sub(lambda found: values[found.group(1)], pattern)
        if is_for_calibration(sentence) == calibrates and sentence not in sentences:
            sentences.append(sentence)
        else:  # else a paragraph might have no sentence that it may take
            name = random.choice(_SLOT.findall(pattern))
            values[name] = random.choice(world.stories[name])
    return " ".join(sentences)


def is_for_calibration(sentence: str) -> bool:
    """Tell whether a sentence of a story is left out of training."""
    return zlib.crc32(sentence.encode()) % _LEFT_FOR_CALIBRATION == 0


def sentences(paragraph: str) -> list[str]:
    """Return the sentences of a story."""
    return _SENTENCE_END.split(paragraph)


def _about(topic: Topic, world: World, random: Random) -> str:
    at = random.randrange(topic.forms)
    forms = (
        *((subject, "define") for subject in topic.subjects),
        *((action, "act") for action in topic.actions),
        *((asked, "") for asked in topic.questions),
    )
    form, frames = forms[at]
    asked = form
    if frames:
        asked = random.choice(world.frames[frames]).format(s=form, d=form)
    return _closed(asked if topic.plain else _around(asked, world, random), random)


def _elsewhere(world: World, random: Random) -> str:
    lists = world.elsewhere

    def word(found: re.Match[str]) -> str:
        match found.group(1):
            case "w":
                return invented(world, random)
            case "number":
                return str(random.randint(1, 999))
            case _ if random.random() < _INVENTED:
                return invented(world, random).title()
            case name:
                return random.choice(lists[name])

    asked = _SLOT.sub(word, random.choice(lists["frames"]))
    return _closed(_around(asked, world, random), random)


def invented(world: World, random: Random) -> str:
    """Return a word that does not exist."""
    pieces = world.elsewhere["syllables"] if random.random() < _SYLLABLES else ascii_lowercase
    return "".join(random.choices(pieces, k=random.randint(2, 6)))


def _around(asked: str, world: World, random: Random) -> str:
    around = random.choice(world.frames["around"])
    if around.startswith("{q} Thank"):
        asked = f"{asked}?"
    return around.format(q=asked)


def _closed(asked: str, random: Random) -> str:
    words = asked.replace(":", ",").split(", ")[-1].split(" ")
    is_question = words[0].lower() in {
        *("what", "what's", "which", "how", "who", "why", "where", "when", "is", "are", "can"),
        *("do", "does", "may", "could", "will", "under", "in", "on"),
    }
    marks = ("?", "?", "?", "") if is_question else (".", "", "?", "!")
    return asked + random.choice(marks)


def _reworded(asked: str, world: World, random: Random) -> str:
    """Return a longer question with a word more or less, now and then."""
    words = asked.split(" ")
    if len(words) < _LONG or random.random() > _REWORDED:
        return asked
    at = random.randrange(1, len(words))
    kept = at if random.random() < _MORE else at + 1
    more = [random.choice(world.frames["fillers"])] if kept == at else []
    return " ".join([*words[:at], *more, *words[kept:]])


def _as_typed(asked: str, random: Random) -> str:
    if random.random() < _CARELESS:
        asked = random.choice((asked.lower(), asked.rstrip("?.!"), asked[:1].lower() + asked[1:]))
    if random.random() < _TYPO:
        at = random.randrange(len(asked))
        letter = random.choice(("", asked[at] * 2, asked[at] + asked[at - 1]))
        asked = asked[:at] + letter + asked[at + 1 :]
    return asked


def calibration(world: World, random: Random, paragraphs: int) -> Iterator[str]:
    """Yield paragraphs that no training text has a sentence of."""
    for _ in range(paragraphs):
        yield story(world, random, calibrates=True)
