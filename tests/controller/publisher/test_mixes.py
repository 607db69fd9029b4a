"""What is computed beforehand is what llama.cpp makes, byte for byte."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench import shapes
from bench.shapes import Shape
from sprat_controller.publisher import mixes
from sprat_proto import gguf

# The widths force what real shapes do: 320 is no multiple of 256, 272 not even of 32.
TINY = (
    Shape("qwen3-tiny", 9, 256, 512, 4, 2, 64, 1024),
    Shape("gemma3-tiny", 7, 320, 512, 4, 1, 64, 1024, "gemma3", 4096, window=512),
    Shape("phi-tiny", 8, 256, 768, 4, 2, 64, 1024, "phi3", 4096),
    Shape("llama-tiny", 5, 256, 272, 4, 2, 64, 1024, "llama", 4096, is_tied=False),
)
GB = 10**9


def computed(shape: Shape, variant: str) -> dict[str, int]:
    rows_last = [(name, tuple(reversed(dims))) for name, dims in shape.tensors()]
    return mixes.tensor_bytes(rows_last, variant)


@pytest.mark.parametrize("shape", TINY, ids=lambda shape: shape.name)
def test_each_type_takes_as_many_bytes_as_in_the_file_that_llama_cpp_makes(
    shape: Shape, tmp_path: Path
) -> None:
    for variant in mixes.BASES:
        path = shapes.write(tmp_path, variant.upper(), shape)
        assert gguf.facts(path, variant).tensor_bytes == computed(shape, variant), variant


def test_sizes_of_real_models_are_told_without_building_them() -> None:
    """docs/benchmarks.md has the table, and why published figures differ."""
    names = ("qwen3-0.6b", "gemma3-270m", "gemma3-1b", "gemma3-4b", "phi-4-mini")
    sizes = {
        name: {
            variant: round(sum(computed(shapes.SHAPES[name], variant).values()) / GB, 3)
            for variant in ("f16", "q8_0", "q4_0")
        }
        for name in names
    }
    assert sizes == {
        "qwen3-0.6b": {"f16": 1.192, "q8_0": 0.633, "q4_0": 0.376},
        "gemma3-270m": {"f16": 0.536, "q8_0": 0.285, "q4_0": 0.235},
        "gemma3-1b": {"f16": 2.0, "q8_0": 1.063, "q4_0": 0.714},
        "gemma3-4b": {"f16": 7.761, "q8_0": 4.124, "q4_0": 2.357},
        "phi-4-mini": {"f16": 7.672, "q8_0": 4.076, "q4_0": 2.317},
    }
