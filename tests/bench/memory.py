"""How well the rule of fit tells what a model takes, over shapes, quantizations, contexts, slots.

Each worker runs in a control group that may have what was declared for it and not a page more,
where this machine lets us make one: "fits" is a promise.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import median
from typing import Final

import bootstrap
import load
import serve_model
import shapes
from figure import Figure
from shapes import Shape
from simulators import cgroups
from sprat_agent.runtime.process import WORKER_COMMAND
from sprat_agent.runtime.supervisor import Supervisor
from sprat_agent.runtime.wire import Request, Sampling, Text
from sprat_agent.sync.ports import Loadable
from sprat_proto import fit

WORST: Final = 0.10
MEDIAN: Final = 0.05
SHAPES: Final = (
    shapes.SMOLLM2_135M,
    shapes.GEMMA3_270M,
    shapes.PHI_LIKE,
    shapes.QWEN3_06B,
    shapes.GEMMA3_1B,
    shapes.TINYLLAMA,
)
# Quantization, tokens of context, slots.
FORMS: Final = (
    ("F16", 512, 1),
    ("Q4_0", 512, 1),
    ("Q4_0", 2048, 4),
    ("Q8_0", 2048, 1),
    ("Q8_0", 4096, 2),
    ("Q4_K_M", 4096, 8),
)
SCHEMA: Final = {"type": "object", "properties": {"name": {"type": "string"}}}


@dataclass(frozen=True)
class _Cell:
    """What one worker took, in bytes."""

    declared: int
    peak: int
    kills: int  # by the kernel, for memory
    is_limited: bool

    @property
    def error(self) -> float:
        """By how much more was declared than taken, as a share."""
        return self.declared / self.peak - 1


def figures() -> Iterator[Figure]:
    """Yield the error of each cell, the median, the worst that was too low, and the kills."""
    folder = bootstrap.wheel_cache().parents[1] / "bench"
    cells: list[_Cell] = []
    for shape, (quantization, context, slots) in product(SHAPES, FORMS):
        cells.append(_cell(folder, shape, quantization, context, slots))
        yield _figure(f"{shape.name} {quantization} {context}x{slots}", cells[-1])
    yield Figure(
        "memory_estimate_median_error",
        median(abs(cell.error) for cell in cells),
        "ratio",
        MEDIAN,
        detail={"cells": len(cells)},
    )
    lowest = min(cell.error for cell in cells)
    yield Figure("memory_declared_too_low", max(0.0, -lowest), "ratio", 0.0)
    limited = sum(cell.is_limited for cell in cells)
    kills = sum(cell.kills for cell in cells)
    yield Figure("memory_kills_within_limit", kills, "kills", 0, detail={"limited": limited})


def _figure(name: str, cell: _Cell) -> Figure:
    return Figure(
        f"memory_estimate_error {name}",
        abs(cell.error),
        "ratio",
        WORST,
        detail={
            "declared_mib": round(cell.declared / fit.MIB),
            "measured_mib": round(cell.peak / fit.MIB),
        },
    )


def _cell(folder: Path, shape: Shape, quantization: str, context: int, slots: int) -> _Cell:
    path = shapes.write(folder, quantization, shape)
    loadable = serve_model.loadable(path, slots, context)
    candidate = fit.Candidate("bench", "", "", (), 0, loadable.facts)
    declared = fit.need(candidate, context, slots).memory
    with _limited(declared) as (group, command):
        peak = asyncio.run(_peak(loadable, declared, command))
        kills = group.kills() if group else 0
    return _Cell(declared, peak, kills, is_limited=group is not None)


@contextmanager
def _limited(size_bytes: int) -> Generator[tuple[cgroups.Group | None, tuple[str, ...]]]:
    """Yield a control group with this limit, and the command of a worker in it."""
    parent = cgroups.parent()
    if parent is None:
        yield None, WORKER_COMMAND
        return
    with cgroups.made(parent) as group:
        group.limit(size_bytes)
        yield group, ("sh", "-c", f'{group.joining}; exec "$@"', "sh", *WORKER_COMMAND)


async def _peak(loadable: Loadable, budget: int, command: tuple[str, ...]) -> int:
    """Return the most that the worker had in memory, in bytes, where nothing is to spare.

    One answer is held to a schema, and one context filled; llama.cpp clears, and so touches, those
    of the other slots as well.
    """
    with tempfile.TemporaryDirectory(prefix="sprat-bench-") as folder:
        supervisor = Supervisor(
            *(budget, Path(folder), serve_model.nobody),
            crashes=serve_model.NoCrashes(),
            command=command,
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
        return peak


def _high_water_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    (found,) = (line for line in lines if line.startswith("VmHWM:"))
    return int(found.split()[1]) * 1024
