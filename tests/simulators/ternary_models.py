"""Models whose blocks' weights are ternary, as BitNet's are."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

from simulators import models

SCALE = np.float32(0.0625)


def write(path: Path, *, width: int = 256, seed: int = 0) -> Path:
    """Write a model whose blocks have weights of -s, 0 and s only, `s` another in each matrix."""
    models.write_model(path, models.Shape(width=width, seed=seed))
    for number, tensor in enumerate(matrices(path)):
        scale = SCALE * (number % 3 + 1)
        tensor.data[:] = np.sign(np.round(tensor.data * 10)) * scale
    return path


def spoil(path: Path, name: str, weight: float) -> None:
    """Change the last weight of a tensor."""
    tensor = next(one for one in matrices(path) if one.name == name)
    tensor.data[-1, -1] = weight


def matrices(path: Path) -> list[gguf.ReaderTensor]:
    """Return the blocks' matrices, whose data can be written."""
    reader = gguf.GGUFReader(path, "r+")
    return [one for one in reader.tensors if one.name.startswith("blk.") and one.data.ndim > 1]
