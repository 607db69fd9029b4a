"""The child: `python -m sprat_agent.measuring.child PARENT THREADS MODEL_BYTES QUOTA BUDGET_S`.

Writes what it found to its standard output, as JSON. It dies with the agent, and enters the jail of
a worker before it loads anything. Its models are files in memory: nothing is written to a disk.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Final

import msgspec
from sprat_proto.fit import MIB

from sprat_agent.runtime.wire import Load
from sprat_agent.worker.jail.enter import enter
from sprat_agent.worker.serve import MACHINE, confine

_CONTEXT: Final = 1024  # tokens
# Of address space: what llama.cpp and its threads map beside a model, twice, and its copy.
_BESIDE_BYTES: Final = 1024 * MIB
_THREAD_BYTES: Final = 136 * MIB
_CACHES: Final = "sys/devices/system/cpu/cpu0/cache/index*/size"
_UNITS: Final = {"K": 1 << 10, "M": 1 << 20}
_MS: Final = 1000


def main(arguments: Sequence[str]) -> None:
    """Measure, and say what was found."""
    parent, threads, model_bytes, quota_milli, budget_s = (int(word) for word in arguments)
    confine(parent)
    # numpy's threads would be there before the jail, and nothing here computes with numpy's BLAS.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    # Here: this process ties its life to the agent's before it spends time on these imports.
    from sprat_agent.measuring import costs  # noqa: PLC0415
    from sprat_agent.measuring.model_file import Shape, write  # noqa: PLC0415
    from sprat_agent.worker.llama import LlamaBackend  # noqa: PLC0415

    enter(
        readable=[*(Path(entry) for entry in sys.path if entry), *map(Path, MACHINE)],
        memory_bytes=3 * model_bytes + threads * _THREAD_BYTES + _BESIDE_BYTES,
        written_bytes=2 * model_bytes + MIB,
    )

    def open_model(kind: str, shape: Shape) -> LlamaBackend:
        with os.fdopen(os.memfd_create("model"), "wb") as file:
            write(file, kind, shape)
            file.flush()
            backend = LlamaBackend()
            backend.load(Load(f"/proc/self/fd/{file.fileno()}", _CONTEXT, threads, ""))
            return backend

    terms = costs.Terms(
        engine=f"llama-cpp-python {version('llama-cpp-python')}",
        threads=threads,
        model_bytes=model_bytes,
        cache_bytes=cache_bytes(),
        budget_s=budget_s,
    )
    bench = costs.Bench(open_model, clock(threads, quota_milli), costs.filler(terms.filling_bytes))
    found = costs.measure(terms, bench, time.time_ns() // (_MS * _MS))
    sys.stdout.buffer.write(msgspec.json.encode(found))
    sys.stdout.flush()
    os._exit(0)  # without the interpreter's and the C library's clean-up


def clock(threads: int, quota_milli: int) -> Callable[[], float]:
    """Return the time of this thread in seconds, with that in which a quota stops it.

    Args:
        threads: That are busy at once.
        quota_milli: Thousandths of a processor that they have in all; 0: no limit.
    """
    stretch = max(1.0, threads * _MS / quota_milli) if quota_milli else 1.0
    return lambda: time.thread_time() * stretch


def cache_bytes(root: Path = Path("/")) -> int:
    """Return the size of the greatest cache of the first processor; 0 where it is not told."""
    sizes = [_size(path) for path in root.glob(_CACHES)]
    return max(sizes, default=0)


def _size(path: Path) -> int:
    try:
        text = path.read_text(encoding="ascii").strip()
    except OSError:
        return 0
    number, unit = text[:-1], _UNITS.get(text[-1:], 0)
    return int(number) * unit if number.isdecimal() else 0


if __name__ == "__main__":
    main(sys.argv[1:])
