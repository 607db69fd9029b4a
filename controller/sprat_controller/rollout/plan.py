"""Which variant each device gets, and why: the preview and the snapshot of a rollout. Pure.

`sprat_proto.fit` judges variants. Beside it two things count on a device that already works:
memory that its other aliases hold is not free for this one, and a variant that it runs under this
alias already lies on its disk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

from sprat_proto import fit
from sprat_proto.assignment import AS_DEVICE_DECIDES, ServingTerms
from sprat_proto.capability import CAPABILITY, SERVING_TERMS
from sprat_proto.states import ReasonCode


class Action(StrEnum):
    """What a rollout would do on a device."""

    INSTALL = "INSTALL"
    NONE = "NONE"
    REJECTED = "REJECTED"


@dataclass(frozen=True)
class Reason:
    """The machine-readable answer to "why"."""

    code: str
    message: str
    expected: str = ""
    found: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return the reason as it is stored and answered."""
        return asdict(self)


@dataclass(frozen=True)
class Bound:
    """What is desired under the alias now."""

    digest: str
    context: int  # tokens
    is_open: bool  # its execution has not ended
    terms: ServingTerms = AS_DEVICE_DECIDES


@dataclass(frozen=True)
class DeviceFacts:
    """What the plan knows of a device, under the alias of the rollout."""

    device_id: str
    profile: fit.Profile | None
    hardware_class: str | None = None
    desired: Bound | None = None
    running_digest: str | None = None
    running_name: str | None = None  # model@release+variant
    reserved_bytes: int = 0  # memory that the device's other aliases are bound to
    capability: int = CAPABILITY  # of its agent


@dataclass(frozen=True)
class Planned:
    """One line of a plan."""

    device_id: str
    simulated: bool
    hardware_class: str | None
    action: Action
    variant: str | None
    digest: str | None
    current: str | None  # model@release+variant that answers under the alias now
    reason: Reason | None
    verdicts: tuple[fit.Verdict, ...]


def plan(
    devices: Sequence[DeviceFacts],
    candidates: Sequence[fit.Candidate],
    context: int,
    terms: ServingTerms = AS_DEVICE_DECIDES,
) -> list[Planned]:
    """Return one line for each device, in the same order.

    Args:
        devices: Who is in.
        candidates: All variants of the release.
        context: Tokens of context to keep memory for.
        terms: How the chosen variant is to be served.
    """
    return [plan_device(device, candidates, context, terms) for device in devices]


def plan_device(
    device: DeviceFacts,
    candidates: Sequence[fit.Candidate],
    context: int,
    terms: ServingTerms = AS_DEVICE_DECIDES,
) -> Planned:
    """Choose for one device."""
    if device.profile is None:
        reason = Reason(
            ReasonCode.NO_PROFILE,
            f"device {device.device_id} has not told its hardware yet: start its agent",
        )
        return _line(device, Action.REJECTED, None, reason, ())
    if terms != AS_DEVICE_DECIDES and device.capability < SERVING_TERMS:
        return _line(device, Action.REJECTED, None, _too_old(device), ())
    choice = _choose(device, device.profile, candidates, context, terms)
    if choice.chosen is None:
        return _line(device, Action.REJECTED, None, _nothing_fits(device, choice), choice.verdicts)
    if _already_runs(device, Bound(choice.chosen.digest, context, is_open=False, terms=terms)):
        reason = Reason(ReasonCode.ALREADY_RUNS, "already runs this variant")
        return _line(device, Action.NONE, choice.chosen, reason, choice.verdicts)
    return _line(device, Action.INSTALL, choice.chosen, None, choice.verdicts)


def verdict_json(verdict: fit.Verdict) -> dict[str, Any]:
    """Return a verdict as it is stored and answered; sizes in bytes."""
    return {
        "variant": verdict.variant,
        "digest": verdict.digest,
        "fits": verdict.fits,
        "code": None if verdict.code is None else str(verdict.code),
        "message": verdict.message,
        "need": {**asdict(verdict.need), "memory": verdict.need.memory},
    }


def _choose(
    device: DeviceFacts,
    profile: fit.Profile,
    candidates: Sequence[fit.Candidate],
    context: int,
    terms: ServingTerms,
) -> fit.Choice:
    free = max(0, profile.memory_budget_bytes - device.reserved_bytes)
    on_disk = {device.running_digest}
    return fit.choose(
        [replace(one, disk_needed=0) if one.digest in on_disk else one for one in candidates],
        replace(profile, memory_budget_bytes=free),
        context,
        terms.slots or 1,
        terms.kv_type,
    )


def _already_runs(device: DeviceFacts, settled: Bound) -> bool:
    """Tell whether the device proved the variant, runs it, and is bound to nothing else."""
    return device.running_digest == settled.digest and device.desired == settled


def _too_old(device: DeviceFacts) -> Reason:
    return Reason(
        ReasonCode.AGENT_TOO_OLD,
        f"the agent of device {device.device_id} cannot be told slots, KV type or pinning: update"
        " it, or leave them to the device",
        expected=f"capability {SERVING_TERMS} or higher",
        found=f"capability {device.capability}",
    )


def _nothing_fits(device: DeviceFacts, choice: fit.Choice) -> Reason:
    best = (
        f": {choice.verdicts[-1].variant} {choice.verdicts[-1].message}" if choice.verdicts else ""
    )
    held = (
        f" ({device.reserved_bytes // fit.MIB} MiB are held by the device's other aliases)"
        if device.reserved_bytes
        else ""
    )
    return Reason(
        ReasonCode.NO_VARIANT_FITS,
        f"none of {len(choice.verdicts)} variants fits{best}{held}",
    )


def _line(
    device: DeviceFacts,
    action: Action,
    chosen: fit.Candidate | None,
    reason: Reason | None,
    verdicts: tuple[fit.Verdict, ...],
) -> Planned:
    return Planned(
        device_id=device.device_id,
        simulated=device.profile is not None and device.profile.simulated,
        hardware_class=device.hardware_class,
        action=action,
        variant=chosen.variant if chosen else None,
        digest=chosen.digest if chosen else None,
        current=device.running_name,
        reason=reason,
        verdicts=verdicts,
    )
