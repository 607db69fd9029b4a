"""llama.cpp's own converter, run in an environment of its own; and what a GGUF holds, as digests.

The environment is named by two variables, and is not set up by `make`: it needs torch, which the
product does not (`tests/controller/publisher/convert/oracle.py` says how to make one).
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
from gguf import GGUFReader, GGUFValueType, ReaderTensor

PYTHON: Final = "SPRAT_REFERENCE_PYTHON"  # with torch, transformers, sentencepiece
LLAMA_CPP: Final = "SPRAT_REFERENCE_LLAMA_CPP"  # its sources, of the version of llama-cpp-python
_SCRIPT: Final = (
    Path(__file__).resolve().parents[1] / "controller" / "publisher" / "convert" / "reference.py"
)
_SHORT: Final = 16  # longer arrays are kept as their digest

TEXTS: Final = (
    "Hello world",
    "the model answers the question and the answer is 12345 or 1234567",
    "  two  spaces\n\nand lines\t tabs   ",
    "it's I'VE we're they'll HELLO helloWorld",
    "über straße naïve 世界 🚀 mixed",
    " the there then these (12) 3.14!",
)

PROMPT: Final = tuple((5 + 37 * at) % 400 for at in range(48))

# Keys of metadata with their types and values; tensors with type, dimensions and content.
Digest: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True)
class Job:
    """One folder to convert; `pre` is what the converter is told instead of recognizing it."""

    folder: Path
    target: Path
    pre: str


@dataclass(frozen=True)
class Result:
    """What came of a job: an error, or nothing; token ids of `TEXTS`; what follows `PROMPT`."""

    error: str
    ids: list[list[int]]
    logits: list[float]
    digest: Digest = field(default_factory=dict[str, Any])


def is_there() -> bool:
    """Say whether an environment is named."""
    return PYTHON in os.environ and LLAMA_CPP in os.environ


def run(jobs: Sequence[Job]) -> list[Result]:
    """Convert folders with llama.cpp's converter."""
    listed = [
        {
            "folder": str(job.folder),
            "target": str(job.target),
            "pre": job.pre,
            "texts": list(TEXTS),
            "prompt": list(PROMPT),
        }
        for job in jobs
    ]
    command = [os.environ[PYTHON], str(_SCRIPT), os.environ[LLAMA_CPP], json.dumps(listed)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the reference converter failed: {done.stderr[-2000:]}")
    return [
        Result(**one, digest={} if one["error"] else digest(job.target))
        for job, one in zip(jobs, json.loads(done.stdout), strict=True)
    ]


def digest(path: Path) -> Digest:
    """Return the metadata and the tensors of a GGUF; what is long as its SHA-256."""
    reader = GGUFReader(path)
    digests: dict[str, Any] = {}
    for name, one in reader.fields.items():
        if not name.startswith("GGUF."):
            kinds = " of ".join(GGUFValueType(kind).name for kind in one.types[:2])
            digests[name] = [kinds, _short(one.contents())]
    for one in reader.tensors:
        kind = f"{one.tensor_type.name} {'x'.join(str(size) for size in one.shape)}"
        digests[one.name] = [kind, _content(one)]
    return digests


def _short(value: Any) -> Any:
    text = json.dumps(value)
    if not isinstance(value, list) or text.count(",") < _SHORT:
        return json.loads(text)
    return hashlib.sha256(text.encode()).hexdigest()


def _content(tensor: ReaderTensor) -> Any:
    """Return small computed tensors as they are: they may differ in the last digit."""
    if tensor.name.startswith("rope_"):
        return tensor.data.tolist()
    return hashlib.sha256(np.ascontiguousarray(tensor.data).tobytes()).hexdigest()
