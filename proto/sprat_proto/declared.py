"""Hardware as a JSON document declares it: of simulated devices, and of hardware to come. Pure.

It is what `sprat devices show -o json` has under `profile`; what no document can leave out comes
first below.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from sprat_proto.fit import CoreKind, Profile
from sprat_proto.rates import Measured, TypeCost

FULL_CAPACITY: Final = 1024  # of the strongest processor
MAX_NAME: Final = 64  # characters of a processor's name

_Size = Annotated[int, Meta(ge=0, le=1 << 60)]
_Word = Annotated[str, Meta(min_length=1, max_length=256)]
_Count = Annotated[int, Meta(ge=0, le=1 << 53)]
_Cores = Annotated[int, Meta(ge=1, le=4096)]


class _Kind(Struct, frozen=True, forbid_unknown_fields=True):
    count: _Cores
    capacity: Annotated[int, Meta(ge=1, le=FULL_CAPACITY)] = FULL_CAPACITY
    max_mhz: Annotated[int, Meta(ge=0, le=1 << 20)] = 0


class _Cost(Struct, frozen=True, forbid_unknown_fields=True):
    kind: Annotated[str, Meta(min_length=1, max_length=16)]
    decode_fs: _Count
    prefill_fs: _Count


class _Measured(Struct, frozen=True, forbid_unknown_fields=True):
    bandwidth: _Count
    step_ns: _Count
    layer_ns: _Count
    kv_fs: _Count
    costs: Annotated[list[_Cost], Meta(min_length=1, max_length=64)]
    at_ms: _Count = 0
    engine: Annotated[str, Meta(max_length=64)] = "declared"
    threads: _Cores | None = None  # as many as cores
    look_fs: _Count = 0


class _Declared(Struct, frozen=True, forbid_unknown_fields=True):
    arch: _Word
    cores: _Cores
    cpu_features: list[_Word]
    memory_bytes: _Size
    memory_budget_bytes: _Size
    disk_free_bytes: _Size
    accelerators: list[_Word]
    os: _Word
    runtimes: list[_Word]
    simulated: bool = True  # a declared profile is, whatever it says
    processor: Annotated[str, Meta(max_length=MAX_NAME)] = ""
    core_kinds: Annotated[list[_Kind], Meta(max_length=16)] = []
    cpu_quota_milli: _Count = 0
    memory_limit_bytes: _Size = 0
    memory_available_bytes: _Size = 0
    throttle_permille: Annotated[int, Meta(ge=0, le=1000)] | None = None
    power: Literal["", "mains", "battery"] = ""
    measured: _Measured | None = None


def profile_of(document: object) -> Profile:
    """Return the profile that plain JSON values declare, marked as simulated.

    Raises:
        ValueError: A field is missing, unknown or wrong; the message says which.
    """
    try:
        fields = msgspec.convert(document, _Declared)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None
    return Profile(
        arch=fields.arch,
        cores=fields.cores,
        cpu_features=tuple(fields.cpu_features),
        memory_bytes=fields.memory_bytes,
        memory_budget_bytes=fields.memory_budget_bytes,
        disk_free_bytes=fields.disk_free_bytes,
        accelerators=tuple(fields.accelerators),
        os=fields.os,
        simulated=True,
        runtimes=tuple(fields.runtimes),
        processor=fields.processor,
        core_kinds=tuple(
            CoreKind(kind.count, kind.capacity, kind.max_mhz) for kind in fields.core_kinds
        ),
        cpu_quota_milli=fields.cpu_quota_milli,
        memory_limit_bytes=fields.memory_limit_bytes,
        memory_available_bytes=fields.memory_available_bytes,
        throttle_permille=fields.throttle_permille,
        power=fields.power,
        measured=_declared_measured(fields),
    )


def _declared_measured(fields: _Declared) -> Measured | None:
    found = fields.measured
    if found is None:
        return None
    return Measured(
        at_ms=found.at_ms,
        engine=found.engine,
        threads=found.threads or fields.cores,
        bandwidth=found.bandwidth,
        step_ns=found.step_ns,
        layer_ns=found.layer_ns,
        kv_fs=found.kv_fs,
        costs=tuple(TypeCost(one.kind, one.decode_fs, one.prefill_fs) for one in found.costs),
        look_fs=found.look_fs,
    )
