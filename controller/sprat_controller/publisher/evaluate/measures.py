"""The figures of quality, from logits: plain formulae in double precision.

At a position whose next token is `t`, let `p` be the reference's distribution over the vocabulary
and `q` the variant's. Then the surprise is -ln q(t), perplexity is e to the mean of it, and the
divergence (Kullback and Leibler's, in nats) is the sum over all tokens of p (ln p - ln q).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Logits: TypeAlias = NDArray[np.float32]  # a row a position, a column a token
Tokens: TypeAlias = NDArray[np.int32]


@dataclass
class Sums:
    """What was added up over positions."""

    tokens: int = 0
    surprise: float = 0.0
    divergence: float = 0.0
    same_top: int = 0

    def add(self, logits: Logits, targets: Tokens, reference: Logits | None) -> None:
        """Add positions; without a reference they are the reference's own."""
        for at, target in enumerate(targets):
            row = log_softmax(logits[at])
            self.tokens += 1
            self.surprise -= float(row[target])
            if reference is None:
                self.same_top += 1
                continue
            known = log_softmax(reference[at])
            # Rounding alone makes it negative, where both are equal.
            self.divergence += max(0.0, float(np.exp(known) @ (known - row)))
            self.same_top += int(row.argmax() == known.argmax())

    @property
    def is_finite(self) -> bool:
        """Whether all that was added were numbers."""
        return math.isfinite(self.surprise) and math.isfinite(self.divergence)


def log_softmax(row: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the natural logarithms of the probabilities that logits stand for."""
    shifted = row.astype(np.float64) - float(row.max())
    return shifted - math.log(float(np.exp(shifted).sum()))
