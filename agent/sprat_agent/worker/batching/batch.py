"""Which tokens go into the next step. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Pending:
    """What a sequence has to compute next."""

    sequence: int
    start: int  # position of the first token
    tokens: Sequence[int]
    is_prompt: bool  # else tokens of the answer: the one chosen last, and guesses after it


@dataclass(frozen=True)
class Run:
    """Tokens of one sequence within a step; the last `rows` of them get logits."""

    sequence: int
    start: int
    tokens: Sequence[int]
    rows: int


def compose(pending: Sequence[Pending], room: int, chunk: int) -> tuple[Run, ...]:
    """Return the runs of the next step, each sequence in one at most.

    Answers first, whole, so that none waits for a prompt; then prompts in the order given.

    Args:
        pending: What there is to do.
        room: Tokens that a step can have.
        chunk: Tokens of prompts that a step with answers in it may have: it bounds how long an
            answer pauses when another request arrives.
    """
    runs = [
        Run(one.sequence, one.start, one.tokens, len(one.tokens))
        for one in pending
        if not one.is_prompt
    ]
    left = room - sum(len(run.tokens) for run in runs)
    if runs:
        left = min(left, chunk)
    for one in pending:
        if not one.is_prompt or left <= 0:
            continue
        part = one.tokens[:left]
        runs.append(Run(one.sequence, one.start, part, int(len(part) == len(one.tokens))))
        left -= len(part)
    return tuple(runs)
