"""A device whose speed is known, for what measures it: time passes as its models compute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sprat_agent.measuring.costs import Bench
from sprat_agent.measuring.model_file import VOCABULARY, Shape, bytes_of
from sprat_agent.worker.batching.batch import Run
from sprat_proto.rates import HEAD_BYTES


@dataclass
class MeasuredDevice:
    """Costs in seconds; by type those of a byte that is decoded, and a weight of a prompt."""

    decode_s: Mapping[str, float]
    prefill_s: Mapping[str, float]
    step_s: float = 0.0
    layer_s: float = 0.0
    kv_s: float = 0.0
    look_s: float = 0.0
    now: float = 0.0
    is_cached_three_times_as_fast: bool = False
    cached: object = None  # the model whose weights lie in the processor's caches
    opened: list[tuple[str, Shape]] = field(default_factory=list[tuple[str, Shape]])
    open_now: int = 0

    def bench(self) -> Bench:
        """Return what runs models on this device."""
        return Bench(
            lambda kind, shape: TimedModel(self, kind, shape), lambda: self.now, self.fill_caches
        )

    def fill_caches(self) -> None:
        """Leave nothing of a model in them."""
        self.cached = None


class TimedModel:
    """See `costs.Model`."""

    def __init__(self, device: MeasuredDevice, kind: str, shape: Shape) -> None:
        self._device, self._kind, self._shape = device, kind, shape
        device.opened.append((kind, shape))
        device.open_now += 1

    def decode(self, runs: Sequence[Run]) -> None:
        """Let the time pass that these take."""
        device, shape = self._device, self._shape
        (run,) = runs
        weights = shape.layers * shape.layer_weights
        if len(run.tokens) > 1:
            count = len(run.tokens)
            # Of the last layer, those that get no logits need nothing behind the attention.
            spared = 3 * shape.width * shape.inner * (count - run.rows)
            device.now += (weights * count - spared) * device.prefill_s[self._kind]
            device.now += VOCABULARY * shape.width * run.rows * device.prefill_s["F16"]
            numbers = shape.layers * shape.heads * shape.head * 2
            device.now += numbers * count * (run.start + count / 2) * device.look_s
            return
        per_layer = shape.kv_heads * shape.head * 2 * 2 + shape.heads * HEAD_BYTES
        kv = shape.layers * per_layer * run.start
        head = bytes_of("F16", VOCABULARY * shape.width) * device.decode_s["F16"]
        own = bytes_of(self._kind, weights) * device.decode_s[self._kind]
        if device.is_cached_three_times_as_fast and device.cached is self:
            own /= 3
        device.cached = self
        device.now += device.step_s + shape.layers * device.layer_s + kv * device.kv_s + head + own

    def keep(self, sequence: int, length: int) -> int:
        """Forget what is beyond."""
        del sequence
        return length

    def close(self) -> None:
        """Be gone."""
        self._device.open_now -= 1
