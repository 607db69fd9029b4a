"""Which of several variants is the best one for a device, by a policy's aim. Pure.

Every aim is a total order, whatever order the variants come in, so that every replica of a
controller gives the same answer:

- `quality-first`: quality, then less memory.
- `speed-first`: speed, then quality, then less memory.
- `smallest`: less memory, then quality.

and at the end the name. Quality is the measured loss if that can be compared (every variant was
evaluated against one reference on one text, or is that reference), else bits per weight. Speed is
the decoding rate if it is known of every variant, else how few bytes are read for a token. Whether
these can be compared is asked of the variants that the hardware could run at all, never of those
that have room, so that more memory cannot change the order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from sprat_proto.amounts import apart, percent, thousandths
from sprat_proto.policy import Aim
from sprat_proto.states import ReasonCode


class Rival(NamedTuple):
    """A variant as it is compared with its siblings on one device."""

    variant: str
    digest: str
    can_run: bool  # the hardware and a runtime for it are there
    memory_bytes: int
    bits_per_weight_milli: int
    loss_ppm: int | None  # None: unknown
    # The reference and text of its evaluation; None: it has none.
    yardstick: tuple[str, str] | None
    decode_milli_tps: int  # 0: unknown
    bytes_per_token: int


@dataclass(frozen=True)
class Difference:
    """A criterion: how small a rival is by it, and how one that is smaller is told from another."""

    code: ReasonCode
    key: Callable[[Rival], tuple[int, ...]]
    told: Callable[[Rival, Rival], str]


@dataclass(frozen=True)
class Ranking:
    """The criteria of an aim, the first that tells two variants apart decides."""

    criteria: tuple[Difference, ...]

    def key(self, one: Rival) -> tuple[object, ...]:
        """Return what sorts rivals best first."""
        return (*(criterion.key(one) for criterion in self.criteria), one.variant, one.digest)

    def why_not(self, best: Rival, other: Rival) -> tuple[ReasonCode, str]:
        """Return why `best` was chosen and not `other`, which fits too."""
        for criterion in self.criteria:
            if criterion.key(best) != criterion.key(other):
                return criterion.code, f"fits, but {criterion.told(best, other)}"
        message = f"fits, but {best.variant} is as good, and its name sorts first"
        return self.criteria[0].code, message


def ranking(aim: Aim, rivals: Sequence[Rival]) -> Ranking:
    """Return how an aim orders these rivals."""
    runnable = [one for one in rivals if one.can_run]
    quality = _LOSS if _has_one_yardstick(runnable) else _BITS
    speed = _RATE if all(one.decode_milli_tps for one in runnable) else _READ
    by_aim: Mapping[Aim, tuple[Difference, ...]] = {
        Aim.QUALITY_FIRST: (quality, _MEMORY),
        Aim.SPEED_FIRST: (speed, quality, _MEMORY),
        Aim.SMALLEST: (_MEMORY, quality),
    }
    return Ranking(by_aim[aim])


def _has_one_yardstick(rivals: Sequence[Rival]) -> bool:
    """Tell whether the losses of all can be compared.

    What has no evaluation of its own and still a loss (of nothing: it is not quantized) can, if the
    others were measured against it.
    """
    yardsticks = {one.yardstick for one in rivals if one.yardstick is not None}
    if len(yardsticks) != 1:
        return False
    ((reference, _),) = yardsticks
    return all(
        one.loss_ppm is not None and (one.yardstick is not None or one.variant == reference)
        for one in rivals
    )


def _loss(one: Rival) -> tuple[int, ...]:
    # What the hardware cannot run may be unknown: it is last.
    return (1, -one.bits_per_weight_milli) if one.loss_ppm is None else (0, one.loss_ppm)


def _loses_less(best: Rival, other: Rival) -> str:
    losses = percent(best.loss_ppm or 0), percent(other.loss_ppm or 0)
    return f"{best.variant} loses less of its quality ({losses[0]} against {losses[1]})"


def _keeps_more(best: Rival, other: Rival) -> str:
    bits = thousandths(best.bits_per_weight_milli), thousandths(other.bits_per_weight_milli)
    return f"{best.variant} keeps more of the model ({bits[0]} bits per weight against {bits[1]})"


def _is_faster(best: Rival, other: Rival) -> str:
    rates = thousandths(best.decode_milli_tps), thousandths(other.decode_milli_tps)
    return f"{best.variant} is faster ({rates[0]} tokens a second against {rates[1]})"


def _reads_less(best: Rival, other: Rival) -> str:
    sizes = apart(best.bytes_per_token, other.bytes_per_token)
    return f"{best.variant} reads less for each token ({sizes[0]} against {sizes[1]})"


def _is_smaller(best: Rival, other: Rival) -> str:
    sizes = apart(best.memory_bytes, other.memory_bytes)
    return f"{best.variant} takes less memory ({sizes[0]} against {sizes[1]})"


_LOSS: Final = Difference(ReasonCode.LOWER_QUALITY, _loss, _loses_less)
_BITS: Final = Difference(
    ReasonCode.LOWER_QUALITY, lambda one: (-one.bits_per_weight_milli,), _keeps_more
)
# 0, unknown, is last.
_RATE: Final = Difference(ReasonCode.SLOWER, lambda one: (-one.decode_milli_tps,), _is_faster)
_READ: Final = Difference(ReasonCode.SLOWER, lambda one: (one.bytes_per_token,), _reads_less)
_MEMORY: Final = Difference(ReasonCode.LARGER, lambda one: (one.memory_bytes,), _is_smaller)
