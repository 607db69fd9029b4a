"""How far the proof of a candidate came, so that a restart neither passes nor loses it. Pure.

What is measured of the model before it is gone with the process that measured it, and so are the
requests that the candidate answered: both are kept with the execution.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct
from msgspec.structs import replace
from sprat_proto import probes
from sprat_proto.manifest import Activation
from sprat_proto.probes import NOTHING_MORE, Before, Bounds, Breach, Traffic
from sprat_proto.states import ReasonCode

from sprat_agent.sync.ports import ExecutionError

# Begun so often without a slice of its soak in between, a candidate is held to be what ends this
# device each time.
MOST_BEGUN: Final = 5


class Proving(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is kept of an execution's proof."""

    begun: int = 0  # by how many processes, since the last slice of its soak
    before_milli_tps: int = 0  # of what answers under the alias; 0: unknown
    traffic: Traffic = Traffic()


def begin(proving: Proving, before_milli_tps: int, name: str) -> Proving:
    """Return it as it is to be persisted before the candidate is loaded.

    Args:
        proving: As it was persisted.
        before_milli_tps: Measured by this process; 0: not yet.
        name: Of the candidate.

    Raises:
        ExecutionError: PROBE_FAILED: it was begun too often.
    """
    if proving.begun >= MOST_BEGUN:
        raise ExecutionError(
            ReasonCode.PROBE_FAILED,
            f"the agent ended {MOST_BEGUN} times while it proved {name}: it is not tried again",
            expected="a proof that comes to an end",
            found=f"{MOST_BEGUN} that did not",
        )
    return replace(
        proving,
        begun=proving.begun + 1,
        before_milli_tps=proving.before_milli_tps or before_milli_tps,
    )


def watched(proving: Proving, earlier: Traffic, here: Traffic) -> Proving:
    """Return it after a slice of the soak.

    Args:
        proving: As it was persisted.
        earlier: What real requests showed before this process loaded the candidate.
        here: What they showed since.
    """
    return replace(proving, begun=0, traffic=earlier.plus(here))


def breach_of_soak(activation: Activation, proving: Proving) -> Breach | None:
    """Return what real requests showed against the candidate, or None."""
    before = Before(declared_bytes=0, decode_milli_tps=proving.before_milli_tps)
    return probes.breach_of_soak(activation.terms.soak, proving.traffic, before)


def at_the_end(activation: Activation) -> Activation:
    """Return what a candidate is held to once more after its soak.

    Its answers and its memory: what it knows of a text has not changed, and how fast it is beside
    real requests says nothing.
    """
    terms = activation.terms
    again = replace(
        NOTHING_MORE,
        min_score_permille=terms.min_score_permille,
        bounds=Bounds(max_memory_permille=terms.bounds.max_memory_permille),
    )
    return replace(activation, proof=again)
