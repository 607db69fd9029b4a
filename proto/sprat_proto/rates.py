"""How fast a model will answer on a device, from what the device measured of itself. Pure.

A roofline by parts. To decode a token each weight is read once, at a cost a byte that depends on
its type (F16 waits for memory, Q5_1 for the processor: the device measures which); the keys and
values so far are read too; each layer and each step have a fixed cost. In a prompt each weight
serves a whole micro-batch, so its cost is arithmetic, a weight and token, but for the output head,
which only the last token needs; and each token looks back at those before it. Integers only, so
that both sides come to the same.

Predictions give way to what devices of the same hardware class measured with this very variant.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final

from sprat_proto.manifest import Facts
from sprat_proto.tensor_types import weights_of

FEMTO: Final = 10**15  # in a second
NANO: Final = 10**9
MILLI: Final = 1000
# What a head that looks at one token costs beside the bytes it reads, as bytes: of eight shapes on
# an AMD EPYC (Zen 3) in November 2026, 35 ns beside 0.5 ns a byte.
HEAD_BYTES: Final = 64
MOST_MILLI_TPS: Final = 1 << 53  # a rate above is a device's mistake; JSON holds no more exactly


@dataclass(frozen=True)
class TypeCost:
    """What weights of one type cost on one device."""

    kind: str  # as `q4_0`
    decode_fs: int  # femtoseconds for each byte, when one token is decoded
    prefill_fs: int  # femtoseconds for each weight and token of a prompt


@dataclass(frozen=True)
class Measured:
    """What a device's micro-benchmark found."""

    at_ms: int  # Unix
    engine: str  # library and version that ran it
    threads: int
    bandwidth: int  # bytes of memory read a second, by all threads together
    step_ns: int  # fixed cost of a decoding step
    layer_ns: int  # and of each layer in it
    kv_fs: int  # for each byte of keys and values that is read, or its like (`HEAD_BYTES`)
    costs: tuple[TypeCost, ...]
    look_fs: int = 0  # for each number of a token of a prompt that another's is multiplied with


