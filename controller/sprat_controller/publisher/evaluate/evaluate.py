"""Judging a model's variants on a publisher's machine: how much is lost, how much is won.

Each figure comes from a child process of its own (`child.py`, which says how quality is computed).
The reference's logits lie on disk meanwhile: 4 bytes a token of the vocabulary and scored token,
1.2 GB for 151,936 and `LIMIT`. Rates are of this machine and of one stream, with a thread a core:
good for comparing variants with each other; the devices' own rates are measured there.
"""

from __future__ import annotations

import importlib.util
import math
import os
import statistics
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias

from sprat_proto import gguf
from sprat_proto.manifest import Evaluation

from sprat_controller.publisher.evaluate import children
from sprat_controller.publisher.evaluate.orders import Rate, Rated, Score, Scored

LIMIT: Final = 2048  # scored tokens
ROUNDS: Final = 3  # of measuring the rates of all variants in turn
TEXT: Final = "text.txt"  # as the child finds it
_HIGHEST: Final = 1 << 40  # manifest.Count
_MOST: Final = 700  # nats; e to more is too large for a number
_UNQUANTIZED: Final = frozenset({"F32", "F16", "BF16"})

# What is being done, how much of it is done, and how much there is.
Report: TypeAlias = Callable[[str, int, int], None]


class EvaluateError(Exception):
    """The variants cannot be judged; the message is one sentence."""


@dataclass(frozen=True)
class Scores:
    """How good one variant is, and how fast here; rates and memory are 0 if not measured."""

    variant: str
    bytes: int
    tokens: int  # scored
    perplexity: float
    kl_divergence: float  # mean from the reference, nats a token; 0 for the reference
    same_top: float  # share of positions where both find the same token likeliest, 0 to 1
    prefill_tps: float  # tokens a second of a prompt of 128 tokens, on this machine
    decode_tps: float  # tokens a second after it, one by one
    peak_bytes: int = 0  # memory of a process with the model and a context of 512 tokens

    @property
    def loss(self) -> float:
        """Quality lost against the reference: e to the divergence, less 1."""
        return math.expm1(min(self.kl_divergence, _MOST))


def to_signed(scores: Scores, text_sha256: str, *, reference: str = "f16") -> Evaluation:
    """Return what a manifest says of it; figures beyond what it can say are cut to the highest.

    Args:
        scores: Of the variant.
        text_sha256: Of the calibration text's UTF-8 bytes.
        reference: The form that the variant was compared with.
    """
    return Evaluation(
        reference=reference,
        text_sha256=text_sha256,
        tokens=scores.tokens,
        perplexity_milli=_whole(scores.perplexity * 1e3),
        kl_nano=_whole(scores.kl_divergence * 1e9),
        same_top_ppm=_whole(scores.same_top * 1e6),
        loss_ppm=_whole(scores.loss * 1e6),
    )


def _whole(value: float) -> int:
    return round(min(value, _HIGHEST))


def evaluate(
    reference: Path,
    variants: Mapping[str, Path],
    text: str,
    *,
    scratch: Path,
    report: Report,
    limit: int = LIMIT,
    rates: bool = True,
) -> list[Scores]:
    """Return the scores of each variant, in their order.

    Args:
        reference: The unquantized model that they were made from. To have its scores too, give it
            among the variants.
        variants: GGUF files by name.
        text: What is predicted: at least 1,024 tokens; the first `limit` or so are scored.
        scratch: An existing folder, for the reference's logits; left as it was found.
        report: Told what is being done.
        limit: Of scored tokens, in chunks of 255; one chunk is always scored.
        rates: Whether to measure rates and memory too.

    Raises:
        EvaluateError: A text that is too short, a reference that is quantized, a variant of another
            model, llama.cpp not installed, failed or crashed, no room.
        gguf.ModelFileError: A file is no model that Sprat runs.
    """
    reference = reference.absolute()
    files = {name: path.absolute() for name, path in variants.items()}
    _check(reference, files, text)
    with tempfile.TemporaryDirectory(prefix="evaluate-", dir=scratch.absolute()) as folder:
        (Path(folder) / TEXT).write_bytes(text.encode())
        scores = _qualities(reference, files, folder, limit, report)
        if rates:
            measured = _rates(files, folder, report)
            scores = [_with_rates(one, measured[one.variant]) for one in scores]
    return scores


