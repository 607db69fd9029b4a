"""How well the rule of fit tells what a model takes, over shapes, quantizations and contexts."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Final

import bootstrap
import load
import serve_model
import shapes
from figure import Figure
from shapes import QWEN3_06B, Shape
from sprat_agent.runtime.supervisor import Supervisor
from sprat_agent.runtime.wire import Request, Sampling, Text
from sprat_agent.sync.ports import Loadable
from sprat_proto import fit

BOUND: Final = 0.10
SMALL: Final = Shape("small", 12, 512, 1536, 8, 4, 64, 32_000)
MIDDLE: Final = Shape("middle", 20, 1024, 2816, 16, 16, 64, 65_024)
SHAPES: Final = (SMALL, MIDDLE, QWEN3_06B)
QUANTIZATIONS: Final = ("Q4_0", "Q8_0")
CONTEXTS: Final = (512, 2048, 4096)
SCHEMA: Final = {"type": "object", "properties": {"name": {"type": "string"}}}


def figures() -> Iterator[Figure]:
    """Yield the error of each cell, then by how much the worst one was declared too low."""
    folder = bootstrap.wheel_cache().parents[1] / "bench"
    errors: list[float] = []
    for shape, quantization, context in product(SHAPES, QUANTIZATIONS, CONTEXTS):
        path = shapes.write(folder, quantization, shape)
        declared, peak = asyncio.run(_measure(serve_model.loadable(path, 1, context)))
        errors.append(declared / peak - 1)
        yield Figure(
            f"memory_estimate_error {shape.name} {quantization} {context}",
            abs(errors[-1]),
            "ratio",
            BOUND,
            detail={
                "declared_mib": round(declared / fit.MIB),
                "measured_mib": round(peak / fit.MIB),
            },
        )
    yield Figure("memory_declared_too_low", max(0.0, -min(errors)), "ratio", 0.0)


async def _measure(loadable: Loadable) -> tuple[int, int]:
    """Return what the supervisor spoke for, all slots together, and the most that the worker had.

    One answer is held to a schema, and one context filled; llama.cpp clears, and so touches, those
    of the other slots as well.
    """
    with tempfile.TemporaryDirectory(prefix="sprat-bench-") as folder:
        supervisor = Supervisor(
            1 << 40, Path(folder), serve_model.nobody, crashes=serve_model.NoCrashes()
        )
        await supervisor.load_committed(loadable)
        (text,) = load.prompts(1, loadable.context - 16, 0, seed=1)
        whole = Request(Text(text), Sampling(temperature=0))
        # The first of these has the vocabulary read.
        held = Request(Text("x"), Sampling(temperature=0), max_tokens=8, schema=SCHEMA)
        for request in (held, whole):
            async with supervisor.answering(serve_model.ALIAS, request) as answer:
                async for _ in answer:
                    pass
        (status,) = supervisor.statuses()
        peak = _high_water_bytes(status.worker_pid or 0)
        await supervisor.close()
        return status.memory_bytes, peak


def _high_water_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    (found,) = (line for line in lines if line.startswith("VmHWM:"))
    return int(found.split()[1]) * 1024
