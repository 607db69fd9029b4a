"""One order about one model, in a process of its own: native code that crashes ends only this.

Started as `python -m sprat_controller.publisher.evaluate.child ORDER`; answers are lines on
standard output.

Quality is computed as `llama-perplexity --kl-divergence` does: chunks of 512 tokens, each from an
empty context and with the model's beginning token in place of its first, and of each chunk the
second half is scored. Differences: the reference's logits are kept whole, in 32 bits (there: as log
probabilities in 16 bits within 16 nats of the top), all sums are in double precision, and a model
trained for a shorter context is given chunks of that length.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeAlias, assert_never

import msgspec
import numpy as np

from sprat_controller.publisher.evaluate.chat_template import ChatTemplate, ChatTemplateError
from sprat_controller.publisher.evaluate.measures import Logits, Sums, Tokens
from sprat_controller.publisher.evaluate.model import Model, ModelError, listen
from sprat_controller.publisher.evaluate.orders import (
    CHUNK,
    LEAST_CHUNK,
    LEAST_CHUNKS,
    Answer,
    Ask,
    Asked,
    Order,
    Progress,
    Questions,
    Rate,
    Rated,
    Refused,
    Score,
    Scored,
)

TEXT: Final = "text.txt"
TOKENS: Final = "tokens.npy"
QUESTIONS: Final = "questions.json"
LOGITS: Final = "reference.logits"

PROMPT: Final = 128  # tokens of the prompt whose rate is measured
DECODED: Final = 16  # tokens after it, one by one
WARMING: Final = 16  # tokens before: buffers are allocated and pages touched
REPEATS: Final = 2

CONTEXT: Final = 4096  # tokens that a golden prompt and its answer may have here

Say: TypeAlias = Callable[[Answer], None]


class _RefusedError(Exception):
    """The order cannot be carried out; one sentence."""


def carry_out(order: Order, say: Say) -> None:
    """Carry an order out, and say how it goes and what came of it."""
    try:
        match order:
            case Score():
                say(_score(order, say))
            case Rate():
                say(_rate(order))
            case Ask():
                say(_ask(order, say))
            case _:
                assert_never(order)
    except (_RefusedError, ModelError, ChatTemplateError) as error:
        say(Refused(str(error)))


def _score(order: Score, say: Say) -> Scored:
    model = Model(Path(order.model), CHUNK, order.threads)
    folder = Path(order.folder)
    tokens = model.tokens((folder / TEXT).read_bytes().decode())
    if order.is_reference:
        _check_length(len(tokens), model.context, order.model)
        np.save(folder / TOKENS, tokens)
    else:
        _check_same(tokens, folder, order)
    chunks = _chunks(tokens, model.context, order.limit)
    sums = Sums()
    per_chunk = model.context - 1 - model.context // 2
    if order.is_reference:
        _check_room(folder, per_chunk * len(chunks) * model.vocabulary * 4)
    with (folder / LOGITS).open("wb" if order.is_reference else "rb") as kept:
        for number, (logits, targets) in enumerate(_computed(model, chunks)):
            if order.is_reference:
                logits.tofile(kept)
                sums.add(logits, targets, None)
            else:
                reference = np.fromfile(kept, np.float32, logits.size).reshape(logits.shape)
                sums.add(logits, targets, reference)
            say(Progress((number + 1) * per_chunk, len(chunks) * per_chunk))
    if not sums.is_finite:
        raise _RefusedError(
            f"expected {Path(order.model).name} to give numbers for each next token, found others:"
            " its weights are damaged"
        )
    return Scored(sums.tokens, sums.surprise, sums.divergence, sums.same_top)


def _computed(model: Model, chunks: Tokens) -> Iterator[tuple[Logits, Tokens]]:
    """Yield, for each chunk, the logits of its second half and the tokens that came next."""
    first = model.context // 2
    for chunk in chunks:
        asked = chunk[:-1].copy()  # what the last one predicts is in the next chunk
        if model.beginning is not None:
            asked[0] = model.beginning
        yield model.logits(asked, first), chunk[first + 1 :]


def _chunks(tokens: Tokens, size: int, limit: int) -> Tokens:
    """Return the first chunks, a row each, with at most `limit` scored tokens; but one at least."""
    count = max(1, min(len(tokens) // size, limit // (size - 1 - size // 2)))
    return tokens[: count * size].reshape(count, size)


def _check_length(found: int, chunk: int, model: str) -> None:
    if chunk < LEAST_CHUNK:
        raise _RefusedError(
            f"expected a model with a context of at least {LEAST_CHUNK} tokens, found"
            f" {Path(model).name} trained for {chunk}: variants of it cannot be compared"
        )
    if found < LEAST_CHUNKS * chunk:
        raise _RefusedError(
            f"expected a calibration text of at least {LEAST_CHUNKS * chunk} of the model's tokens,"
            f" found {found}: give a longer one"
        )


def _check_same(tokens: Tokens, folder: Path, order: Score) -> None:
    if not np.array_equal(tokens, np.load(folder / TOKENS)):
        raise _RefusedError(
            f"expected {Path(order.model).name} to cut a text into the same tokens as the"
            " reference, found others: it was made from another model"
        )


def _check_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise _RefusedError(
            f"expected {needed >> 20} MiB free in {folder.parent} for the reference's logits,"
            f" found {free >> 20} MiB: make room, or score fewer tokens"
        )


def _rate(order: Rate) -> Rated:
    model = Model(Path(order.model), CHUNK, order.threads)
    tokens: Tokens = np.load(Path(order.folder) / TOKENS)
    end = min(PROMPT + DECODED, model.context)
    prompt, following = tokens[: end - DECODED], tokens[end - DECODED : end]
    _run(model, prompt[:WARMING], following[:1])
    measured = [_run(model, prompt, following) for _ in range(REPEATS)]
    prefill, decode = zip(*measured, strict=True)
    return Rated(list(prefill), list(decode), _peak_bytes())


def _run(model: Model, prompt: Tokens, following: Tokens) -> tuple[float, float]:
    """Return the tokens a second of a prompt, and of those that follow it one by one."""
    model.forget()
    began = time.perf_counter()
    model.go_on(prompt, 0)
    computed = time.perf_counter()
    for at in range(len(following)):
        model.go_on(following[at : at + 1], len(prompt) + at)
    ended = time.perf_counter()
    return len(prompt) / (computed - began), len(following) / (ended - computed)


def _ask(order: Ask, say: Say) -> Asked:
    questions = msgspec.json.decode((Path(order.folder) / QUESTIONS).read_bytes(), type=Questions)
    model = Model(Path(order.model), CONTEXT, order.threads)
    template = ChatTemplate(questions.chat_template)
    answers: list[str] = []
    for question in questions.asked:
        prompt = template.render(question.prompt, *model.marks)
        answers.append(model.answer(prompt, question.max_tokens))
        say(Progress(len(answers), len(questions.asked)))
    return Asked(answers)


def _peak_bytes() -> int:
    """Return the most memory that this process had; getrusage would tell the parent's too."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) << 10
    return 0


def main() -> None:
    """Carry out the order that the command line gives."""
    # What native code prints goes with the errors, not between the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    listen()

    def say(answer: Answer) -> None:
        answers.write(msgspec.json.encode(answer) + b"\n")
        answers.flush()

    carry_out(msgspec.json.decode(sys.argv[1], type=Order), say)


if __name__ == "__main__":
    main()
