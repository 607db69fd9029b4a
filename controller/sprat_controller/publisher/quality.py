"""Which variants are good enough to be published. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from sprat_proto.amounts import percent


class QualityError(Exception):
    """Variants lose more than they may; one sentence for each."""


def good_enough(
    losses: Mapping[str, int], most: int | None, *, drop_worse: bool
) -> tuple[list[str], list[str]]:
    """Return the variants that may be published, and those that are left out, in their order.

    Args:
        losses: What each variant lost, millionths.
        most: The highest loss that is allowed, millionths; None allows any.
        drop_worse: Leave out what loses more, instead of refusing all.

    Raises:
        QualityError: A variant loses more and none is dropped, or all of them lose more.
    """
    worse = [name for name, loss in losses.items() if most is not None and loss > most]
    kept = [name for name in losses if name not in worse]
    if most is not None and worse and (not drop_worse or not kept):
        limit = percent(most)
        told = "; ".join(
            f"{name} loses {percent(losses[name])}, and at most {limit} is allowed"
            for name in worse
        )
        advice = "no variant is left" if drop_worse else "leave them out with --drop-worse"
        raise QualityError(f"check quality: {told}: {advice}, or allow more")
    return kept, worse