def _check(reference: Path, variants: Mapping[str, Path], text: str) -> None:
    if importlib.util.find_spec("llama_cpp") is None:
        raise EvaluateError(
            "expected llama.cpp to evaluate variants with, found it not installed here: run"
            " `pip install sprat-controller[publish]`"
        )
    if not text.strip():
        raise EvaluateError("expected a calibration text, found an empty one")
    original = gguf.check(reference)
    quantized = {tensor.type for tensor in original.tensors} - _UNQUANTIZED
    if quantized:
        raise EvaluateError(
            f"expected an F16, BF16 or F32 model to compare with, found {reference.name} with"
            f" {', '.join(sorted(quantized))} tensors"
        )
    expected = _tokens_of(original)
    for path in variants.values():
        found = _tokens_of(gguf.check(path))
        if found != expected:
            raise EvaluateError(
                f"expected {path.name} to have the reference's vocabulary of {expected} tokens,"
                f" found {found}: it was made from another model"
            )


def _tokens_of(file: gguf.GgufFile) -> int:
    return file.arrays["tokenizer.ggml.tokens"].count


def _qualities(
    reference: Path, variants: Mapping[str, Path], folder: str, limit: int, report: Report
) -> list[Scores]:
    def scored(path: Path, what: str, *, is_reference: bool = False) -> Scored:
        order = Score(str(path), folder, is_reference, limit, _threads())
        return _carry_out(order, Scored, partial(report, f"evaluating {what}"))

    known = scored(reference, "the reference", is_reference=True)
    return [
        _quality(name, path, known if path.samefile(reference) else scored(path, name))
        for name, path in variants.items()
    ]


def _quality(variant: str, path: Path, sums: Scored) -> Scores:
    return Scores(
        variant=variant,
        bytes=path.stat().st_size,
        tokens=sums.tokens,
        perplexity=math.exp(min(sums.surprise / sums.tokens, _MOST)),
        kl_divergence=sums.divergence / sums.tokens,
        same_top=sums.same_top / sums.tokens,
        prefill_tps=0,
        decode_tps=0,
    )


def _rates(variants: Mapping[str, Path], folder: str, report: Report) -> Mapping[str, list[Rated]]:
    """Measure all in turn, several times: what disturbs a moment disturbs no variant alone."""
    measured: dict[str, list[Rated]] = {name: [] for name in variants}
    total = ROUNDS * len(variants)
    for number in range(total):
        report("measuring rates", number, total)
        name = list(variants)[number % len(variants)]
        order = Rate(str(variants[name]), folder, _threads())
        measured[name].append(_carry_out(order, Rated, _not_told))
    report("measured rates", total, total)
    return measured


def _with_rates(scores: Scores, measured: list[Rated]) -> Scores:
    return replace(
        scores,
        prefill_tps=statistics.median(rate for one in measured for rate in one.prefill),
        decode_tps=statistics.median(rate for one in measured for rate in one.decode),
        peak_bytes=max(one.peak_bytes for one in measured),
    )


def _carry_out(
    order: Score | Rate, answer: type[children.Result], done: children.Done
) -> children.Result:
    try:
        return children.carry_out(order, answer, done)
    except children.ChildError as error:
        raise EvaluateError(str(error)) from error


def _not_told(_done: int, _total: int) -> None:
    """Rates are told by the measurement, not by the token."""


def _threads() -> int:
    return os.cpu_count() or 1
