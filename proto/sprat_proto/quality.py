"""What a quantization left of a model's quality, as far as its manifest tells. Pure."""

from __future__ import annotations

from typing import Final

from sprat_proto.manifest import Evaluation, Facts

# Tensor types that are as the model was trained: a variant of only these lost nothing.
UNQUANTIZED: Final = frozenset({"f16", "bf16", "f32"})


def loss_ppm(facts: Facts, evaluation: Evaluation | None) -> int | None:
    """Return millionths of quality that the quantization lost; None: nobody knows.

    What was not quantized lost nothing, evaluated or not. Any other reference says so in an
    evaluation of its own, since a device sees no sibling that names it.
    """
    if evaluation is not None:
        return evaluation.loss_ppm
    kinds = set(facts.tensor_bytes) or {facts.quantization}
    return 0 if kinds <= UNQUANTIZED else None


def bits_per_weight_milli(facts: Facts) -> int:
    """Return thousandths of a bit that the variant spends on one weight."""
    return facts.weights_bytes * 8000 // max(facts.parameters, 1)
