"""What the demo model may know, read from the tables in `data/`."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

DATA: Final = Path(__file__).resolve().parent / "data"
Lists = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Topic:
    """One thing that is known, and how it is asked for."""

    name: str
    answer: str
    wrong: str = ""  # what the worse release says
    subjects: tuple[str, ...] = ()  # to be defined
    actions: tuple[str, ...] = ()  # to be done
    questions: tuple[str, ...] = ()  # as they are
    plain: bool = False  # asked as it is, without words around it

    @property
    def forms(self) -> int:
        """In how many ways it is asked for, before frames make them more."""
        return len(self.subjects) + len(self.actions) + len(self.questions)


@dataclass(frozen=True)
class Exam:
    """A question that is in no training text, and words that a right answer has."""

    question: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class World:
    """All tables."""

    topics: tuple[Topic, ...]
    frames: Lists
    elsewhere: Lists  # frames and words of questions that nobody here can answer
    unknown: Topic  # what is said to those
    stories: Lists
    exams: tuple[Exam, ...]

    @cached_property
    def held_out(self) -> frozenset[str]:
        """The questions that nobody may train on, as `plain` makes them."""
        return frozenset(plain(exam.question) for exam in self.exams)

    @cached_property
    def weights(self) -> list[float]:
        """How often each topic is asked for: more often if it is asked in more ways."""
        return [topic.forms**0.5 for topic in self.topics]


def load(folder: Path = DATA) -> World:
    """Read the tables."""
    elsewhere = _read(folder / "elsewhere.toml")
    unknown = Topic("unknown", elsewhere.pop("answer"), elsewhere.pop("wrong"))
    return World(
        topics=tuple(Topic(**_tuples(row)) for row in _read(folder / "topics.toml")["topic"]),
        frames=_tuples(_read(folder / "frames.toml")),
        elsewhere=_tuples(elsewhere),
        unknown=unknown,
        stories=_tuples(_read(folder / "stories.toml")),
        exams=tuple(Exam(**_tuples(row)) for row in _read(folder / "held_out.toml")["exam"]),
    )


def plain(text: str) -> str:
    """Return a text as it is compared: small letters and digits, single blanks."""
    return " ".join(re.findall(r"\w+", text.lower()))


def _read(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text(encoding="utf-8"))


def _tuples(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(one) if isinstance(one, list) else one for key, one in row.items()}  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType] - TOML
