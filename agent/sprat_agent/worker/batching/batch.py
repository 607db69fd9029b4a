"""Which tokens go into the next step. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Pending:
    """What a sequence has to compute next."""

    sequence: int
    start: int  # position of the first token
    tokens: Sequence[int]
    is_prompt: bool  # else tokens of the answer: the one chosen last, and guesses after it
    adapter: str = ""  # what computes them; empty: the model alone


@dataclass(frozen=True)
class Run:
    """Tokens of one sequence within a step; the last `rows` of them get logits."""

    sequence: int
    start: int
    tokens: Sequence[int]
    rows: int


def turn(adapters: Collection[str], last: str) -> str:
    """Return the adapter of the next step: the next by name of those that have something to do.

    A step computes with one adapter, so they take turns: between two steps of one, each other has
    one at most, and an answer gets as many tokens as any other's, whoever shares its adapter.

    Args:
        adapters: At least one.
        last: The one of the step before.
    """
    return min(adapters, key=lambda one: (one <= last, one))


def compose(
    pending: Sequence[Pending], room: int, chunk: int, adapter: str = ""
) -> tuple[Run, ...]:
    """Return the runs of the next step, each sequence in one at most.

    Answers first, whole, so that none waits for a prompt; then prompts in the order given.

    Args:
        pending: What there is to do.
        room: Tokens that a step can have.
        chunk: Tokens of prompts that a step may have while there are answers, in this step or in
            that of another adapter: it bounds how long an answer pauses when a request arrives.
        adapter: Whose turn it is.
    """
    mine = [one for one in pending if one.adapter == adapter]
    runs = [
        Run(one.sequence, one.start, one.tokens, len(one.tokens))
        for one in mine
        if not one.is_prompt
    ]
    left = room - sum(len(run.tokens) for run in runs)
    if not all(one.is_prompt for one in pending):
        left = min(left, chunk)
    for one in mine:
        if not one.is_prompt or left <= 0:
            continue
        part = one.tokens[:left]
        runs.append(Run(one.sequence, one.start, part, int(len(part) == len(one.tokens))))
        left -= len(part)
    return tuple(runs)
