"""What devices say, taken in within limits: values come out, whatever came in. Pure.

A device may be broken or hostile. What is not as it must be is left out and said in a sentence for
the audit log; nothing here raises because of a message.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

from sprat_proto.fit import CoreKind, Profile
from sprat_proto.manifest import is_model_name, is_release_version
from sprat_proto.probes import MAX_SAID, MOST_FAILED
from sprat_proto.rates import Measured, TypeCost
from sprat_proto.states import ModelState, ReasonCode
from sprat_proto.v1 import link_pb2

from sprat_controller.rollout.plan import Reason

MAX_COUNT: Final = 1 << 53  # bytes, versions, positions: what JSON and SQLite both hold
MAX_VERSION: Final = 1 << 52  # of an assignment; leaves room above for the next
MAX_WORDS: Final = 256  # CPU features and the like
MAX_WORD: Final = 64  # characters
MAX_ALIASES: Final = 64
MAX_KINDS: Final = 16  # of processors in one device
MAX_CAPACITY: Final = 1024
MAX_MHZ: Final = 1 << 20
MAX_COSTS: Final = 64  # types that were measured
MILLI: Final = 1000
MAX_SENTENCE: Final = 2048  # characters of a reason's parts
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_CODE: Final = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
_POWERS: Final = frozenset({"", "mains", "battery"})
_FIGURES: Final = (
    *("score_permille", "prompts", "passed", "perplexity_milli", "scored_tokens"),
    *("decode_milli_tps", "ttft_ms", "peak_bytes", "took_ms"),
)
_STATES: Final = frozenset(state.value for state in ModelState)

RunningJson = dict[str, dict[str, str]]


def clip(text: str, limit: int) -> str:
    """Return the first characters of `text`, those that cannot be printed replaced."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:limit])


def is_digest(text: str) -> bool:
    """Tell whether `text` is a SHA-256 in lower-case hex."""
    return _DIGEST.fullmatch(text) is not None


def profile_of(wire: link_pb2.HardwareProfile) -> Profile | None:
    """Return the profile, or None if it is not within limits."""
    sizes = (
        *(wire.cores, wire.memory_bytes, wire.memory_budget_bytes, wire.disk_free_bytes),
        *(wire.cpu_quota_milli, wire.memory_limit_bytes, wire.memory_available_bytes),
    )
    lists: Sequence[Sequence[str]] = (wire.cpu_features, wire.accelerators, wire.runtimes)
    sound = (
        all(size <= MAX_COUNT for size in sizes)
        and all(len(words) <= MAX_WORDS for words in lists)
        and all(_is_word(word) for words in lists for word in words)
        and _is_word(wire.arch)
        and len(wire.core_kinds) <= MAX_KINDS
        and all(_is_kind(kind) for kind in wire.core_kinds)
        and wire.throttle_permille <= MILLI
        and wire.power in _POWERS
        and (not wire.HasField("measured") or _is_measured(wire.measured))
    )
    if not sound:
        return None
    return Profile(
        arch=wire.arch,
        cores=wire.cores,
        cpu_features=tuple(wire.cpu_features),
        memory_bytes=wire.memory_bytes,
        memory_budget_bytes=wire.memory_budget_bytes,
        disk_free_bytes=wire.disk_free_bytes,
        accelerators=tuple(wire.accelerators),
        os=clip(wire.os, MAX_WORD),
        simulated=wire.simulated,
        runtimes=tuple(wire.runtimes),
        processor=clip(wire.processor, MAX_WORD),
        core_kinds=tuple(
            CoreKind(kind.count, kind.capacity, kind.max_mhz) for kind in wire.core_kinds
        ),
        cpu_quota_milli=wire.cpu_quota_milli,
        memory_limit_bytes=wire.memory_limit_bytes,
        memory_available_bytes=wire.memory_available_bytes,
        throttle_permille=wire.throttle_permille if wire.HasField("throttle_permille") else None,
        power=wire.power,
        measured=_measured_of(wire.measured) if wire.HasField("measured") else None,
    )


