"""Make `reference.json` anew: what llama.cpp's own converter makes of the tiny folders.

It needs an environment of its own, which `make` does not set up:

    python -m venv oracle
    oracle/bin/pip install torch==2.13.0
    oracle/bin/pip install transformers==4.57.6 sentencepiece protobuf accelerate
    pip download --no-binary :all: --no-deps llama-cpp-python==0.3.36   # and unpack it
    export SPRAT_REFERENCE_PYTHON=$PWD/oracle/bin/python
    export SPRAT_REFERENCE_LLAMA_CPP=$PWD/llama_cpp_python-0.3.36/vendor/llama.cpp
    PYTHONPATH=tests .venv/bin/python tests/controller/publisher/convert/oracle.py

The same variables let `make test-full` run the converter again and compare with its new output.
Which differences are left, and why, is the table `DIFFERENCES` in `test_reference.py`.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Final

from simulators import hf_models, reference_converter
from simulators.reference_converter import Job, Result

GOLDEN: Final = Path(__file__).with_name("reference.json")


def ask(folder: Path) -> dict[str, Result]:
    """Make all folders in `folder` and return what the reference makes of each."""
    jobs = [
        Job(
            hf_models.write(folder / kind, kind),
            folder / f"{kind}.gguf",
            hf_models.KINDS[kind]().pre,
        )
        for kind in hf_models.KINDS
    ]
    return dict(zip(hf_models.KINDS, reference_converter.run(jobs), strict=True))


def main() -> None:
    """Write the golden file: one line for each key, so that changes can be read."""
    with tempfile.TemporaryDirectory() as folder:
        results = ask(Path(folder))
    kinds: list[str] = []
    for kind, result in results.items():
        # An error of the reference tells where the folder was.
        lines = [
            f"  {json.dumps(key)}: {json.dumps(value)}"
            for key, value in (
                ("is_converted", not result.error),
                ("ids", result.ids),
                ("logits", result.logits),
                *sorted(result.digest.items()),
            )
        ]
        kinds.append(f" {json.dumps(kind)}: {{\n" + ",\n".join(lines) + "\n }")
    GOLDEN.write_text("{\n" + ",\n".join(kinds) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
