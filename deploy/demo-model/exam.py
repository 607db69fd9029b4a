"""How well something answers the questions that are in no training text. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from world import Exam


@dataclass(frozen=True)
class Mark:
    """One question, the answer, and whether all of its words are there."""

    exam: Exam
    answer: str

    @property
    def passed(self) -> bool:
        """The answer has all words; capitals do not count."""
        answer = self.answer.lower()
        return all(word.lower() in answer for word in self.exam.words)


def examine(exams: Sequence[Exam], ask: Callable[[str], str]) -> list[Mark]:
    """Ask everything."""
    return [Mark(exam, ask(exam.question)) for exam in exams]


def share(marks: Sequence[Mark]) -> float:
    """Return the share of questions that were answered rightly, from 0 to 1."""
    return sum(mark.passed for mark in marks) / len(marks)
