"""The options of a strategy, which several verbs share, and a strategy in words.

A strategy is said either by options or, as a whole, by a file. What is not said at all is left to
the controller: all at once.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer
from sprat_proto import canonical

from sprat_controller.cli import words
from sprat_controller.cli.client import Json
from sprat_controller.cli.exits import CliError
from sprat_controller.cli.yaml_files import read_yaml
from sprat_controller.errors import RequestError
from sprat_controller.rollout import frozen_strategy, strategy_said, strategy_words
from sprat_controller.rollout.strategy import (
    LADDER,
    AbortAction,
    AbortCriterion,
    DisruptionBudget,
    Extent,
    FailureType,
    Gate,
    Group,
    Membership,
    Pace,
    Retries,
    Strategy,
    WindowSpec,
)

LADDER_WORD: Final = "ladder"
REST: Final = "rest"
_OPTIONS: Final[Mapping[str, Any]] = {
    "groups": Annotated[
        str | None,
        typer.Option(
            metavar=f"{LADDER_WORD}|N,P%,{REST}",
            help="Slices in order: so many devices, then up to so much of all; the last is the"
            " rest. 'ladder' is 1,1%,10%,50%,rest.",
        ),
    ],
    "success": Annotated[
        int | None,
        typer.Option(min=0, max=100, metavar="PERCENT", help="Must succeed to open the next."),
    ],
    "soak": Annotated[
        str | None, typer.Option(metavar="TIME", help="Each group is watched after that: 30m, 2h.")
    ],
    "gate": Annotated[
        bool | None,
        typer.Option("--gate/--no-gate", help="Judge each group's metrics by hardware class."),
    ],
    "ask": Annotated[
        bool, typer.Option("--ask", help="After each group wait for `sprat rollout promote`.")
    ],
    "per_minute": Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Devices started in a minute, at most.")
    ],
    "budget": Annotated[
        list[str] | None,
        typer.Option(
            metavar="LABEL=N|P%", help="Down at once of devices that share it; repeatable."
        ),
    ],
    "abort": Annotated[
        list[str] | None,
        typer.Option(
            metavar="TYPE>P%[/N[/M]][:ACTION]",
            help="From P % and N on, once M ended: failed, rejected, timed-out, rolled-back"
            " or all; pause, cancel, rollback. Repeatable.",
        ),
    ],
    "retries": Annotated[
        int | None, typer.Option(min=0, max=10, metavar="N", help="Of what may pass, a device.")
    ],
    "download_window": Annotated[
        str | None,
        typer.Option(
            metavar="'CRON;TIME;ZONE'", help="When devices may download: '0 1 * * *;4h;Asia/Tokyo'."
        ),
    ],
    "activate_window": Annotated[
        str | None, typer.Option(metavar="'CRON;TIME;ZONE'", help="When they may activate.")
    ],
    "membership": Annotated[
        Membership | None,
        typer.Option(case_sensitive=False, help="CONTINUOUS: devices that come later join."),
    ],
    "priority": Annotated[
        int | None, typer.Option(min=-1000, max=1000, help="The higher goes first on a device.")
    ],
    "override": Annotated[
        str | None,
        typer.Option(metavar="REASON", help="In an emergency: no windows, budgets and pace."),
    ],
    "strategy_file": Annotated[
        Path | None,
        typer.Option("--strategy", metavar="FILE", help="All of it as YAML, and no option above."),
    ],
}
# The word of a strategy that each option says something of.
_CHANGED: Final[Mapping[str, str]] = {
    **dict.fromkeys(("groups", "success", "soak", "gate", "ask"), "groups"),
    "per_minute": "pace",
    "budget": "budgets",
    **{
        name: name
        for name in (
            *("abort", "retries", "download_window", "activate_window"),
            *("membership", "priority", "override"),
        )
    },
}
_TIME: Final = re.compile(r"([0-9]{1,6})(s|m|h|d)", re.ASCII)
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_SLICE: Final = re.compile(r"([0-9]{1,8})|([0-9]{1,3}(?:\.[0-9]{1,3})?) ?%", re.ASCII)
_ABORT: Final = re.compile(
    r"([a-z-]+)>=?([0-9]{1,3}) ?%(?:/([0-9]{1,8})(?:/([0-9]{1,8}))?)?(?::([a-z]+))?",
    re.ASCII,
)
_BUDGET: Final = re.compile(r"([^=]{1,64})=([0-9]{1,8})(%?)", re.ASCII)
_TYPES: Final = {kind.value.lower().replace("_", "-"): kind for kind in FailureType}
_ACTIONS: Final = {action.value.lower(): action for action in AbortAction}


def strategy_options(function: Callable[..., None]) -> Callable[..., None]:
    """Give a verb the options of a strategy in place of its parameter `strategy`.

    It gets a `Strategy`, or None if nothing of one was said.
    """
    return _with_options(function, "strategy", read)


def strategy_changes(function: Callable[..., None]) -> Callable[..., None]:
    """Give a verb the same options in place of its parameter `changes`.

    It gets what makes of a strategy the words that are to be different; None if nothing is said.
    """
    return _with_options(function, "changes", changes)


def _with_options(
    function: Callable[..., None], parameter: str, make: Callable[[Mapping[str, Any]], object]
) -> Callable[..., None]:
    @functools.wraps(function)
    def called(*arguments: Any, **given: Any) -> None:
        said = {name: given.pop(name) for name in _OPTIONS}
        function(*arguments, **{parameter: make(said)}, **given)

    keyword = inspect.Parameter.KEYWORD_ONLY
    signature = inspect.signature(function, eval_str=True)
    own = [one for one in signature.parameters.values() if one.name != parameter]
    options = [
        inspect.Parameter(name, keyword, annotation=kind, default=False if name == "ask" else None)
        for name, kind in _OPTIONS.items()
    ]
    # `verbs.verb` reads a verb's options from exactly this attribute.
    called.__signature__ = signature.replace(parameters=[*own, *options])  # pyright: ignore[reportFunctionMemberAccess, reportAttributeAccessIssue] - the documented override
    return called


def read(said: Mapping[str, Any]) -> Strategy | None:
    """Return the strategy that options say, by their names; None if they say nothing.

    Raises:
        CliError: One of them is not what it should be, or they contradict each other.
    """
    told = _told(said)
    if said.get("override") is not None and not said["override"].strip():
        # As an empty variable of a shell gives it: a rollout that is not what was meant.
        raise words.wrong("expected why in --override, found nothing")
    if not told:
        return None
    if "strategy_file" in told:
        return read_file(told["strategy_file"])
    return _checked(_of_options(said))


def changes(said: Mapping[str, Any]) -> Callable[[Strategy], Json] | None:
    """Return what tells the words of a strategy that options change, as a request says them.

    A file changes all of them. Of pace and retries only what an option says is different; what is
    said of groups is all that is said of them. None: nothing is said.

    Raises:
        CliError: One of them is not what it should be, or they contradict each other.
    """
    told = _told(said)
    if not told:
        return None
    if "strategy_file" in told:
        whole = frozen_strategy.to_json(read_file(told["strategy_file"]))
        return lambda _: whole
    words_told = dict.fromkeys(_CHANGED[name] for name in told)
    if "groups" in words_told and "groups" not in told:
        (first, *_) = (name for name in told if _CHANGED[name] == "groups")
        raise words.wrong(
            f"expected --groups beside --{first}, since groups are changed as a whole, found none"
        )
    fresh = _of_options(said)

    def changed(current: Strategy) -> Json:
        new = {word: getattr(fresh, word) for word in words_told}
        if "pace" in new:
            per_minute = fresh.pace.starts_per_minute
            new["pace"] = msgspec.structs.replace(current.pace, starts_per_minute=per_minute)
        if "retries" in new:
            attempts = fresh.retries.attempts
            new["retries"] = msgspec.structs.replace(current.retries, attempts=attempts)
        after = frozen_strategy.to_json(_checked(msgspec.structs.replace(current, **new)))
        return {word: after[word] for word in words_told}

    return changed


def _told(said: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that say something: a file, or any others.

    Raises:
        CliError: A file and another option are given.
    """
    # `--no-gate` and a 0 say something, too; that nobody is to be asked says nothing.
    told = {
        name: value
        for name, value in said.items()
        if value is not None and value != [] and not (name == "ask" and not value)
    }
    others = [f"--{name.replace('_', '-')}" for name in told if name != "strategy_file"]
    if "strategy_file" in told and others:
        raise words.wrong(
            f"expected --strategy or options, found both: write {others[0]} into the file"
        )
    return told


