"""What the evaluating process and its children say to each other, a JSON line each."""

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec

CHUNK: Final = 512  # tokens, or fewer for a model that was trained for fewer
LEAST_CHUNK: Final = 64  # of a model with so short a context little can be said
LEAST_CHUNKS: Final = 2  # in a text, as llama-perplexity asks for


class Score(msgspec.Struct, tag=True):
    """Compute the figures of quality."""

    model: str
    folder: str  # with the text; the reference's logits are left and found there
    is_reference: bool
    limit: int
    threads: int


class Rate(msgspec.Struct, tag=True):
    """Measure how fast the model is."""

    model: str
    folder: str
    threads: int


class Question(msgspec.Struct):
    """A golden prompt as it is asked: greedily, alone."""

    prompt: str
    max_tokens: int


class Questions(msgspec.Struct):
    """What is asked, in a file: a command line has too little room for it."""

    chat_template: str
    asked: list[Question]


class Ask(msgspec.Struct, tag=True):
    """Answer each of the questions that lie in the folder."""

    model: str
    folder: str
    threads: int


class Progress(msgspec.Struct, tag=True):
    """So many tokens or questions of all are done."""

    done: int
    total: int


class Scored(msgspec.Struct, tag=True):
    """The answer to `Score`: sums over all scored tokens."""

    tokens: int
    surprise: float
    divergence: float
    same_top: int


class Rated(msgspec.Struct, tag=True):
    """The answer to `Rate`: tokens a second of each repeat, and the process's peak memory."""

    prefill: list[float]
    decode: list[float]
    peak_bytes: int


class Asked(msgspec.Struct, tag=True):
    """The answers to `Ask`, in order."""

    answers: list[str]


class Refused(msgspec.Struct, tag=True):
    """The order cannot be carried out; one sentence."""

    reason: str


Order: TypeAlias = Score | Rate | Ask
Answer: TypeAlias = Progress | Scored | Rated | Asked | Refused
