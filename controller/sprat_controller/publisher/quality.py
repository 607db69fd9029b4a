"""Which variants are good enough to be published. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from sprat_controller.publisher.evaluate.evaluate import Scores
from sprat_controller.publisher.evaluate.table import percent


class QualityError(Exception):
    """Variants lose more than they may; one sentence for each."""


def good_enough(
    scores: Sequence[Scores], most_ppm: int | None, *, drop_worse: bool
) -> tuple[list[str], list[Scores]]:
    """Return the names of the variants that may be published, and those that are left out.

    Args:
        scores: Of all variants.
        most_ppm: The highest loss that is allowed, millionths; None allows any.
        drop_worse: Leave out what loses more, instead of refusing all.

    Raises:
        QualityError: A variant loses more and none is dropped, or all of them lose more.
    """
    if most_ppm is None:
        return [one.variant for one in scores], []
    worse = [one for one in scores if round(one.loss * 1e6) > most_ppm]
    kept = [one.variant for one in scores if one not in worse]
    if worse and (not drop_worse or not kept):
        limit = percent(most_ppm / 1e6)
        told = "; ".join(
            f"{one.variant} loses {percent(one.loss)}, and at most {limit} is allowed"
            for one in worse
        )
        advice = "no variant is left" if drop_worse else "leave them out with --drop-worse"
        raise QualityError(f"check quality: {told}: {advice}, or allow more")
    return kept, worse
