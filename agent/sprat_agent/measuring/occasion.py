"""Whether there is anything to measure, and with how much memory. Pure."""

from __future__ import annotations

from dataclasses import asdict
from typing import Final

from sprat_proto import canonical
from sprat_proto.fit import MIB, Profile

METHOD: Final = 4  # rises when what is measured means something else
# In all: the file in memory, the model that is read from it, the interpreter and its libraries.
MOST_BYTES: Final = 256 * MIB
PROCESS_BYTES: Final = 64 * MIB
LEAST_MODEL_BYTES: Final = 4 * MIB
LEAST_BYTES: Final = PROCESS_BYTES + 2 * LEAST_MODEL_BYTES
SHARE: Final = 4  # of what is available, the part that may be taken


def basis(profile: Profile, engine: str) -> str:
    """Return the short name of what a measurement was made on: with another, it is made anew."""
    facts = {
        "method": METHOD,
        "engine": engine,
        "arch": profile.arch,
        "processor": profile.processor,
        "threads": profile.cores,
        "core_kinds": [asdict(kind) for kind in profile.core_kinds],
        "cpu_quota_milli": profile.cpu_quota_milli,
        "cpu_features": sorted(profile.cpu_features),
        "memory_mib": profile.memory_bytes // MIB,
    }
    return canonical.sha256_hex(canonical.encode(facts))


def model_bytes(available: int, unspoken: int) -> int:
    """Return how large a measuring model may be; 0: there is too little memory to measure.

    Args:
        available: Bytes of memory that programs may still take.
        unspoken: Bytes of the models' budget that no model takes.
    """
    whole = min(MOST_BYTES, available // SHARE, unspoken)
    each = (whole - PROCESS_BYTES) // 2
    return each if each >= LEAST_MODEL_BYTES else 0
