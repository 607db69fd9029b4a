"""Whether what a release's manifests say of quality agrees with itself. Pure.

That it was measured honestly is the publisher's word; a slip between the measuring and the signing
is found here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final

from sprat_proto.manifest import Evaluation, Manifest

_ALL: Final = 1_000_000  # parts of a million
_NANO: Final = 1e-9
_MOST: Final = 700.0  # nats; e to more is too large for a number
_HIGHEST: Final = 1 << 40  # a count of a manifest; larger losses are cut to it


def faults(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Yield what is wrong, a sentence each; that nobody measured anything is not wrong."""
    judged = [(one, one.evaluation) for one in manifests if one.evaluation is not None]
    for manifest, evaluation in judged:
        yield from _faults_of_one(manifest, evaluation)
        first_manifest, first = judged[0]
        for name in ("reference", "text_sha256", "tokens"):
            expected, found = getattr(first, name), getattr(evaluation, name)
            if expected != found:
                yield (
                    f"expected {manifest.name} to be evaluated with the {name} of"
                    f" {first_manifest.variant}, {expected}, found {found}: only what was"
                    " measured alike can be compared"
                )


def _faults_of_one(manifest: Manifest, evaluation: Evaluation) -> Iterator[str]:
    name = manifest.name
    if evaluation.tokens == 0:
        yield f"expected the evaluation of {name} to have scored tokens, found none"
    loss = min(math.expm1(min(evaluation.kl_nano * _NANO, _MOST)) * _ALL, _HIGHEST)
    # A unit for the loss's own rounding, the rest for the divergence's half a billionth.
    slack = 1 + (loss + _ALL) * _NANO
    if abs(evaluation.loss_ppm - loss) > slack:
        yield (
            f"expected a loss of {round(loss)} millionths for {name}, which is e^KL - 1 of a"
            f" divergence of {evaluation.kl_nano} nano-nats, found {evaluation.loss_ppm}"
        )
    is_reference = evaluation.reference == manifest.variant
    if is_reference and (evaluation.kl_nano or evaluation.same_top_ppm != _ALL):
        yield (
            f"expected {name} to be equal to itself, as the reference of its evaluation, found a"
            f" divergence of {evaluation.kl_nano} nano-nats and"
            f" {evaluation.same_top_ppm} millionths of equal best guesses"
        )
