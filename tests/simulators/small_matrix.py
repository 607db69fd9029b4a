"""Two releases and four hardware classes of `boards`: a matrix that can be looked over."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from sprat_controller.rollout import hardware
from sprat_controller.rollout.compatibility.judging import HardwareClass, ReleaseVariants
from sprat_proto import fit

from simulators.boards import BOARDS
from simulators.shapes import PHI4_MINI, QWEN3_06B, variants

QWEN: Final = ReleaseVariants("qwen3-0.6b", "1.0.0", tuple(variants(QWEN3_06B)))
PHI: Final = ReleaseVariants("phi-4-mini", "1.0.0", tuple(variants(PHI4_MINI)))
TERMS: Final = fit.Terms(2048)
CLASSES: Final = [
    HardwareClass(hardware.hardware_class(board), 2, "gw-1", replace(board, processor=name))
    for name, board in BOARDS.items()
    if name in {"arm board 1 GB", "Pi 5, 4 GB", "server, 16 GB", "RISC-V board, 8 GB"}
]
