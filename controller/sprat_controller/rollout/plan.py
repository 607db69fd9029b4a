"""Which variant each device gets, and why: the preview and the snapshot of a rollout. Pure.

`sprat_proto.fit` judges variants. Beside it two things count on a device that already works:
memory that its other aliases hold is not free for this one, and a variant that it runs under this
alias already lies on its disk.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any, Final

from sprat_proto import fit
from sprat_proto.assignment import AS_DEVICE_DECIDES, AT_ANY_TIME, ServingTerms, Windows
from sprat_proto.capability import CAPABILITY, FIT_POLICY, SERVING_TERMS, SIGNED_STRATEGY, WINDOWS
from sprat_proto.policy import FitPolicy
from sprat_proto.rates import Rates
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
    policy: FitPolicy | None = None  # None: the release's own


@dataclass(frozen=True)
class Newer:
    """What a device proved of later releases of a model: it goes back only to what it proved.

    Attributes:
        release: The latest, model@release.
        counter: Its release counter.
        asked: The release counter that is asked for now.
        proved: Digests of what is asked for that it proved before, as far as that is known.
    """

    release: str
    counter: int
    asked: int
    proved: frozenset[str] = frozenset()


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
    enforces_approval: bool = False  # its group's devices check approvals themselves
    newer: Newer | None = None  # a later release of the model that it is known to have proved
    # By digest, the medians of what devices of its hardware class measured.
    observed: Mapping[str, Rates] = field(default_factory=dict[str, Rates])


@dataclass(frozen=True)
class Proceeding:
    """What of a rollout's strategy a device has to understand.

    Attributes:
        windows: When it may bring the variant in.
        is_bound: Whoever approves it signs the strategy's digest.
    """

    windows: Windows = AT_ANY_TIME
    is_bound: bool = False

    @property
    def needs(self) -> int:
        """Agents of this capability understand all of it."""
        if self.is_bound:
            return SIGNED_STRATEGY
        return WINDOWS if self.windows != AT_ANY_TIME else 0


AS_EVER: Final = Proceeding()


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
    policy: FitPolicy | None = None,
    *,
    proceeding: Proceeding = AS_EVER,
) -> list[Planned]:
    """Return one line for each device, in the same order.

    Args:
        devices: Who is in.
        candidates: All variants of the release.
        context: Tokens of context to keep memory for.
        terms: How the chosen variant is to be served.
        policy: What fit is to keep to; None: the release's own.
        proceeding: What of the strategy devices have to understand.
    """
    return [
        plan_device(device, candidates, context, terms, policy, proceeding=proceeding)
        for device in devices
    ]


def plan_device(
    device: DeviceFacts,
    candidates: Sequence[fit.Candidate],
    context: int,
    terms: ServingTerms = AS_DEVICE_DECIDES,
    policy: FitPolicy | None = None,
    *,
    proceeding: Proceeding = AS_EVER,
) -> Planned:
    """Choose for one device."""
    if device.profile is None:
        reason = Reason(
            ReasonCode.NO_PROFILE,
            f"device {device.device_id} has not told its hardware yet: start its agent",
        )
        return _line(device, Action.REJECTED, None, reason, ())
    wanted = Bound("", context, is_open=False, terms=terms, policy=policy)
    proof = max((one.needs for one in candidates), default=0)
    too_old = _too_old(device, wanted, proceeding, proof)
    if too_old is not None:
        return _line(device, Action.REJECTED, None, too_old, ())
    usable = _not_too_old(device.newer, candidates)
    if candidates and not usable and device.newer is not None:
        return _line(device, Action.REJECTED, None, _went_on(device.device_id, device.newer), ())
    choice = _choose(device, device.profile, usable, wanted)
    if choice.chosen is None:
        return _line(device, Action.REJECTED, None, _nothing_fits(device, choice), choice.verdicts)
    if _already_runs(device, replace(wanted, digest=choice.chosen.digest)):
        reason = Reason(ReasonCode.ALREADY_RUNS, "already runs this variant")
        return _line(device, Action.NONE, choice.chosen, reason, choice.verdicts)
    return _line(device, Action.INSTALL, choice.chosen, None, choice.verdicts)


def too_old(
    device_id: str, capability: int, proceeding: Proceeding, *, enforces: bool
) -> Reason | None:
    """Return why an agent would not understand how a rollout proceeds; None if it does.

    Args:
        device_id: Whose agent.
        capability: Of the agent.
        proceeding: How the rollout proceeds.
        enforces: It checks approvals itself.
    """
    if proceeding.is_bound and enforces and capability < SIGNED_STRATEGY:
        what = "an approval of a strategy, which it would check: update it, or roll out all at once"
        return _cannot_be_told(device_id, capability, SIGNED_STRATEGY, what)
    if proceeding.windows != AT_ANY_TIME and capability < WINDOWS:
        what = "windows or a deadline: update it, or roll out without them"
        return _cannot_be_told(device_id, capability, WINDOWS, what)
    return None


def verdict_json(verdict: fit.Verdict) -> dict[str, Any]:
    """Return a verdict as it is stored and answered; sizes in bytes, what is not known None."""
    return {
        "variant": verdict.variant,
        "digest": verdict.digest,
        "fits": verdict.fits,
        "code": None if verdict.code is None else str(verdict.code),
        "message": verdict.message,
        "need": {**asdict(verdict.need), "memory": verdict.need.memory},
        "rates": {
            "basis": str(verdict.rates.basis),
            "decode_tps": _tps(verdict.rates.decode_milli_tps),
            "prefill_tps": _tps(verdict.rates.prefill_milli_tps),
        },
        "ttft_ms": verdict.ttft_ms,
        "loss_percent": None if verdict.loss_ppm is None else verdict.loss_ppm / 10_000,
    }


def _tps(milli: int) -> float | None:
    """Return tokens a second; None: unknown."""
    return milli / 1000 if milli else None


def _not_too_old(
    newer: Newer | None, candidates: Sequence[fit.Candidate]
) -> Sequence[fit.Candidate]:
    """Return the variants that the device would not refuse for their age."""
    if newer is None:
        return candidates
    return [one for one in candidates if one.digest in newer.proved]


def _went_on(device_id: str, newer: Newer) -> Reason:
    return Reason(
        ReasonCode.RELEASE_TOO_OLD,
        f"device {device_id} has proved {newer.release} and never this earlier release, so it"
        " would refuse it: publish it anew with a higher counter",
        expected=f"release counter {newer.counter} or higher",
        found=f"release counter {newer.asked}",
    )


def _choose(
    device: DeviceFacts,
    profile: fit.Profile,
    candidates: Sequence[fit.Candidate],
    wanted: Bound,
) -> fit.Choice:
    free = max(0, profile.memory_budget_bytes - device.reserved_bytes)
    on_disk = {device.running_digest}
    terms = wanted.terms
    return fit.choose(
        [replace(one, disk_needed=0) if one.digest in on_disk else one for one in candidates],
        replace(profile, memory_budget_bytes=free),
        fit.Terms(wanted.context, terms.slots or 1, terms.kv_type, wanted.policy),
        device.observed,
    )


def _already_runs(device: DeviceFacts, settled: Bound) -> bool:
    """Tell whether the device proved the variant, runs it, and is bound to nothing else."""
    return device.running_digest == settled.digest and device.desired == settled


def _too_old(
    device: DeviceFacts, wanted: Bound, proceeding: Proceeding, proof: int
) -> Reason | None:
    """Return why the device's agent would not understand what it would be told.

    Args:
        device: Whose agent.
        wanted: What it would be told.
        proceeding: How the rollout proceeds.
        proof: The capability that the release's manifests need.
    """
    needs, what = 0, ""
    if proof > device.capability:
        needs = proof
        what = "what the release holds it to: update it, or publish the release without --probes"
    elif asked := too_old(
        device.device_id, device.capability, proceeding, enforces=device.enforces_approval
    ):
        return asked
    elif wanted.policy is not None:
        needs, what = FIT_POLICY, "a policy of fit: update it, or leave it to the release"
    elif wanted.terms != AS_DEVICE_DECIDES:
        needs = SERVING_TERMS
        what = "slots, KV type or pinning: update it, or leave them to the device"
    if device.capability >= needs:
        return None
    return _cannot_be_told(device.device_id, device.capability, needs, what)


def _cannot_be_told(device_id: str, capability: int, needs: int, what: str) -> Reason:
    return Reason(
        ReasonCode.AGENT_TOO_OLD,
        f"the agent of device {device_id} cannot be told {what}",
        expected=f"capability {needs} or higher",
        found=f"capability {capability}",
    )


def _nothing_fits(device: DeviceFacts, choice: fit.Choice) -> Reason:
    # The smallest says best what is missing.
    least = min(choice.verdicts, key=lambda one: (one.need.memory, one.variant), default=None)
    best = f": {least.variant} {least.message}" if least else ""
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
