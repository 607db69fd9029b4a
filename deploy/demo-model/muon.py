"""Muon: momentum whose steps are made orthogonal (Jordan et al., 2024), in single precision.

torch has one, which computes in bfloat16; processors without instructions for that take thirty
times as long with it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import torch
from torch import Tensor, nn

_COEFFICIENTS: Final = (3.4445, -4.7750, 2.0315)  # of the quintic iteration
_ROUNDS: Final = 5
_LIKE_ADAM: Final = 0.2  # root mean square of a step, as AdamW's are (Liu et al., 2025)


class Muon(torch.optim.Optimizer):
    """For matrices within the network; not for embeddings."""

    def __init__(
        self, matrices: Iterable[nn.Parameter], lr: float, decay: float, momentum: float = 0.95
    ) -> None:
        super().__init__(list(matrices), {"lr": lr, "decay": decay, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:
        """Take one."""
        for group in self.param_groups:
            for matrix in group["params"]:
                state = self.state[matrix]
                if not state:
                    state["momentum"] = torch.zeros_like(matrix)
                memory = state["momentum"]
                memory.lerp_(matrix.grad, 1 - group["momentum"])
                update = _orthogonal(matrix.grad.lerp(memory, group["momentum"]))
                size = _LIKE_ADAM * max(matrix.shape) ** 0.5
                matrix.mul_(1 - group["lr"] * group["decay"])
                matrix.add_(update, alpha=-group["lr"] * size)


def _orthogonal(matrix: Tensor) -> Tensor:
    """Return about the nearest matrix whose rows, or columns, are orthonormal."""
    a, b, c = _COEFFICIENTS
    is_tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if is_tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(_ROUNDS):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x.T if is_tall else x
