"""The demo's speaking model, small, for tests that need a real GGUF."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

_SOURCE = Path(__file__).resolve().parents[2] / "deploy" / "demo" / "model.py"


def _load() -> ModuleType:
    """Load the script under a name of its own: `model` alone is anybody's."""
    name = "sprat_demo_model"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, _SOURCE)
    if spec is None or spec.loader is None:
        raise RuntimeError(f"expected a Python module at {_SOURCE}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def make(
    path: Path,
    sentence: str | None = None,
    *,
    small: bool = True,
    babble: bool = False,
    seed: int = 0,
) -> Path:
    """Write a model that answers `sentence` (2 MB if small, else 80 MB) and return its path."""
    module = _load()
    shape = module.SMALL if small else module.Shape()
    write = module.make_babbling_model if babble else module.make_model
    sizes: dict[str, Any] = {
        "hidden": shape.hidden,
        "layers": shape.layers,
        "ffn": shape.ffn,
    }
    write(path, sentence or module.SENTENCE, seed, **sizes)
    return path


def make_large(path: Path) -> Path:
    """Write a model shaped like a 0.6 B one (1.3 GB in F16), for the benchmarks."""
    _load().make_large_model(path)
    return path


def default_sentence() -> str:
    """Return what the model says unless told otherwise."""
    return str(_load().SENTENCE)


def split(sentence: str) -> list[str]:
    """Return the chunks that a sentence is spoken in, one token each."""
    return list(_load().split(sentence))
