"""How much a probe's text may surprise a device's variant: measured here, before it is signed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from sprat_proto.probes import MAX_PERPLEXITY_MILLI, ScoredText

from sprat_controller.publisher.evaluate.evaluate import evaluate
from sprat_controller.publisher.originals import Original, Report
from sprat_controller.publisher.probe_file import ProbeText, bound_of
from sprat_controller.publisher.quality import QualityError

_ORIGINAL: Final = ""  # the original among its variants, none of which is called so


def measured(
    original: Original, files: Mapping[str, Path], text: ProbeText, scratch: Path, report: Report
) -> ScoredText:
    """Return the text with its bound, which all variants keep on this machine.

    Args:
        original: What the variants were made from. One that is quantized measures nothing: the
            bound must have been said.
        files: The variants by name.
        text: With a bound, or the margin on the original's perplexity.
        scratch: Room meanwhile.
        report: Told what is being done.

    Raises:
        QualityError: There is nothing to measure with, or a variant would fail its own probe.
        EvaluateError: The text is too short, or llama.cpp failed.
    """
    if original.is_quantized:
        if not text.bound_milli:
            raise QualityError(
                "expected an F16, BF16 or F32 model to measure the probe's perplexity with, found a"
                " quantized one: push the original, or say max_perplexity"
            )
        return ScoredText(text.text, text.bound_milli, text.tokens)
    scores = evaluate(
        original.path,
        {_ORIGINAL: original.path, **files},
        text.text,
        scratch=scratch,
        report=report,
        limit=text.tokens,
        rates=False,
    )
    found = {one.variant: one.perplexity for one in scores}
    own = found.pop(_ORIGINAL)
    bound = text.bound_milli or bound_of(own, text.margin_percent)
    if bound > MAX_PERPLEXITY_MILLI:
        raise QualityError(
            f"check probe: the original's own perplexity of the probe's text is {own:.3g}, as of a"
            " model that was never trained: give a text that it knows, or no text"
        )
    worse = [name for name, value in found.items() if value * 1000 > bound]
    if worse:
        told = "; ".join(f"{name} has {found[name]:.3f}" for name in worse)
        raise QualityError(
            f"check probe: the perplexity of its text may be {bound / 1000:.3f}, and {told}: leave"
            " these variants out, or allow more"
        )
    return ScoredText(text.text, bound, text.tokens)