def read_file(path: Path) -> Strategy:
    """Return the strategy of a YAML file.

    Raises:
        CliError: It cannot be read, or says what no strategy says.
    """
    return _checked(read_yaml(path, Strategy, "strategy"))


def body(strategy: Strategy | None) -> Json:
    """Return what a request says of it: nothing where it is left to the controller."""
    return {} if strategy is None else {"strategy": strategy_said.said(strategy)}


def duration(text: str, what: str) -> int:
    """Read a length of time with its unit, in seconds."""
    found = _TIME.fullmatch(text)
    if found is None:
        raise words.wrong(f"expected {what} such as 90s, 30m, 2h or 7d, found {text!r}")
    return int(found[1]) * _SECONDS[found[2]]


def slices(text: str) -> tuple[Group, ...]:
    """Read groups: `1,1%,10%,50%,rest` or `ladder`.

    A number is so many devices more; a percentage is up to so much of all devices.
    """
    if text == LADDER_WORD:
        return LADDER.groups
    form = f"expected groups such as {LADDER_WORD} or 1,1%,10%,50%,{REST}"
    said = [one.strip() for one in text.split(",")]
    if said[-1] not in (REST, "100%"):
        raise words.wrong(f"{form}, ending with {REST}, found {text!r}")
    groups: list[Group] = []
    before = 0.0  # percent
    for one in said[:-1]:
        found = _SLICE.fullmatch(one)
        if found is None:
            raise words.wrong(f"{form}, found {one!r} in it")
        # Two of the same size are told apart by their numbers.
        name = "" if said.count(one) > 1 else one
        if found[1]:
            if not int(found[1]):
                raise words.wrong(f"{form}, found a group of 0 devices in it")
            groups.append(Group(name=name, devices=int(found[1])))
            continue
        percent = float(found[2])
        if not before < percent < 100:  # noqa: PLR2004 - percent
            raise words.wrong(
                f"{form}, each percentage above the one before and below 100, found {one!r}"
                f" after {before:g}%"
            )
        groups.append(Group(name=name, percent=round(percent - before, 3)))
        before = percent
    return (*groups, Group(name=REST))


