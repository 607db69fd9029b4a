"""What a fleet should be, as a file says it, and what that changes: the diff. Pure.

A rollout of the file is known by its name: the newest rollout called `fleet:NAME` stands for it.
What differs is rolled out anew. What was stopped, denied or rolled back is never started again
without a change in the file: a machine that applies it over and over must not bring back what a
person or an abort criterion took away. Of labels only the devices that the file names are changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Final, Literal, TypeAlias

from msgspec import Meta, Struct
from sprat_proto.assignment import AS_DEVICE_DECIDES
from sprat_proto.manifest import is_model_name, is_release_version
from sprat_proto.policy import DEFAULT_PROMPT, Aim, FitPolicy
from sprat_proto.states import RolloutState

from sprat_controller.errors import RequestError
from sprat_controller.fleet import target_filter
from sprat_controller.fleet.filters.tokens import MAX_LENGTH as MAX_FILTER
from sprat_controller.rollout import fit_policy, serving, strategy_said, strategy_words
from sprat_controller.rollout.requests import DEFAULT_CONTEXT, check_running
from sprat_controller.rollout.strategy import ALL_AT_ONCE, Strategy

PREFIX: Final = "fleet:"
MAX_ROLLOUTS: Final = 100
_PAIR: Final = 2  # model and channel
_NOT_STARTED: Final = frozenset({RolloutState.CREATING, RolloutState.READY})
_OVER: Final = frozenset(
    {
        RolloutState.FINISHED,
        RolloutState.STOPPING,
        RolloutState.STOPPED,
        RolloutState.ROLLING_BACK,
        RolloutState.ROLLED_BACK,
        RolloutState.APPROVAL_DENIED,
    }
)
_TAKEN_BACK: Final = _OVER - {RolloutState.FINISHED}

_Word = Annotated[str, Meta(max_length=200)]
_Labels = Annotated[dict[str, str], Meta(max_length=64)]


class FleetFileError(ValueError):
    """The file says what no fleet can be; one sentence that says where."""


class PolicySaid(Struct, frozen=True, forbid_unknown_fields=True):
    """The arguments of `fit_policy.asked`."""

    aim: Aim = Aim.QUALITY_FIRST
    min_decode_tps: float = 0
    max_ttft_ms: int = 0
    prompt_tokens: int = DEFAULT_PROMPT
    max_memory_bytes: int = 0
    min_context: int = 0
    max_quality_loss: float | None = None
    runtimes: tuple[_Word, ...] = ()
    licences: tuple[_Word, ...] = ()

    def asked(self) -> FitPolicy:
        """Return the policy that this asks for, not judged yet."""
        return fit_policy.asked(
            aim=self.aim,
            min_decode_tps=self.min_decode_tps,
            max_ttft_ms=self.max_ttft_ms,
            prompt_tokens=self.prompt_tokens,
            max_memory_bytes=self.max_memory_bytes,
            min_context=self.min_context,
            max_quality_loss=self.max_quality_loss,
            runtimes=self.runtimes,
            licences=self.licences,
        )


class RolloutSaid(Struct, frozen=True, forbid_unknown_fields=True):
    """One rollout of the file; labels, devices and filter all empty: to all."""

    alias: _Word
    release: _Word = ""  # MODEL@RELEASE, or:
    channel: _Word = ""  # MODEL@CHANNEL: the newest release in it at the time
    labels: _Labels = {}
    devices: Annotated[tuple[_Word, ...], Meta(max_length=10_000)] = ()
    filter: Annotated[str, Meta(max_length=MAX_FILTER)] = ""  # in the words of `target_filter`
    context: int = DEFAULT_CONTEXT
    slots: int = 0
    kv_type: _Word = AS_DEVICE_DECIDES.kv_type
    pinned: bool = False
    policy: PolicySaid | None = None
    strategy: Strategy | None = None


class FleetFile(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    schema: Literal[1]
    rollouts: Annotated[dict[_Word, RolloutSaid], Meta(max_length=MAX_ROLLOUTS)] = {}
    # All labels of each device that is named.
    devices: dict[_Word, _Labels] = {}


@dataclass(frozen=True)
class Brought:
    """What a rollout brings to whom and how: what the file and the controller are compared by."""

    release: str
    alias: str
    labels: Mapping[str, str]
    devices: frozenset[str]
    filter: str
    context: int
    slots: int
    kv_type: str
    pinned: bool
    policy: FitPolicy | None
    strategy: Strategy = ALL_AT_ONCE


@dataclass(frozen=True)
class Standing:
    """A rollout as the controller has it; its revision, None: a controller that tells none."""

    id: str
    name: str
    state: RolloutState
    brings: Brought
    revision: int | None = None


class Sign(StrEnum):
    """What a change does; NOTE does nothing."""

    ADD = "+"
    REMOVE = "-"
    CHANGE = "~"
    NOTE = "!"


@dataclass(frozen=True)
class Start:
    """Create a rollout of this name and start it."""

    name: str
    brings: Brought


@dataclass(frozen=True)
class Begin:
    """Start a rollout that is there, as it was looked at."""

    rollout_id: str
    revision: int | None = None


@dataclass(frozen=True)
class Stop:
    """Stop a rollout, as it was looked at."""

    rollout_id: str
    revision: int | None = None


@dataclass(frozen=True)
class Relabel:
    """Give a device these labels and no others."""

    device_id: str
    labels: Mapping[str, str]


Deed: TypeAlias = Start | Begin | Stop | Relabel


@dataclass(frozen=True)
class Change:
    """One difference between the file and the controller, and what makes it none."""

    sign: Sign
    what: str
    lines: tuple[str, ...] = ()
    deeds: tuple[Deed, ...] = ()


def channels(file: FleetFile) -> list[str]:
    """Return the channels that the file names, as MODEL@CHANNEL, each once.

    Raises:
        FleetFileError: One of them cannot be.
    """
    named = {one.channel: name for name, one in file.rollouts.items() if one.channel}
    for channel, name in named.items():
        parts = channel.split("@")
        if len(parts) != _PAIR or not all(map(is_model_name, parts)):
            raise FleetFileError(
                f"rollouts.{name}.channel: expected MODEL@CHANNEL, such as qwen3-0.6b@stable,"
                f" found {channel!r}"
            )
    return sorted(named)


def brought(said: RolloutSaid, where: str, newest: Mapping[str, str]) -> Brought:
    """Return what a rollout of the file brings.

    Args:
        said: The rollout.
        where: Which, for the error.
        newest: The release that each channel stands for, by MODEL@CHANNEL.

    Raises:
        FleetFileError: Something in it cannot be.
    """
    named = _release(said, where, newest)
    model, at, release = named.partition("@")
    if not at or not is_model_name(model) or not is_release_version(release):
        raise FleetFileError(
            f"{where}.release: expected MODEL@RELEASE, such as qwen3-0.6b@1.3.0, found {named!r}"
        )
    if not is_model_name(said.alias):
        raise FleetFileError(
            f"{where}.alias: expected a name of a-z, 0-9 and ._- (at most 64), found {said.alias!r}"
        )
    policy = None if said.policy is None else said.policy.asked()
    strategy = said.strategy or ALL_AT_ONCE
    try:
        terms = serving.asked(said.slots, said.kv_type, pinned=said.pinned)
        check_running(said.context, terms, policy)
        strategy_said.check(strategy)
        target_filter.parse(said.filter)
    except RequestError as error:
        raise FleetFileError(f"{where}: {error.message}") from error
    return Brought(
        release=named,
        alias=said.alias,
        labels=dict(said.labels),
        devices=frozenset(said.devices),
        filter=said.filter,
        context=said.context,
        slots=said.slots,
        kv_type=said.kv_type,
        pinned=said.pinned,
        policy=policy,
        strategy=strategy,
    )


def diff(
    file: FleetFile,
    standing: Sequence[Standing],
    labels: Mapping[str, Mapping[str, str]],
    newest: Mapping[str, str],
) -> list[Change]:
    """Return what differs, in order: new and changed rollouts, those to stop, labels, notes.

    Args:
        file: What should be.
        standing: The controller's rollouts, newest first.
        labels: Of each device that is enrolled.
        newest: The release that each channel stands for, by MODEL@CHANNEL.

    Raises:
        FleetFileError: The file says something that cannot be.
    """
    stands: dict[str, Standing] = {}
    for one in standing:
        if one.name.startswith(PREFIX):
            stands.setdefault(one.name.removeprefix(PREFIX), one)
    wanted = {
        name: brought(said, f"rollouts.{name}", newest) for name, said in file.rollouts.items()
    }
    _check_apart(wanted)
    found = [_rollout(name, one, stands.get(name)) for name, one in wanted.items()]
    found += [
        Change(Sign.REMOVE, f"rollout {name}", (_summary(one.brings),), (_stop(one),))
        for name, one in stands.items()
        if name not in wanted and one.state not in _OVER
    ]
    found += [_labelled(device, has, labels.get(device)) for device, has in file.devices.items()]
    return [one for one in found if one is not None]


def _release(said: RolloutSaid, where: str, newest: Mapping[str, str]) -> str:
    """Return MODEL@RELEASE."""
    if bool(said.release) == bool(said.channel):
        found = "both" if said.release else "neither"
        raise FleetFileError(f"{where}: expected a release or a channel, found {found}")
    if not said.channel:
        return said.release
    if said.channel not in newest:
        raise FleetFileError(
            f"{where}.channel: expected a release in {said.channel}, found none: put one in it"
        )
    return f"{said.channel.partition('@')[0]}@{newest[said.channel]}"


def in_order(changes: Sequence[Change]) -> list[Deed]:
    """Return what is to be done, labels first: they say who is in the targets of rollouts."""
    deeds = [deed for change in changes for deed in change.deeds]
    return sorted(deeds, key=lambda deed: not isinstance(deed, Relabel))


def would_change(changes: Sequence[Change]) -> bool:
    """Tell whether something is to be done."""
    return any(change.deeds for change in changes)


def _rollout(name: str, wanted: Brought, stands: Standing | None) -> Change | None:
    what = f"rollout {name}"
    start = Start(PREFIX + name, wanted)
    if stands is None:
        return Change(Sign.ADD, what, tuple(_facts(wanted)), (start,))
    if stands.brings != wanted:
        differs = tuple(_differences(stands.brings, wanted))
        # What is under way still must not go on beside what follows it.
        end = () if stands.state in _OVER else (_stop(stands),)
        return Change(Sign.CHANGE, what, differs, (*end, start))
    if stands.state in _NOT_STARTED:
        lines = (f"the rollout {stands.id} was created and not started",)
        return Change(Sign.CHANGE, what, lines, (Begin(stands.id, stands.revision),))
    if stands.state in _TAKEN_BACK:
        line = (
            f"the rollout {stands.id} is {stands.state}: it is not started again before the file"
            " says something else"
        )
        return Change(Sign.NOTE, what, (line,))
    return None


def _stop(stands: Standing) -> Stop:
    return Stop(stands.id, stands.revision)


def _labelled(
    device: str, wanted: Mapping[str, str], has: Mapping[str, str] | None
) -> Change | None:
    what = f"device {device}"
    if has is None:
        return Change(Sign.NOTE, what, ("it is not enrolled yet: its labels wait for it",))
    if dict(has) == dict(wanted):
        return None
    lines = [f"+ {key}={wanted[key]}" for key in sorted(wanted.keys() - has.keys())]
    lines += [f"- {key}={has[key]}" for key in sorted(has.keys() - wanted.keys())]
    lines += [
        f"~ {key}={has[key]} -> {wanted[key]}"
        for key in sorted(wanted.keys() & has.keys())
        if wanted[key] != has[key]
    ]
    return Change(Sign.CHANGE, what, tuple(lines), (Relabel(device, dict(wanted)),))


def _check_apart(wanted: Mapping[str, Brought]) -> None:
    """Refuse two rollouts that would take one device's alias from each other for ever."""
    seen: dict[tuple[object, ...], str] = {}
    for name, one in wanted.items():
        key = (one.alias, frozenset(one.labels.items()), one.devices, one.filter)
        other = seen.setdefault(key, name)
        if other != name:
            raise FleetFileError(
                f"rollouts.{name}: expected another alias or target than rollouts.{other} has,"
                f" found the same ({one.alias})"
            )


