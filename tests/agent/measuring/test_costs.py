"""What is measured is what the device costs."""

from __future__ import annotations

import pytest
from simulators.measured_device import MeasuredDevice
from sprat_agent.measuring.costs import KINDS, LEAST_BYTES, LEAST_KINDS, MOST_BYTES, Terms, measure
from sprat_agent.measuring.model_file import bytes_of
from sprat_proto.rates import FEMTO

MIB = 1 << 20
TERMS = Terms("llama.cpp 1", 1, 64 * MIB, 8 * MIB, 60.0)
DECODE = {kind: (100 + 20 * place) * 1e-12 for place, kind in enumerate(KINDS)}
PREFILL = {kind: (30 + 5 * place) * 1e-12 for place, kind in enumerate(KINDS)}


def a_device() -> MeasuredDevice:
    return MeasuredDevice(DECODE, PREFILL, step_s=80e-6, layer_s=40e-6, kv_s=400e-12, look_s=60e-12)


def test_costs_are_taken_apart() -> None:
    found = measure(TERMS, a_device().bench(), 7)
    assert (found.at_ms, found.engine, found.threads) == (7, "llama.cpp 1", 1)
    assert [cost.kind for cost in found.costs] == [kind.lower() for kind in KINDS]
    for cost in found.costs:
        kind = cost.kind.upper()
        assert cost.decode_fs == pytest.approx(DECODE[kind] * FEMTO, rel=0.02)
        assert cost.prefill_fs == pytest.approx(PREFILL[kind] * FEMTO, rel=0.02)
    assert found.layer_ns == pytest.approx(40_000, rel=0.05)
    assert found.step_ns == pytest.approx(80_000, rel=0.05)
    assert found.kv_fs == pytest.approx(400_000, rel=0.02)
    assert found.look_fs == pytest.approx(60_000, rel=0.02)
    assert found.bandwidth >= FEMTO / min(cost.decode_fs for cost in found.costs) - 1


def test_models_and_what_fills_the_caches_keep_to_the_memory_that_there_is() -> None:
    for cache, most, expected, filling in (
        (32 * MIB, 104 * MIB, 32 * MIB, 128 * MIB),
        (32 * MIB, 80 * MIB, 32 * MIB, 96 * MIB),
        (32 * MIB, 40 * MIB, 32 * MIB, 16 * MIB),
        (512 * MIB, 200 * MIB, MOST_BYTES, 208 * MIB),
        (4 * MIB, 20 * MIB, 20 * MIB, 0),
        (0, 64 * MIB, LEAST_BYTES, 0),
    ):
        device = a_device()
        terms = Terms("e", 1, most, cache, 60.0)
        assert terms.filling_bytes == filling
        measure(terms, device.bench(), 0)
        sizes = [bytes_of(kind, one.layers * one.layer_weights) for kind, one in device.opened]
        assert expected * 0.5 < max(sizes) <= expected
        assert device.open_now == 0


def test_a_slow_device_leaves_rare_types_out() -> None:
    found = measure(Terms("e", 1, 64 * MIB, 0, 0.0), a_device().bench(), 0)
    assert [cost.kind.upper() for cost in found.costs] == [*KINDS[:LEAST_KINDS]]


def test_what_costs_next_to_nothing_is_never_free() -> None:
    free: dict[str, float] = dict.fromkeys(KINDS, 1e-18)
    found = measure(TERMS, MeasuredDevice(free, free).bench(), 0)
    assert all(cost.decode_fs >= 1 and cost.prefill_fs >= 1 for cost in found.costs)
    assert found.kv_fs == 1


def test_no_step_of_a_model_finds_its_weights_in_a_cache() -> None:
    device = a_device()
    device.is_cached_three_times_as_fast = True
    found = measure(TERMS, device.bench(), 0)
    for cost in found.costs:
        assert cost.decode_fs == pytest.approx(DECODE[cost.kind.upper()] * FEMTO, rel=0.02)
