"""Whether an assigned variant fits this device as it is now: by the rule that chose it.

The controller chose by what the device had told. What counts is what is true when the work begins:
the budget without what the other aliases hold, the space on the disk, the runtimes that are there,
the rates that were measured. What does not fit is refused with the numbers that were found; the
controller then chooses again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from sprat_proto import fit
from sprat_proto.amounts import most, thousandths
from sprat_proto.candidates import candidate_of
from sprat_proto.fit import Candidate, Profile, Terms, Verdict
from sprat_proto.policy import FitPolicy
from sprat_proto.rates import Basis, Rates
from sprat_proto.states import ReasonCode

from sprat_agent.sync.ledger import Ledger
from sprat_agent.sync.plan import Execution
from sprat_agent.sync.ports import (
    ExecutionError,
    Fetched,
    Registry,
    RejectedError,
    SeenRates,
    Serving,
    Workers,
)

_LOG = logging.getLogger(__name__)
# A rate that is not known here may be known of this hardware class: the controller asked for it.
_NOTHING_AGAINST: Final = (None, ReasonCode.RATE_UNKNOWN)


class Fitting:
    """Judges what is to be installed."""

    def __init__(
        self,
        profile: Callable[[], Profile],
        registry: Registry,
        ledger: Ledger,
        workers: Workers,
    ) -> None:
        """Judge for this device.

        Args:
            profile: Its hardware, read anew each time.
            registry: Knows what the other aliases take.
            ledger: Knows what they are.
            workers: Have seen how fast variants are here.
        """
        self._profile = profile
        self._registry = registry
        self._ledger = ledger
        self._workers = workers

    async def check(self, execution: Execution, fetched: Fetched) -> None:
        """Refuse what does not fit.

        Args:
            execution: What is to be brought.
            fetched: Its verified manifest, and what is still to come.

        Raises:
            RejectedError: Why not, with what it needs and what there is.
        """
        wanted = execution.wanted
        held = await self._held_bytes(wanted.alias)
        candidate = candidate_of(fetched.manifest, wanted.digest)
        here = _room(self._profile(), fetched, held)
        serving = Serving.by(wanted.terms)
        terms = Terms(execution.context, serving.slots, serving.kv_type, wanted.fit_policy)
        candidate = replace(candidate, disk_needed=fetched.missing_bytes)
        seen = _observed(wanted.digest, self._workers.seen(wanted.digest))
        verdict = fit.judge(candidate, here, terms, seen)
        if verdict.code in _NOTHING_AGAINST:
            return
        numbers = _numbers(candidate, here, verdict, wanted.fit_policy or candidate.policy)
        raise _rejection(wanted.name, held, verdict, numbers)

    async def _held_bytes(self, alias: str) -> int:
        """Return the memory that the other aliases need, whether they are in it now or not."""
        held = 0
        for name, committed in self._ledger.committed().items():
            if name == alias:
                continue
            wanted = committed.wanted
            try:
                manifest = (await self._registry.fetched(wanted)).manifest
            except ExecutionError as error:
                _LOG.warning("%s takes no memory: %s", name, error.message)
                continue
            serving = Serving.by(wanted.terms)
            candidate = candidate_of(manifest, wanted.digest)
            need = fit.need(candidate, committed.context, serving.slots, serving.kv_type)
            held += need.memory
        return held


def _room(profile: Profile, fetched: Fetched, held: int) -> Profile:
    """Return the profile with the room that is left for one variant. Pure."""
    free = profile.disk_free_bytes
    if fetched.missing_bytes == 0:  # what is there already is asked for no space
        free = max(free, fit.DISK_RESERVE_BYTES)
    budget = max(0, profile.memory_budget_bytes - held)
    return replace(profile, memory_budget_bytes=budget, disk_free_bytes=free)


def _observed(digest: str, seen: SeenRates) -> Mapping[str, Rates]:
    """Return what was seen of the variant here, if anything. Pure."""
    if not seen.samples:
        return {}
    return {digest: Rates(Basis.OBSERVED, seen.decode_milli_tps, seen.prefill_milli_tps)}


def _rejection(name: str, held: int, verdict: Verdict, numbers: tuple[str, str]) -> RejectedError:
    """Return why a variant is refused. Pure."""
    if verdict.code is None:
        raise AssertionError(f"{name} fits")
    beside = f" ({most(held)} are held by its other aliases)" if held else ""
    expected, found = numbers
    message = f"{name} {verdict.message}{beside}"
    return RejectedError(verdict.code, message, expected=expected, found=found)


def _numbers(
    candidate: Candidate, here: Profile, verdict: Verdict, asked: FitPolicy
) -> tuple[str, str]:
    """Return what was expected and found, where the sentence rounds it. Pure."""
    need, rates = verdict.need, verdict.rates
    floor, rate = thousandths(asked.min_decode_milli_tps), thousandths(rates.decode_milli_tps)
    said: dict[ReasonCode | None, tuple[str, str]] = {
        ReasonCode.INSUFFICIENT_MEMORY: (
            f"{need.memory} bytes of memory",
            f"{here.memory_budget_bytes} bytes",
        ),
        ReasonCode.INSUFFICIENT_DISK: (
            f"{need.disk} bytes of disk",
            f"{here.disk_free_bytes} bytes",
        ),
        ReasonCode.OVER_MEMORY_LIMIT: (
            f"at most {asked.max_memory_bytes} bytes of memory",
            f"{need.memory} bytes",
        ),
        ReasonCode.RUNTIME_MISSING: (candidate.runtime, ", ".join(here.runtimes) or "none"),
        ReasonCode.TOO_SLOW: (f"{floor} tokens a second", rate),
        ReasonCode.ANSWERS_TOO_LATE: (f"at most {asked.max_ttft_ms} ms", f"{verdict.ttft_ms} ms"),
    }
    return said.get(verdict.code, ("", ""))
