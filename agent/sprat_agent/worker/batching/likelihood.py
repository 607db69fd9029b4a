"""How likely the model thought the tokens that came. Pure."""

from __future__ import annotations

import numpy as np

from sprat_agent.runtime.wire import Alternative, Chosen
from sprat_agent.worker.decoding.decoding import Row
from sprat_agent.worker.vocabulary import Vocabulary


def chosen(vocabulary: Vocabulary, logprobs: Row, token: int, count: int) -> Chosen:
    """Return a token with its `count` likeliest alternatives.

    Args:
        vocabulary: Tells the tokens' bytes; of control tokens their names.
        logprobs: What `log_softmax` returned.
        token: The one that came.
        count: From 0 on.
    """
    first = max(vocabulary.size - count, 0)
    best = np.argpartition(logprobs, min(first, vocabulary.size - 1))[first:]
    ranked = best[np.argsort(-logprobs[best], kind="stable")]
    return Chosen(
        vocabulary.name(token),
        float(logprobs[token]),
        tuple(Alternative(vocabulary.name(int(one)), float(logprobs[one])) for one in ranked),
    )


def log_softmax(row: Row) -> Row:
    """Return the natural logarithms of the probabilities that the logits stand for."""
    shifted = row - row.max()
    return shifted - np.log(np.exp(shifted).sum())
