"""A strategy in words, in one line for people. Pure.

Two strategies that differ differ in words: a diff of them always shows what is different.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

import msgspec

from sprat_controller.rollout.strategy import (
    AbortCriterion,
    Deadlines,
    DisruptionBudget,
    Extent,
    Gate,
    Group,
    Membership,
    Retries,
    Strategy,
    WindowSpec,
)

ALL_AT_ONCE_SAID: Final = "all at once"
_PLAIN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9 %._/-]*", re.ASCII)
_LAST_MOMENT: Final = 253_402_300_799  # that a date can say: the end of the year 9999
_UNITS: Final = (("d", 86_400), ("h", 3_600), ("min", 60))


def in_words(strategy: Strategy) -> str:
    """Return all that the strategy asks."""
    return "; ".join(_clauses(strategy)) or ALL_AT_ONCE_SAID


def length(seconds: int) -> str:
    """Return a length of time in its largest unit that is exact: `90 s`, `2 h`."""
    for unit, size in _UNITS:
        if seconds and seconds % size == 0:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def _clauses(strategy: Strategy) -> Iterator[str]:
    yield from _groups(strategy.groups)
    if strategy.membership is Membership.CONTINUOUS:
        yield "devices that come later join"
    if strategy.pace.max_in_progress:
        yield f"at most {strategy.pace.max_in_progress} under way"
    if strategy.pace.starts_per_minute:
        yield f"at most {strategy.pace.starts_per_minute} started in a minute"
    yield from (_budget(one) for one in strategy.budgets)
    yield from (_criterion(one) for one in strategy.abort)
    yield from _deadlines(strategy.deadlines)
    yield from _retries(strategy.retries)
    yield from _window("downloads", strategy.download_window)
    yield from _window("activates", strategy.activate_window)
    if strategy.ends_at:
        yield f"ends {_moment(strategy.ends_at)}"
    if strategy.priority:
        yield f"priority {strategy.priority}"
    if strategy.override:
        yield f"without windows, budgets and pace: {_quoted(strategy.override)}"


def _groups(groups: tuple[Group, ...]) -> Iterator[str]:
    sizes = [_slice(one) for one in groups]
    if sizes != [_slice(Group())]:
        yield f"groups {', '.join(sizes)}"
    terms = [", ".join(_terms(one)) for one in groups]
    if len(set(terms)) == 1:
        if terms[0]:
            yield f"each group: {terms[0]}"
        return
    yield from (f"group {number}: {said}" for number, said in enumerate(terms) if said)


def _slice(group: Group) -> str:
    size = "the rest"
    if group.devices:
        size = f"{group.devices} device{'s' if group.devices > 1 else ''}"
    elif group.percent:
        # Not `g`: it would round what differs to the same.
        size = f"{group.percent if group.percent % 1 else int(group.percent)} %"
    named = f"{_named(group.name)}: {size}" if group.name else size
    return f"{named} of those with {_quoted(group.filter)}" if group.filter else named


def _terms(group: Group) -> Iterator[str]:
    standard = Group()
    if group.success_percent != standard.success_percent:
        yield f"{group.success_percent} % must succeed"
    if group.soak_s:
        yield f"soaks {length(group.soak_s)}"
    if group.gate is not None:
        differs = ", ".join(_differences(group.gate, Gate()))
        yield f"gate on metrics ({differs})" if differs else "gate on metrics"
    if group.waits_for_promotion:
        yield "waits for promotion"


def _budget(budget: DisruptionBudget) -> str:
    share = budget.max_unavailable_percent
    limit = f"{share} %" if share else f"{budget.max_unavailable}"
    return f"at most {limit} down of each {_named(budget.label)}"


def _criterion(one: AbortCriterion) -> str:
    what = "ended badly" if one.failure.value == "ALL" else one.failure.value
    share = f"{one.percent} % and {one.min_count} {what} in a {one.extent.value.lower()}"
    if one.min_ended > 1:
        share += f" of which {one.min_ended} ended"
    acts = "" if one.acts_on is Extent.ROLLOUT else " of the group"
    return f"{one.action.value}{acts} from {share}"


def _deadlines(deadlines: Deadlines) -> Iterator[str]:
    differs = ", ".join(_differences(deadlines, Deadlines()))
    if differs:
        yield f"deadlines: {differs}"


def _retries(retries: Retries) -> Iterator[str]:
    differs = ", ".join(_differences(retries, Retries(attempts=0)))
    if differs:
        yield f"retries: {differs}"


def _differences(value: msgspec.Struct, standard: msgspec.Struct) -> Iterator[str]:
    for field in msgspec.structs.fields(value):
        found = getattr(value, field.name)
        if found == getattr(standard, field.name):
            continue
        what = field.name.removesuffix("_s")
        if what != field.name:
            found = length(found)
        yield f"{what.replace('_', ' ')} {'any' if found is None else found}"


def _window(what: str, spec: WindowSpec | None) -> Iterator[str]:
    if spec is not None:
        opens = f"at {_quoted(spec.cron)} {_named(spec.zone)}"
        yield f"{what} {opens} for {length(spec.duration_s)}"


def _moment(seconds: int) -> str:
    if seconds > _LAST_MOMENT:
        return f"{seconds} s after 1970"
    return datetime.fromtimestamp(seconds, UTC).isoformat(sep=" ").replace("+00:00", " UTC")


def _named(word: str) -> str:
    """Return a word so that it cannot be taken for what stands around it."""
    return word if _PLAIN.fullmatch(word) else _quoted(word)


def _quoted(text: str) -> str:
    return json.dumps(text)
