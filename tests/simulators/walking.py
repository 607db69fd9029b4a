"""A model that knows nothing: it takes any token that the mask leaves."""

from __future__ import annotations

import numpy as np
from sprat_agent.worker.decoding.decoding import Decoding, Part

from simulators.byte_vocabulary import ByteVocabulary

LIMIT = 3000  # tokens; bounded schemas end long before


def walk(decoding: Decoding, vocabulary: ByteVocabulary, seed: int) -> list[Part] | None:
    """Return what an answer of allowed tokens shows; None: it did not end within the limit."""
    logits = np.random.default_rng(seed)
    parts: list[Part] = []
    for _ in range(LIMIT):
        if decoding.is_over:
            return [*parts, decoding.end()]
        row = logits.standard_normal(vocabulary.size, np.float32)
        decoding.mask(row)
        assert row.max() > -np.inf, "nothing may come"
        token = int(row.argmax())
        if vocabulary.is_end(token):
            return [*parts, decoding.end()]
        parts.append(decoding.take(token))
    return None
