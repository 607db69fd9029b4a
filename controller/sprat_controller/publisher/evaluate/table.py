"""Scores as rows for a terminal and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Final

from sprat_controller.publisher.evaluate.evaluate import Scores

COLUMNS: Final = (
    "variant",
    "size",
    "perplexity",
    "KL (nats)",
    "same top",
    "quality loss",
    "prefill t/s",
    "decode t/s",
)
_NOT_MEASURED: Final = "-"


def row(scores: Scores) -> list[str]:
    """Return what a line of the table says, by `COLUMNS`."""
    return [
        scores.variant,
        size(scores.bytes),
        f"{scores.perplexity:.3f}",
        f"{scores.kl_divergence:.6f}",
        f"{scores.same_top:.1%}",
        percent(scores.loss),
        _rate(scores.prefill_tps),
        _rate(scores.decode_tps),
    ]


def to_json(scores: Sequence[Scores]) -> list[dict[str, object]]:
    """Return all figures as JSON values: shares and losses from 0 to 1, sizes in bytes."""
    return [{**asdict(one), "quality_loss": one.loss} for one in scores]


def size(count: int) -> str:
    """Return bytes as mebibytes, to three figures."""
    mib = count / 2**20
    return f"{mib:.0f} MiB" if mib >= 100 else f"{mib:#.3g} MiB"  # noqa: PLR2004


def percent(share: float) -> str:
    """Return a share in percent, to two figures or to the thousandth of a percent."""
    in_percent = share * 100
    if in_percent >= 10:  # noqa: PLR2004
        return f"{in_percent:.0f} %"
    return f"{in_percent:.2g} %" if in_percent >= 0.01 else f"{in_percent:.3f} %"  # noqa: PLR2004


def _rate(rate: float) -> str:
    return f"{rate:.1f}" if rate else _NOT_MEASURED
