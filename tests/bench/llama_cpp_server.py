"""llama-cpp-python's own server: the same library, one request at a time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

import bootstrap

_PEERS: Final = bootstrap.REQUIREMENTS / "peers.txt"


def packages() -> Path:
    """Return the folder of what it needs beside Sprat's own packages, installed where missing."""
    folder = bootstrap.wheel_cache().parents[1] / "bench" / "peers"
    stamp = bootstrap.Stamp(folder / ".stamp", _PEERS)
    if not stamp.is_current():
        bootstrap.say("installing what llama_cpp.server needs")
        pip = [bootstrap.ensure_uv(), "pip", "install", "--quiet", "--python", sys.executable]
        locked = ["--no-deps", "--require-hashes", "-r", _PEERS]
        subprocess.run([*pip, *locked, "--target", folder], check=True)
        stamp.set()
    return folder


def command(model: Path, port: int, context: int, threads: int) -> list[str]:
    """Return what serves the model."""
    return [
        *(sys.executable, "-m", "llama_cpp.server"),
        *("--model", str(model), "--host", "127.0.0.1", "--port", str(port)),
        *("--n_ctx", str(context), "--n_threads", str(threads)),
        *("--n_threads_batch", str(threads), "--interrupt_requests", "False"),
    ]
