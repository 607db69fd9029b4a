"""How well a device's rates are told beforehand: by its micro-benchmark, and by what it measured.

Cells and micro-benchmarks take turns, round after round, so that whatever else the machine does
hits both; each cell is compared with the measurement before it. In a round each few cells run
twice, in one order and back: what the first runs measured stands for a hardware class's observed
rates, and the second ones for the device that is told them.

`python tests/bench/fit_rates.py ROUNDS SHAPE...` runs a part and prints a table.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from statistics import median
from typing import Final

import bootstrap
import shapes
from figure import Figure
from sprat_agent.measuring import occasion, process
from sprat_agent.profile import probe
from sprat_agent.profile.cpu import usable_cores
from sprat_agent.runtime.wire import Load
from sprat_agent.worker.batching.batch import Run
from sprat_agent.worker.llama import STEP_TOKENS, LlamaBackend
from sprat_proto import gguf, rates
from sprat_proto.manifest import Facts
from sprat_proto.rates import MILLI, Measured, Rates

SHAPES: Final = ("smollm2-135m", "gemma3-270m", "phi-like", "qwen3-0.6b")
QUANTIZATIONS: Final = ("F16", "Q8_0", "Q5_1", "Q4_0", "Q4_K_M")
ROUNDS: Final = 6
CELLS_A_MEASUREMENT: Final = 5
PROMPT: Final = 64  # tokens
LONG_PROMPT: Final = 1024  # each cell once: it takes as long as all else of a run
TOKENS: Final = 32
CONTEXT: Final = 1536
MEDIAN_BOUND: Final = 0.15
WORST_BOUND: Final = 0.35
CALIBRATED_BOUND: Final = 0.05
PROMPT_BOUND: Final = 0.25
SECONDS_BOUND: Final = 8.0


@dataclass
class Cell:
    """One model: what was predicted of it, and measured after, round by round."""

    name: str
    path: Path
    facts: Facts
    predicted: list[Rates] = field(default_factory=list[Rates])
    measured: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])
    long_ratio: float = 0.0  # predicted over measured, of a long prompt

    @property
    def ratios(self) -> list[float]:
        """Predicted over measured rates of decoding."""
        pairs = zip(self.predicted, self.measured, strict=True)
        return [told.decode_milli_tps / MILLI / decode for told, (decode, _) in pairs]

    @property
    def prompt_ratios(self) -> list[float]:
        """Predicted over measured rates of prompts."""
        pairs = zip(self.predicted, self.measured, strict=True)
        return [told.prefill_milli_tps / MILLI / prefill for told, (_, prefill) in pairs]

    @property
    def error(self) -> float:
        """By how much more was predicted than measured, as a share."""
        return median(self.ratios) - 1

    @property
    def calibrated_error(self) -> float:
        """The same of what the first runs of all rounds observed, against the second ones."""
        decode = [one for one, _ in self.measured]
        return median(decode[0::2]) / median(decode[1::2]) - 1


def figures(
    rounds: int = ROUNDS, names: Sequence[str] = SHAPES, kinds: Sequence[str] = QUANTIZATIONS
) -> Iterator[Figure]:
    """Yield the error of each cell, then those of all, before and after calibration."""
    cells = [_cell(name, kind) for name, kind in product(names, kinds)]
    seconds: list[float] = []
    starts = range(0, len(cells), CELLS_A_MEASUREMENT)
    for _, start in product(range(rounds), starts):
        began = time.monotonic()
        found = measure()
        seconds.append(time.monotonic() - began)
        few = cells[start : start + CELLS_A_MEASUREMENT]
        for cell in [*few, *reversed(few)]:
            cell.predicted.append(rates.predict(cell.facts, found, PROMPT + TOKENS // 2))
            cell.measured.append(run(cell.path))
            if not cell.long_ratio:
                told = rates.predict(cell.facts, found, LONG_PROMPT).prefill_milli_tps
                cell.long_ratio = told / MILLI / run_long(cell.path)
    for cell in cells:
        yield _figure(cell)
    yield from _summary(cells)
    yield Figure("measuring_seconds", median(seconds), "s", SECONDS_BOUND, detail=_runs(seconds))


def measure() -> Measured:
    """Measure this machine as an agent does."""
    size = occasion.model_bytes(probe.memory_available(), occasion.MOST_BYTES)
    with tempfile.TemporaryDirectory(prefix="sprat-bench-") as folder:
        return asyncio.run(process.measure(process.Terms(usable_cores(), size), Path(folder)))


def run(path: Path) -> tuple[float, float]:
    """Return tokens a second of an answer and of its prompt, with the engine as it is served."""
    backend = LlamaBackend()
    backend.load(Load(str(path), CONTEXT, usable_cores(), ""))
    prompt = Run(0, 0, [token % 200 for token in range(PROMPT)], 1)
    backend.decode([prompt])  # it pays for its pages
    backend.keep(0, 0)
    began = time.perf_counter()
    backend.decode([prompt])
    prompt_s = time.perf_counter() - began
    times: list[float] = []
    for at in range(PROMPT, PROMPT + TOKENS):
        began = time.perf_counter()
        backend.decode([Run(0, at, [at % 200], 1)])
        int(backend.row(0).argmax())
        times.append(time.perf_counter() - began)
    backend.close()
    return 1 / median(times), PROMPT / prompt_s


def run_long(path: Path) -> float:
    """Return tokens a second of a long prompt."""
    backend = LlamaBackend()
    backend.load(Load(str(path), CONTEXT, usable_cores(), ""))
    tokens = [token % 200 for token in range(LONG_PROMPT)]
    starts = range(0, LONG_PROMPT, STEP_TOKENS)
    backend.decode([Run(0, 0, tokens[:PROMPT], 1)])
    backend.keep(0, 0)
    began = time.perf_counter()
    for at in starts:
        part = tokens[at : at + STEP_TOKENS]
        backend.decode([Run(0, at, part, int(at == starts[-1]))])
    took_s = time.perf_counter() - began
    backend.close()
    return LONG_PROMPT / took_s


def _cell(name: str, kind: str) -> Cell:
    folder = bootstrap.wheel_cache().parents[1] / "bench"
    path = shapes.write(folder, kind, shapes.SHAPES[name])
    return Cell(f"{name} {kind}", path, gguf.facts(path, kind.lower()))


def _figure(cell: Cell) -> Figure:
    return Figure(
        f"decode_rate_error {cell.name}",
        abs(cell.error),
        "ratio",
        WORST_BOUND,
        detail={
            "predicted_tps": round(
                median(one.decode_milli_tps for one in cell.predicted) / MILLI, 1
            ),
            "measured_tps": round(median(one for one, _ in cell.measured), 1),
            "calibrated_error": round(cell.calibrated_error, 3),
            "prompt_error": round(median(cell.prompt_ratios) - 1, 3),
            "long_prompt_error": round(cell.long_ratio - 1, 3),
            "predicted_over_measured": [round(ratio, 3) for ratio in cell.ratios],
        },
    )


def _summary(cells: Sequence[Cell]) -> Iterator[Figure]:
    errors = [abs(cell.error) for cell in cells]
    calibrated = [abs(cell.calibrated_error) for cell in cells]
    prompts = [abs(median(cell.prompt_ratios) - 1) for cell in cells]
    long = [abs(cell.long_ratio - 1) for cell in cells]
    count: dict[str, object] = {"cells": len(cells)}
    yield Figure("decode_rate_median_error", median(errors), "ratio", MEDIAN_BOUND, detail=count)
    yield Figure("decode_rate_worst_error", max(errors), "ratio", WORST_BOUND)
    worst: dict[str, object] = {"worst": round(max(calibrated), 3)}
    yield Figure(
        "calibrated_rate_median_error", median(calibrated), "ratio", CALIBRATED_BOUND, detail=worst
    )
    for name, found in (("prompt", prompts), ("long_prompt", long)):
        worst = {"worst": round(max(found), 3)}
        yield Figure(
            f"{name}_rate_median_error", median(found), "ratio", PROMPT_BOUND, detail=worst
        )


def _runs(values: Sequence[float]) -> dict[str, object]:
    return {"runs": [round(value, 2) for value in values]}


def _main(arguments: Sequence[str]) -> None:
    print(
        f"{'cell':28} {'told':>8} {'measured':>8} {'error':>7} {'told by class':>13} {'prompt':>7}"
        f" {'long':>7}"
    )
    for one in figures(int(arguments[0]), arguments[1:] or SHAPES):
        name, detail = one.name.removeprefix("decode_rate_error "), one.detail
        if name == one.name:
            print(f"{name:28} {one.value:.3f} (bound {one.bound}) {detail}")
            continue
        print(
            f"{name:28} {detail['predicted_tps']:>8} {detail['measured_tps']:>8} {one.value:>7.1%}"
            f" {detail['calibrated_error']:>13.1%} {detail['prompt_error']:>7.1%}"
            f" {detail['long_prompt_error']:>7.1%}"
        )


if __name__ == "__main__":
    _main(sys.argv[1:])