def _facts(brings: Brought) -> Iterator[str]:
    for name, value in _shown(brings).items():
        yield f"{name}: {value}"


def _differences(before: Brought, after: Brought) -> Iterator[str]:
    was, will = _shown(before), _shown(after)
    for name in {**was, **will}:
        if was.get(name) != will.get(name):
            yield f"{name}: {was.get(name, 'none')} -> {will.get(name, 'none')}"


def _shown(brings: Brought) -> dict[str, str]:
    labels = ",".join(f"{key}={value}" for key, value in sorted(brings.labels.items()))
    devices = ",".join(sorted(brings.devices))
    who = (labels, devices, brings.filter)
    policy = brings.policy
    return {
        "release": brings.release,
        "alias": brings.alias,
        "target": " and ".join(one for one in who if one) or "all devices",
        "context": str(brings.context),
        "slots": str(brings.slots or "as each device decides"),
        "kv_type": brings.kv_type,
        "pinned": "yes" if brings.pinned else "no",
        "policy": "the release's own" if policy is None else _policy(policy),
        "strategy": strategy_words.in_words(brings.strategy),
    }


def _summary(brings: Brought) -> str:
    shown = _shown(brings)
    return f"{shown['release']} as {shown['alias']} to {shown['target']}"


def _policy(policy: FitPolicy) -> str:
    """Return in one line what a policy asks beside the standard one."""
    standard = fit_policy.said(FitPolicy())
    asks = fit_policy.said(policy)
    differs = [f"{name} {value}" for name, value in asks.items() if value != standard[name]]
    return ", ".join(differs) or "as any release may be"
