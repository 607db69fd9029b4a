"""Asking each variant its golden prompts here, before a proof is signed that it would fail.

A device asks the same of it, in the same words, and judges by the same rule (`sprat_proto.probes`).
What depends on the device, as rates and memory, is left to it.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
from sprat_proto import probes
from sprat_proto.manifest import Activation, GoldenPrompt

from sprat_controller.publisher.evaluate import children
from sprat_controller.publisher.evaluate.orders import Ask, Asked, Question, Questions
from sprat_controller.publisher.manifests import BuiltVariant
from sprat_controller.publisher.originals import Report
from sprat_controller.publisher.quality import QualityError

QUESTIONS: Final = "questions.json"  # as the child finds it
_SHOWN: Final = 60  # characters of a prompt, of what was expected and of what was found
_VERBS: Final = {"equals": "be", "contains": "contain", "schema": "be JSON by"}


def check_golden(variants: Sequence[BuiltVariant], scratch: Path, report: Report) -> None:
    """Have each variant answer its golden prompts, as its manifest says.

    Args:
        variants: As they are to be signed.
        scratch: Room meanwhile.
        report: Told what is being done.

    Raises:
        QualityError: A variant does not pass, or cannot be asked.
    """
    for variant in variants:
        activation = variant.manifest.activation
        if not activation.probe:
            continue
        answers = _answers(variant, scratch, report)
        fault = fault_of(variant.manifest.variant, activation, answers)
        if fault:
            raise QualityError(fault)


def fault_of(variant: str, activation: Activation, answers: Sequence[str]) -> str | None:
    """Return why a variant with these answers does not pass its golden prompts, or None. Pure."""
    wrong = [
        (golden, answer)
        for golden, answer in zip(activation.probe, answers, strict=True)
        if not probes.matches(answer, golden.match, golden.expect)
    ]
    total = sum(golden.counts for golden in activation.probe)
    lost = sum(golden.counts for golden, _ in wrong)
    score, least = probes.score_permille(total - lost, total), activation.terms.min_score_permille
    if score >= least:
        return None
    of_all = ""
    if len(activation.probe) > 1:
        of_all = (
            f", and {len(wrong)} of {len(activation.probe)} golden prompts like it: a score of"
            f" {score} of 1000 where {least} are the least"
        )
    return (
        f"check probe: {variant} does not pass the proof that would be signed:"
        f" {_in_words(*wrong[0])}{of_all}; mend the model or the proof, or say --unproven WHY"
    )


def _in_words(golden: GoldenPrompt, answer: str) -> str:
    prompt, expected, found = (_short(text) for text in (golden.prompt, golden.expect, answer))
    return (
        f"its answer to the golden prompt {prompt!r} is to {_VERBS[golden.match]} {expected!r},"
        f" and was {found!r}"
    )


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else f"{line[: _SHOWN - 1]}…"


def _answers(variant: BuiltVariant, scratch: Path, report: Report) -> Sequence[str]:
    stated = variant.manifest
    asked = [Question(one.prompt, one.max_tokens) for one in stated.activation.probe]
    what = f"proving {stated.variant}"
    report(what, 0, len(asked))
    with tempfile.TemporaryDirectory(prefix="golden-", dir=scratch.absolute()) as folder:
        questions = Questions(stated.chat_template, asked)
        (Path(folder) / QUESTIONS).write_bytes(msgspec.json.encode(questions))
        order = Ask(str(variant.path.absolute()), folder, os.cpu_count() or 1)
        try:
            return children.carry_out(order, Asked, partial(report, what)).answers
        except children.ChildError as error:
            raise QualityError(
                f"check probe: {stated.variant} cannot be proved: {error}"
            ) from error
