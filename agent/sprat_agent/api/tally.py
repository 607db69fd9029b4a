"""What happened to this device's models since the agent started, by the events that audit gets."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Final

from sprat_proto.audit_events import Tag
from sprat_proto.states import ReasonCode, Step

from sprat_agent.api.recorder import Histogram
from sprat_agent.sync.plan import Execution, Reason

# From a small board's page cache to a large model on an SD card, in seconds.
LOAD_BOUNDS: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0)
DOWNLOAD: Final = "download"
LOAD: Final = "load"
# Bytes, names or signatures that are not as they were signed.
_UNPROVED: Final = frozenset(
    {
        ReasonCode.SIGNATURE_INVALID,
        ReasonCode.SIGNER_UNKNOWN,
        ReasonCode.DIGEST_MISMATCH,
        ReasonCode.SIZE_MISMATCH,
        ReasonCode.MANIFEST_INVALID,
        ReasonCode.MODEL_FILE_INVALID,
        ReasonCode.METADATA_REFUSED,
        ReasonCode.NOT_RELEASED,
        ReasonCode.REPOSITORIES_DISAGREE,
    }
)
# What fails later was read from the disk again: its load is told as an event.
_TAKING_IN: Final = frozenset({Step.DOWNLOADING, Step.VERIFYING, Step.INSTALLING})


class Tally:
    """The counters; they begin at zero with each start of the agent."""

    def __init__(self) -> None:
        self.loads: defaultdict[str, Histogram] = defaultdict(lambda: Histogram(LOAD_BOUNDS))
        self.verify_failures: Counter[str] = Counter({DOWNLOAD: 0, LOAD: 0})
        self.crashes: Counter[str] = Counter()  # of workers that held a model, by alias

    def note(self, tag: str, details: Mapping[str, object]) -> None:
        """Count an event of `runtime.events`; others are nothing to this."""
        alias, took_ms = details.get("alias"), details.get("ms")
        match tag:
            case Tag.MODEL_LOADED if isinstance(alias, str) and isinstance(took_ms, int):
                self.loads[alias].observe(took_ms / 1000)
            case Tag.MODEL_REFUSED if details.get("code") in _UNPROVED:
                self.verify_failures[LOAD] += 1
            case Tag.MODEL_CRASHED if isinstance(alias, str):
                self.crashes[alias] += 1
            case _:
                pass

    def failed(self, execution: Execution, reason: Reason) -> None:
        """Count an execution that ends in the phase that it is in."""
        if execution.phase in _TAKING_IN and reason.code in _UNPROVED:
            self.verify_failures[DOWNLOAD] += 1
