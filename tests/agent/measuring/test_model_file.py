"""The files are models to llama.cpp, and as large as they are meant to be."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
from sprat_agent.measuring.model_file import KINDS, Shape, bytes_of, write
from sprat_agent.runtime.wire import Load
from sprat_agent.worker.batching.batch import Run
from sprat_agent.worker.llama import LlamaBackend

SHAPE = Shape(2, 256, 512, 4, 2, 64)


@pytest.mark.parametrize("kind", KINDS)
def test_llama_cpp_computes_with_each_type(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "model.gguf"
    with path.open("wb") as file:
        write(file, kind, SHAPE)
    matrices = [
        tensor for tensor in gguf.GGUFReader(path).tensors if tensor.name.startswith("blk.")
    ]
    sizes = [int(one.n_bytes) for one in matrices if one.tensor_type.name == kind]
    assert sum(sizes) == bytes_of(kind, SHAPE.layers * SHAPE.layer_weights)
    backend = LlamaBackend()
    backend.load(Load(str(path), 64, 1, ""))
    backend.decode([Run(0, 0, [1, 2, 3, 4], 1)])
    backend.decode([Run(0, 4, [5], 1)])
    assert bool(np.isfinite(backend.row(0)).all())
    backend.close()