def criterion(text: str) -> AbortCriterion:
    """Read `failed>20%:rollback` or `all>5%/3:pause`: met from so much and so many on.

    `all>5%/3/20`: once 20 ended.
    """
    found = _ABORT.fullmatch(text)
    if found is None or found[1] not in _TYPES or (found[5] or "pause") not in _ACTIONS:
        raise words.wrong(
            f"expected an abort criterion TYPE>PERCENT%[/COUNT[/ENDED]][:ACTION] with a type"
            f" {', '.join(sorted(_TYPES))} and an action {', '.join(sorted(_ACTIONS))}, such as"
            f" 'failed>20%:rollback', found {text!r}"
        )
    return AbortCriterion(
        failure=_TYPES[found[1]],
        percent=int(found[2]),
        min_count=int(found[3] or 1),
        min_ended=int(found[4] or 1),
        extent=Extent.GROUP,
        action=_ACTIONS[found[5] or "pause"],
        acts_on=Extent.ROLLOUT,
    )


def budget(text: str) -> DisruptionBudget:
    """Read `site=1` or `site=10%`."""
    found = _BUDGET.fullmatch(text)
    if found is None:
        raise words.wrong(
            f"expected a disruption budget such as site=1 or site=10%, found {text!r}"
        )
    count = int(found[2])
    if found[3]:
        return DisruptionBudget(label=found[1], max_unavailable_percent=count)
    return DisruptionBudget(label=found[1], max_unavailable=count)


def window(text: str) -> WindowSpec:
    """Read `0 1 * * *;4h;Europe/Paris`; without a zone it is UTC."""
    cron, *rest = (part.strip() for part in text.split(";"))
    if not cron or len(rest) not in (1, 2):
        raise words.wrong(
            "expected a window 'CRON;TIME' or 'CRON;TIME;ZONE', such as"
            f" '0 1 * * *;4h;Europe/Paris', found {text!r}"
        )
    zone = rest[1] if len(rest) > 1 else "UTC"
    return WindowSpec(cron=cron, duration_s=duration(rest[0], "a window's length"), zone=zone)


def answered(found: Json | None) -> Strategy:
    """Return the strategy of an answer.

    Raises:
        CliError: A newer controller says more than is known here.
    """
    try:
        return strategy_said.asked(found or {})
    except RequestError as error:
        raise CliError(
            f"the controller has a strategy that is not known here: {error.message}; update sprat"
        ) from error


def in_words(answered: Json | None) -> str:
    """Return of an answer's strategy what it asks, in one line."""
    try:
        return strategy_words.in_words(strategy_said.asked(answered or {}))
    except RequestError:  # a newer controller says more than is known here
        return canonical.encode(answered).decode()


def _of_options(said: Mapping[str, Any]) -> Strategy:
    ladder = said["groups"] == LADDER_WORD
    groups = slices(said["groups"]) if said["groups"] is not None else (Group(),)
    soak = 0 if said["soak"] is None else duration(said["soak"], "a soak")
    base = LADDER if ladder else Strategy()
    retries = said["retries"]
    return Strategy(
        groups=tuple(_terms(one, said, soak) for one in groups),
        membership=said["membership"] or Membership.SNAPSHOT,
        pace=Pace(starts_per_minute=said["per_minute"] or 0),
        budgets=tuple(budget(one) for one in said["budget"] or ()),
        abort=tuple(criterion(one) for one in said["abort"] or ()) or base.abort,
        retries=base.retries if retries is None else Retries(attempts=retries),
        download_window=_window(said["download_window"]),
        activate_window=_window(said["activate_window"]),
        priority=said["priority"] or 0,
        override=said["override"] or "",
    )


def _terms(group: Group, said: Mapping[str, Any], soak_s: int) -> Group:
    return Group(
        name=group.name,
        devices=group.devices,
        percent=group.percent,
        success_percent=group.success_percent if said["success"] is None else said["success"],
        soak_s=soak_s,
        gate=Gate() if said["gate"] else None,
        waits_for_promotion=said["ask"],
    )


def _window(text: str | None) -> WindowSpec | None:
    return None if text is None else window(text)


def _checked(strategy: Strategy) -> Strategy:
    """Hold what was read to the ranges that a file is held to, and the words to each other."""
    try:
        return strategy_said.asked(strategy_said.said(strategy))
    except RequestError as error:
        raise words.wrong(error.message) from error
