"""A strategy as people say it: read, held together, and said again. Pure.

`strategy` says which words there are and their ranges; here is what they must be to each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final, cast

import msgspec
from sprat_proto import windows
from sprat_proto.windows import WindowError

from sprat_controller import complaints
from sprat_controller.errors import RequestError
from sprat_controller.fleet import target_filter
from sprat_controller.rollout.strategy import (
    AbortAction,
    AbortCriterion,
    DisruptionBudget,
    Extent,
    FailureType,
    Group,
    Strategy,
    WindowSpec,
)

_ALL: Final = 100  # percent


def asked(said: Mapping[str, Any]) -> Strategy:
    """Return the strategy that JSON or YAML says.

    Raises:
        RequestError: The first thing that is not as it must be.
    """
    try:
        strategy = msgspec.convert(said, Strategy)
    except msgspec.ValidationError as error:
        path, message = complaints.with_found(str(error), said)
        raise _wrong(path.removeprefix("$"), message) from error
    check(strategy)
    return strategy


def edited(strategy: Strategy, words: Mapping[str, Any]) -> Strategy:
    """Return a strategy of which each word that is said again is what is said now, as a whole.

    Raises:
        RequestError: The first thing that is not as it must be.
    """
    return asked({**said(strategy), **words})


def said(strategy: Strategy) -> dict[str, Any]:
    """Return the strategy as JSON says it: each in one way, without what is as by default."""
    return _fields(strategy)


def check(strategy: Strategy) -> None:
    """Check what no single word can show.

    Raises:
        RequestError: The first thing that is not as it must be.
    """
    _check_groups(strategy.groups)
    for number, budget in enumerate(strategy.budgets):
        _check_budget(budget, f".budgets[{number}]")
    for number, criterion in enumerate(strategy.abort):
        _check_criterion(criterion, f".abort[{number}]")
    _check_window(strategy.download_window, ".download_window")
    _check_window(strategy.activate_window, ".activate_window")
    if strategy.override and not strategy.override.strip():
        raise _wrong(".override", "expected why it must be, found only spaces")
    retries = strategy.retries
    if retries.ceiling_s < retries.base_s:
        raise _wrong(
            ".retries.ceiling_s",
            f"expected at least base_s ({retries.base_s}), found {retries.ceiling_s}",
        )


def _check_groups(groups: tuple[Group, ...]) -> None:
    names = [group.name for group in groups if group.name]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise _wrong(".groups", f"expected each name once, found {twice!r} twice")
    for number, group in enumerate(groups):
        where = f".groups[{number}]"
        if not 0 <= group.percent <= _ALL:  # what is no number passes every other check
            raise _wrong(f"{where}.percent", f"expected 0 to 100, found {group.percent}")
        if group.devices and group.percent:
            raise _wrong(where, "expected devices or percent, found both")
        _check_filter(group.filter, f"{where}.filter")
        takes_all = not (group.devices or group.percent or group.filter)
        if takes_all and number + 1 < len(groups):
            raise _wrong(where, "expected devices, percent or filter: only the last takes the rest")
    last = groups[-1]
    if last.filter or last.devices or 0 < last.percent < _ALL:
        raise _wrong(
            f".groups[{len(groups) - 1}]",
            "expected the last group to take all that is left (neither devices nor percent nor"
            " filter), else some devices would never get a turn",
        )
    total = sum(group.percent for group in groups)
    if total > _ALL and last.percent < _ALL:
        raise _wrong(".groups", f"expected at most 100 percent in all, found {total:g}")


def _check_filter(text: str, where: str) -> None:
    try:
        target_filter.parse(text)
    except RequestError as error:
        raise _wrong(where, error.message) from error


def _check_window(spec: WindowSpec | None, where: str) -> None:
    if spec is None:
        return
    try:
        windows.parse(windows.WindowSpec(spec.cron, spec.duration_s, spec.zone))
    except WindowError as error:
        raise _wrong(where, str(error)) from error


def _check_budget(budget: DisruptionBudget, where: str) -> None:
    limits = (budget.max_unavailable, budget.max_unavailable_percent)
    if all(limits) or not any(limits):
        found = "both" if all(limits) else "neither"
        raise _wrong(where, f"expected max_unavailable or max_unavailable_percent, found {found}")


def _check_criterion(criterion: AbortCriterion, where: str) -> None:
    if criterion.action is AbortAction.ROLLBACK and criterion.failure is FailureType.REJECTED:
        raise _wrong(
            where,
            "expected PAUSE or CANCEL for REJECTED, found ROLLBACK: what was rejected runs nothing"
            " that could be taken back",
        )
    if criterion.extent is Extent.ROLLOUT and criterion.acts_on is Extent.GROUP:
        raise _wrong(
            where, "expected acts_on ROLLOUT where extent is ROLLOUT: no group is to blame"
        )


def _fields(value: msgspec.Struct) -> dict[str, Any]:
    """Return a struct without its defaults; msgspec itself tells a default text by identity."""
    return {
        field.encode_name: _spelled(getattr(value, field.name))
        for field in msgspec.structs.fields(value)
        if getattr(value, field.name) != _default(field)
    }


def _default(field: msgspec.structs.FieldInfo) -> object:
    made = field.default_factory
    return field.default if made is msgspec.NODEFAULT else made()


def _spelled(value: object) -> object:
    match value:
        case msgspec.Struct():
            return _fields(value)
        case tuple():
            return [_spelled(one) for one in cast("tuple[object, ...]", value)]
        case StrEnum():
            return value.value
        case float() if value.is_integer():
            return int(value)  # 9.0 and 9 are one percentage
        case _:
            return value


def _wrong(where: str, message: str) -> RequestError:
    return RequestError("invalid_rollout", f"strategy{where}: {message}")
