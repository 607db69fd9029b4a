"""The rates that devices tell of what runs, taken in within limits. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sprat_proto.v1 import link_pb2

from sprat_controller.fleet.observed_rates import Told
from sprat_controller.link import inbound

# A million tokens a second is beyond any device that is spoken of here, by far.
MOST_MILLI_TPS: Final = 10**9
MOST_SAMPLES: Final = 1 << 20


def rates_of(wire: Sequence[link_pb2.RunningModel]) -> tuple[list[Told], list[str]]:
    """Return what is told of each variant, and a sentence for each thing that is refused.

    Of models that are not as they must be otherwise, nothing is taken in (`inbound.running_of`).
    """
    told: dict[str, Told] = {}
    refused: list[str] = []
    seen = [one for one in wire if one.rate_samples or any(_rates(one))]
    if not seen or inbound.running_of(wire) is None:
        return [], []
    for model in seen:
        rates = _rates(model)
        why = _why_not(rates, model.rate_samples)
        if why:
            refused.append(f"rates of {model.variant} under {model.alias}: {why}")
        else:
            told.setdefault(model.digest, Told(model.digest, *rates, model.rate_samples))
    return list(told.values()), refused


def _rates(model: link_pb2.RunningModel) -> tuple[int, int]:
    return model.decode_milli_tps, model.prefill_milli_tps


def _why_not(rates: tuple[int, int], samples: int) -> str:
    if not 0 < samples <= MOST_SAMPLES:
        return f"expected medians of 1 to {MOST_SAMPLES} answers, found {samples}"
    if not any(rates):
        return f"expected a rate above 0 after {samples} answers, found none"
    if max(rates) > MOST_MILLI_TPS:
        most = MOST_MILLI_TPS // 1000
        return f"expected at most {most} tokens a second, found {max(rates) // 1000}"
    return ""
