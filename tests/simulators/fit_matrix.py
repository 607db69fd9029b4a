"""What fit chooses on each of `boards` of each of `shapes`, as a text to be read and reviewed.

`PYTHONPATH=tests python -m simulators.fit_matrix > tests/proto/golden/fit-matrix.txt` writes it
anew; look at every line that changed before it is committed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Final

from sprat_proto import fit
from sprat_proto.fit import MIB, Candidate, Choice, Terms
from sprat_proto.policy import Aim, FitPolicy

from simulators.boards import BOARDS
from simulators.shapes import PHI4_MINI, QWEN3_06B, Shape, variants

CONTEXT: Final = 2048
POLICIES: Final = {
    **{f"aim {aim}": FitPolicy(aim=aim) for aim in Aim},
    "quality-first, at least 8 tokens/s, first token within 10 s, at most 3 % lost": FitPolicy(
        min_decode_milli_tps=8000, max_ttft_ms=10_000, max_loss_ppm=30_000
    ),
}
_HEAD: Final = f"""\
What fit chooses, by hardware and aim. The hardware and its rates are made up, as is the loss.
context {CONTEXT} tokens, 1 slot, keys and values f16; rates at a depth of 512 tokens.

✔ chosen   · fits, but is not the best   CODE why it is refused
budget: MiB for models   tok/s: tokens a second of one request alone, predicted
"""
_WIDTH: Final = 20


def matrix() -> str:
    """Return the whole text."""
    parts = [_HEAD]
    for shape in (QWEN3_06B, PHI4_MINI):
        for title, policy in POLICIES.items():
            parts.append("\n".join(_section(shape, title, policy)) + "\n")
    return "\n".join(parts)


def _section(shape: Shape, title: str, policy: FitPolicy) -> Iterator[str]:
    release = variants(shape)
    yield f"== {shape.name}: {title} =="
    yield _row("", "", [one.variant for one in release])
    yield _row("", "needs", [f"{fit.need(one, CONTEXT).memory // MIB} MiB" for one in release])
    yield _row("", "loses", [_loss(one) for one in release])
    for name, profile in BOARDS.items():
        choice = fit.choose(release, profile, Terms(CONTEXT, policy=policy))
        budget = f"{profile.memory_budget_bytes // MIB}"
        yield _row(name, budget, [_cell(one, choice) for one in release])


def _cell(candidate: Candidate, choice: Choice) -> str:
    (verdict,) = (one for one in choice.verdicts if one.variant == candidate.variant)
    if not verdict.fits:
        return str(verdict.code)
    tps = verdict.rates.decode_milli_tps
    rate = f"{tps // 1000}.{tps % 1000 // 100} tok/s" if tps else "rate unknown"
    return f"{'✔' if choice.chosen is candidate else '·'} {rate}"


def _loss(candidate: Candidate) -> str:
    loss = candidate.evaluation.loss_ppm if candidate.evaluation else 0
    return f"{loss / 10_000:.2f} %"


def _row(name: str, budget: str, cells: list[str]) -> str:
    columns = "".join(cell.ljust(_WIDTH) for cell in cells)
    return f"{name:<20}{budget:>7}  {columns}".rstrip()


if __name__ == "__main__":
    sys.stdout.write(matrix())