class Basis(StrEnum):
    """Where a rate comes from."""

    OBSERVED = "observed"  # the median of devices of this class with this variant
    PREDICTED = "predicted"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Rates:
    """Thousandths of a token a second, for one request alone."""

    basis: Basis
    decode_milli_tps: int = 0
    prefill_milli_tps: int = 0

    def ttft_ms(self, prompt_tokens: int) -> int | None:
        """Return the milliseconds to the first token of the answer, rounded up; None: unknown."""
        if not (self.prefill_milli_tps and self.decode_milli_tps):
            return None
        prompt = -(-prompt_tokens * MILLI * MILLI // self.prefill_milli_tps)
        return prompt + -(-MILLI * MILLI // self.decode_milli_tps)


UNKNOWN: Final = Rates(Basis.UNKNOWN)
# A type that was not measured costs what its nearest relative does.
RELATIVES: Final[Mapping[str, tuple[str, ...]]] = {
    "bf16": ("f16",),
    "f32": ("f16", "q8_0"),  # vectors mostly: a few bytes
    "q4_1": ("q4_0", "q5_1"),
    "q5_0": ("q5_1", "q4_0"),
    "q5_k": ("q4_k", "q6_k"),
    "q6_k": ("q5_k", "q4_k"),
    "q3_k": ("q4_k",),
    "q2_k": ("q4_k",),
    "tq1_0": ("tq2_0",),
    "tq2_0": ("tq1_0",),
}


def predict(facts: Facts, measured: Measured | None, depth: int) -> Rates:
    """Return the rates that the roofline gives; unknown if a type's cost is, or costs nothing.

    Args:
        facts: Of the variant.
        measured: Of the device; None: it did not measure itself.
        depth: Tokens of the prompt, which are full when a token is decoded.
    """
    if measured is None:
        return UNKNOWN
    read = _read(tuple(facts.bytes_per_token.items()), facts.vocabulary * facts.embedding_length)
    costs = {cost.kind: cost for cost in measured.costs}
    weights_fs = prefill_fs = 0
    for kind, size, weights in read:
        cost = _cost(kind, costs)
        if cost is None:
            return UNKNOWN
        weights_fs += size * cost.decode_fs
        prefill_fs += weights * cost.prefill_fs
    if not (weights_fs and prefill_fs):
        return UNKNOWN
    fixed_fs = (measured.step_ns + facts.layers * measured.layer_ns) * (FEMTO // NANO)
    decode_fs = weights_fs + fixed_fs + _kv_bytes(facts, depth) * measured.kv_fs
    prefill_fs += _numbers_looked_at(facts, depth) * measured.look_fs
    return Rates(Basis.PREDICTED, _milli_tps(decode_fs), _milli_tps(prefill_fs))


def expected(facts: Facts, measured: Measured | None, depth: int, observed: Rates | None) -> Rates:
    """Return what was observed with this variant, completed by what is predicted; see `predict`.

    Args:
        facts: Of the variant.
        measured: Of the device.
        depth: Tokens of the prompt.
        observed: On devices of this hardware class; None, and a rate of 0: nothing yet.
    """
    if observed is None or not observed.decode_milli_tps:
        return predict(facts, measured, depth)
    prefill = observed.prefill_milli_tps or predict(facts, measured, depth).prefill_milli_tps
    return Rates(Basis.OBSERVED, observed.decode_milli_tps, prefill)


def _milli_tps(token_fs: int) -> int:
    """Return the rate at this cost of a token: never 0, which would be unknown."""
    return min(max(FEMTO * MILLI // token_fs, 1), MOST_MILLI_TPS)


def _cost(kind: str, costs: Mapping[str, TypeCost]) -> TypeCost | None:
    if kind in costs:
        return costs[kind]
    return next((costs[name] for name in RELATIVES.get(kind, ()) if name in costs), None)


@lru_cache(maxsize=1024)  # a plan asks the same for each device of a fleet
def _read(sizes: tuple[tuple[str, int], ...], head: int) -> tuple[tuple[str, int, int], ...]:
    """Return of each type its bytes, and how many of its weights each token of a prompt needs.

    Nothing at all if one is a type that ggml does not have.

    Args:
        sizes: Type and bytes that are read for a token.
        head: Weights of the output head, which a prompt needs only once. Quantizers spare it: of
            the types with enough weights it has the one with the most bits.
    """
    read = [(kind, size, weights_of(kind, size)) for kind, size in sizes if size]
    if not all(weights for _, _, weights in read):
        return ()
    # Often it is all that there is of its type.
    enough = [(_density(size, count), kind) for kind, size, count in read if count >= head > 0]
    spared = max(enough, default=(0, ""))[1]
    return tuple((kind, size, weights - head * (kind == spared)) for kind, size, weights in read)


def _density(size: int, weights: int) -> int:
    return size * MILLI // weights


def _kv_bytes(facts: Facts, depth: int) -> int:
    """Return the bytes of F16 keys and values that a token at this depth looks at, and their like.

    Each head looks at each token for itself, which costs what some bytes do.
    """
    keys_and_values = facts.kv_heads * (facts.key_length + facts.value_length) * 2
    per_layer = keys_and_values + facts.heads * HEAD_BYTES
    near = min(depth, facts.window) if facts.window else depth
    windowed = min(facts.window_layers, facts.layers)
    return per_layer * ((facts.layers - windowed) * depth + windowed * near)


def _numbers_looked_at(facts: Facts, prompt: int) -> int:
    """Return with how many numbers of those before it a token of a prompt is multiplied: the mean.

    Each head takes a key and a value of each of them.
    """
    windowed = min(facts.window_layers, facts.layers)
    tokens = (facts.layers - windowed) * _before(prompt) + windowed * _before(prompt, facts.window)
    # Of all tokens together: divided once, so that little is lost.
    return facts.heads * (facts.key_length + facts.value_length) * tokens // max(prompt, 1)


def _before(prompt: int, window: int = 0) -> int:
    """Return the sum over all tokens of a prompt of how many before it each looks at."""
    near = min(prompt, window) if window else prompt
    return near * near // 2 + (prompt - near) * near
