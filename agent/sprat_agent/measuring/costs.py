"""What weights of each type cost here: times of small models, taken apart. Runs in the child.

Before each of a model's steps the processor's caches are filled with something else, since a real
model exceeds them by far: even one of twice their size was read a third too fast (AMD EPYC of 2022,
32 MiB of L3 cache, November 2026). Of its time for a token the layers' fixed cost is taken off,
which a model of many short layers tells; what is left is the weights'. Times are of the processor,
not of the wall, so that other programs do not count, and of many repeats the median does, as it
does for what devices measure with real requests. The engine's threads spin while they wait for
each other, so the first one's time is that of all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray
from sprat_proto.rates import FEMTO, HEAD_BYTES, NANO, Measured, TypeCost

from sprat_agent.measuring.model_file import VOCABULARY, Shape, bytes_of
from sprat_agent.worker.batching.batch import Run

# Those that most files are made of come first: a slow device may not get to the last ones.
KINDS: Final = ("Q4_0", "Q8_0", "Q4_K", "Q6_K", "F16", "Q5_1", "TQ2_0", "TQ1_0", "Q5_K", "Q5_0")
LEAST_KINDS: Final = 6  # measured however long it takes
LEAST_BYTES: Final = 24 << 20  # of a model, where memory allows
MOST_BYTES: Final = 96 << 20
# What fills them is so many times the last-level cache: of what is read once by chance another
# line goes, and twice its size left enough of a model to read it a tenth too fast.
CACHES: Final = 4

_WIDTH: Final = 1024
# The widest of which one layer fits, with as many layers as are needed.
_OF_WEIGHTS: Final = (
    Shape(1, _WIDTH, 3 * _WIDTH, 16, 4, 64),
    Shape(1, 512, 1536, 8, 2, 64),
    Shape(1, 256, 768, 4, 1, 64),
)
# As real layers are, with so few weights that half of the time is what each layer takes: with next
# to none, and all of it in the caches, that was a third of it (AMD EPYC, November 2026).
_SHORT: Final = Shape(1, _WIDTH, 256, 8, 2, 64)
# For what a step takes beside its layers.
_FEW_LAYERS: Final = Shape(4, _WIDTH, 32, 1, 1, 32)
_MANY_LAYERS: Final = Shape(28, _WIDTH, 32, 1, 1, 32)
_NARROW_KIND: Final = KINDS[0]
_OF_VALUES: Final = Shape(8, 256, 256, 8, 4, 128)
_DEEP: Final = 512  # tokens
_SHALLOW: Final = 16
_LEAST_REPEATS: Final = 7
_MOST_REPEATS: Final = 32
_REPEATS_S: Final = 0.2
_PROMPT_S: Final = 0.2
_FIRST_PROMPT: Final = 16  # tokens
_LOOKING_PROMPT: Final = 128  # of 64 and more, llama.cpp looks back for many at once
_LOOKS: Final = 3
_MOST_PROMPT: Final = 256


class Model(Protocol):
    """A loaded model; `worker.llama.LlamaBackend` is one."""

    def decode(self, runs: Sequence[Run]) -> None:
        """Compute the runs in one step."""
        ...

    def keep(self, sequence: int, length: int) -> int:
        """Forget what is beyond."""
        ...

    def close(self) -> None:
        """Free it."""
        ...


Open = Callable[[str, Shape], Model]  # makes and loads a model of this type and shape


@dataclass(frozen=True)
class Terms:
    """What the measuring is done with."""

    engine: str  # library and version
    threads: int
    model_bytes: int  # of a model, at most
    cache_bytes: int  # the last-level cache; 0: unknown
    budget_s: float  # after which types beyond the first are left out

    @property
    def size(self) -> int:
        """Bytes of a model: what the cache holds, which is long enough to take the time of."""
        return min(max(self.cache_bytes, LEAST_BYTES), MOST_BYTES, self.model_bytes)

    @property
    def filling_bytes(self) -> int:
        """Bytes that fill the caches, of the memory that a smaller model leaves, file and all."""
        return min(CACHES * self.cache_bytes, 2 * (self.model_bytes - self.size))


@dataclass(frozen=True)
class _Seen:
    """A model of one type."""

    layers: int
    weights: int  # that a prompt was multiplied with
    size: int  # bytes of the layers
    layers_s: float  # of a token that is decoded, what the layers take
    prompt_s: float  # for one of a prompt, what weights take


def measure(terms: Terms, bench: Bench, at_ms: int) -> Measured:
    """Return what this device can do."""
    began = time.monotonic()
    size = terms.size
    bandwidth = reading_rate(size, terms.threads)
    few_s, many_s = (bench.token_s(shape) for shape in (_FEW_LAYERS, _MANY_LAYERS))
    narrow_s = max(many_s - few_s, 0.0) / (_MANY_LAYERS.layers - _FEW_LAYERS.layers)
    base_s = max(few_s - _FEW_LAYERS.layers * narrow_s, 0.0)
    kv_fs, look_fs = bench.looking_fs()
    layer_s = 0.0
    costs: dict[str, TypeCost] = {}
    for kind in KINDS:
        if len(costs) >= LEAST_KINDS and time.monotonic() - began > terms.budget_s:
            break
        shape = _filling(kind, size)
        beside_s = base_s + _kv_bytes(shape, _SHALLOW) * kv_fs / FEMTO
        seen = bench.seen(kind, shape, beside_s, look_fs)
        if kind == _NARROW_KIND:
            short = _repeated(_SHORT, kind, size // 2)
            beside_s = base_s + _kv_bytes(short, _SHALLOW) * kv_fs / FEMTO
            layer_s = _layer_s(seen, bench.seen(kind, short, beside_s, look_fs))
        costs[kind] = _cost(kind, seen, layer_s)
    head_s = bytes_of("F16", VOCABULARY * _WIDTH) * costs["F16"].decode_fs / FEMTO
    step_s = max(base_s - head_s, 0.0)
    fastest = max(FEMTO // cost.decode_fs for cost in costs.values())
    return Measured(
        at_ms=at_ms,
        engine=terms.engine,
        threads=terms.threads,
        bandwidth=max(bandwidth, fastest),
        step_ns=round(step_s * NANO),
        layer_ns=round(layer_s * NANO),
        kv_fs=_whole(kv_fs),
        costs=tuple(costs.values()),
        look_fs=_whole(look_fs),
    )


class Bench:
    """Runs models and takes the time of it."""

    def __init__(
        self,
        open_model: Open,
        clock: Callable[[], float] = time.thread_time,
        fill_caches: Callable[[], object] = lambda: None,
    ) -> None:
        """Run what `open_model` makes.

        Args:
            open_model: Makes models.
            clock: In seconds.
            fill_caches: Leaves nothing of a model in the processor's caches.
        """
        self._open = open_model
        self._clock = clock
        self._fill_caches = fill_caches

    def seen(self, kind: str, shape: Shape, beside_s: float, look_fs: float) -> _Seen:
        """Run a model of one type.

        Args:
            kind: Of its matrices.
            shape: Its shape.
            beside_s: What a token that is decoded takes beside its layers.
            look_fs: See `Measured`.
        """
        weights = shape.layers * shape.layer_weights
        with self._opened(kind, shape) as model:
            self._prompt_s(model, _FIRST_PROMPT)  # its pages and threads are there from now on
            prompt_s, count = self._prompt_s(model, _FIRST_PROMPT), _FIRST_PROMPT
            wanted = min(int(count * _PROMPT_S / prompt_s), _MOST_PROMPT)
            if wanted > 2 * count:
                count = wanted // _FIRST_PROMPT * _FIRST_PROMPT
                prompt_s = min(self._prompt_s(model, count) for _ in range(2))
            token_s = self._decode_s(model, _SHALLOW, self._fill_caches)
        layers_s = max(token_s - beside_s, token_s / 2)
        looking_s = _numbers(shape) * count / 2 * look_fs / FEMTO
        each_s = max(prompt_s / count - looking_s, prompt_s / count / 2)
        computed = weights + VOCABULARY * shape.width
        return _Seen(shape.layers, computed, bytes_of(kind, weights), layers_s, each_s)

    def token_s(self, shape: Shape) -> float:
        """Return the seconds to decode a token with a model of narrow layers."""
        with self._opened(_NARROW_KIND, shape) as model:
            self._prompt_s(model, _SHALLOW)
            return self._decode_s(model, _SHALLOW)

    def looking_fs(self) -> tuple[float, float]:
        """Return the femtoseconds of looking at what was before: `kv_fs` and `look_fs`."""
        shape = _OF_VALUES
        with self._opened(_NARROW_KIND, shape) as model:
            self._prompt_s(model, _DEEP)
            deep_s = self._decode_s(model, _DEEP)
            far_s = min(self._prompt_s(model, _LOOKING_PROMPT, _DEEP) for _ in range(_LOOKS))
            shallow_s = self._decode_s(model, _SHALLOW)
            near_s = min(self._prompt_s(model, _LOOKING_PROMPT) for _ in range(_LOOKS))
        looks = _numbers(shape) * _DEEP * _LOOKING_PROMPT
        return (
            max(deep_s - shallow_s, 0.0) * FEMTO / _kv_bytes(shape, _DEEP - _SHALLOW),
            max(far_s - near_s, 0.0) * FEMTO / looks,
        )

    def _decode_s(
        self, model: Model, depth: int, before: Callable[[], object] = lambda: None
    ) -> float:
        times: list[float] = []
        run = Run(0, depth, [1], 1)
        while len(times) < _LEAST_REPEATS or (
            sum(times) < _REPEATS_S and len(times) < _MOST_REPEATS
        ):
            model.keep(0, depth)
            before()
            times.append(self._step_s(model, run))
        return median(times[1:])

    def _prompt_s(self, model: Model, count: int, depth: int = 0) -> float:
        """Return the seconds for a prompt of which each token has logits.

        For a single token's llama.cpp leaves out what the others need of the last layer, which
        may be the only one.
        """
        model.keep(0, depth)
        tokens = [token % VOCABULARY for token in range(count)]
        return self._step_s(model, Run(0, depth, tokens, count))

    def _step_s(self, model: Model, run: Run) -> float:
        began = self._clock()
        model.decode([run])
        return self._clock() - began

    @contextmanager
    def _opened(self, kind: str, shape: Shape) -> Generator[Model]:
        model = self._open(kind, shape)
        try:
            yield model
        finally:
            model.close()


def filler(size: int) -> Callable[[], object]:
    """Return what reads so many bytes of memory."""
    array = np.ones(size // 8, np.uint64)
    return lambda: np.bitwise_or.reduce(array)


def reading_rate(size: int, threads: int) -> int:
    """Return how many bytes of memory all threads together read a second."""
    part = max(size // threads // 8, 1)
    arrays = [np.ones(part, np.uint64) for _ in range(threads)]

    def read(array: NDArray[np.uint64]) -> None:
        np.bitwise_or.reduce(array)

    with ThreadPoolExecutor(threads) as pool:
        times = [_passed(lambda: [*pool.map(read, arrays)]) for _ in range(_LEAST_REPEATS)]
    return round(part * 8 * threads / min(times))


def _layer_s(wide: _Seen, short: _Seen) -> float:
    """Return the fixed cost of a layer: of two models of one type, with more and less in each."""
    as_wide = short.size / wide.size  # so much of the wide one's time is the short one's weights
    more = short.layers - as_wide * wide.layers
    return max(short.layers_s - as_wide * wide.layers_s, 0.0) / more if more > 0 else 0.0


def _cost(kind: str, seen: _Seen, layer_s: float) -> TypeCost:
    own_s = max(seen.layers_s - seen.layers * layer_s, seen.layers_s / 2)
    return TypeCost(
        kind.lower(),
        _whole(own_s * FEMTO / seen.size),
        _whole(seen.prompt_s * FEMTO / seen.weights),
    )


def _filling(kind: str, size: int) -> Shape:
    """Return a shape with as many layers as fill so many bytes, at least one."""
    fitting = (one for one in _OF_WEIGHTS if bytes_of("F16", one.layer_weights) <= size)
    return _repeated(next(fitting, _OF_WEIGHTS[-1]), kind, size)


def _repeated(shape: Shape, kind: str, size: int) -> Shape:
    return replace(shape, layers=max(size // bytes_of(kind, shape.layer_weights), 1))


def _kv_bytes(shape: Shape, depth: int) -> int:
    """Return the bytes that a token at this depth looks at, as `rates.predict` counts them."""
    keys_and_values = shape.kv_heads * shape.head * 2 * 2
    return shape.layers * (keys_and_values + shape.heads * HEAD_BYTES) * depth


def _numbers(shape: Shape) -> int:
    """Return how many numbers of one before it a token of a prompt is multiplied with."""
    return shape.layers * shape.heads * shape.head * 2


def _passed(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _whole(number: float) -> int:
    return max(round(number), 1)