def _measured_of(wire: link_pb2.Measured) -> Measured:
    return Measured(
        at_ms=wire.at_ms,
        engine=clip(wire.engine, MAX_WORD),
        threads=wire.threads,
        bandwidth=wire.bandwidth,
        step_ns=wire.step_ns,
        layer_ns=wire.layer_ns,
        kv_fs=wire.kv_fs,
        costs=tuple(TypeCost(one.kind, one.decode_fs, one.prefill_fs) for one in wire.costs),
        look_fs=wire.look_fs,
    )


def running_of(wire: Iterable[link_pb2.RunningModel]) -> RunningJson | None:
    """Return what runs, by alias, or None if it is not as it must be."""
    running: RunningJson = {}
    for model in wire:
        if len(running) >= MAX_ALIASES or not _is_running(model):
            return None
        running[model.alias] = {
            "model": model.model,
            "release": model.release,
            "variant": model.variant,
            "digest": model.digest,
            "state": model.state,
        }
    return running


def probe_of(said: link_pb2.ExecutionReport) -> dict[str, Any] | None:
    """Return what a report says of its probe, by the names of `probes.ProbeResult`.

    None where it says nothing, or what is not within limits.
    """
    if not said.HasField("probe"):
        return None
    probe = said.probe
    figures: dict[str, int] = {name: getattr(probe, name) for name in _FIGURES}
    is_sound = (
        max(figures.values()) <= MAX_COUNT
        and probe.score_permille <= MILLI
        and probe.passed <= probe.prompts
        and len(probe.failed) <= MOST_FAILED
    )
    if not is_sound:
        return None
    failed = [
        {name: clip(getattr(one, name), MAX_SAID) for name in ("check", "expected", "found")}
        for one in probe.failed
    ]
    return {**figures, "failed": failed}


def reason_of(report: link_pb2.ExecutionReport) -> Reason | None:
    """Return the reason of a report, if it has one; an unknown form of code is INTERNAL_ERROR."""
    if not report.HasField("reason"):
        return None
    wire = report.reason
    known = _CODE.fullmatch(wire.code) is not None
    return Reason(
        code=wire.code if known else ReasonCode.INTERNAL_ERROR.value,
        message=clip(wire.message, MAX_SENTENCE),
        expected=clip(wire.expected, MAX_SENTENCE),
        found=clip(wire.found, MAX_SENTENCE),
    )


def _is_word(text: str) -> bool:
    return 0 < len(text) <= MAX_WORD and text.isprintable()


def _is_kind(kind: link_pb2.CoreKind) -> bool:
    return kind.count > 0 and 0 < kind.capacity <= MAX_CAPACITY and kind.max_mhz <= MAX_MHZ


def _is_measured(wire: link_pb2.Measured) -> bool:
    """Tell whether predictions can be made with it: any cost of 0 would promise any rate."""
    kinds = [cost.kind for cost in wire.costs]
    numbers = [wire.threads, wire.bandwidth]
    numbers += [number for cost in wire.costs for number in (cost.decode_fs, cost.prefill_fs)]
    fixed = (wire.step_ns, wire.layer_ns, wire.kv_fs, wire.look_fs)
    return (
        0 <= wire.at_ms <= MAX_COUNT
        and 0 < len(kinds) <= MAX_COSTS
        and len(set(kinds)) == len(kinds)
        and all(is_model_name(kind) for kind in kinds)
        and all(0 < number <= MAX_COUNT for number in numbers)
        and all(number <= MAX_COUNT for number in fixed)
    )


def _is_running(model: link_pb2.RunningModel) -> bool:
    return (
        is_model_name(model.alias)
        and is_model_name(model.model)
        and is_release_version(model.release)
        and is_model_name(model.variant)
        and is_digest(model.digest)
        and model.state in _STATES
    )
