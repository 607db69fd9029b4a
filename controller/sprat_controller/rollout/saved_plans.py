"""What a plan that was looked at rests on, and what of that is different now. Pure.

A plan is kept to be carried out as it was shown. It is stale once a device came or went, has other
hardware, runs something else, or would get something else: each is named. Rates and memory that
change without changing the choice make no plan stale.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from msgspec import Struct
from sprat_proto import canonical

from sprat_controller.errors import ConflictError
from sprat_controller.rollout.plan import Planned

MAX_NAMED: Final = 5  # changes that an error names


class Line(Struct, frozen=True, forbid_unknown_fields=True):
    """What of one device's line must be the same when it is carried out; empty: nothing."""

    device: str
    hardware: str
    runs: str  # model@release+variant
    action: str
    variant: str
    digest: str
    code: str


def rests_on(lines: Sequence[Planned]) -> tuple[Line, ...]:
    """Return what a plan rests on, in order of the devices' names."""
    made = (
        Line(
            device=line.device_id,
            hardware=line.hardware_class or "",
            runs=line.current or "",
            action=str(line.action),
            variant=line.variant or "",
            digest=line.digest or "",
            code=str(line.reason.code) if line.reason else "",
        )
        for line in lines
    )
    return tuple(sorted(made, key=lambda line: line.device))


def digest_of(lines: Sequence[Line]) -> str:
    """Return the hex SHA-256 by which two plans that rest on the same are equal."""
    return canonical.sha256_hex(canonical.encode(lines))


def changes(before: Sequence[Line], now: Sequence[Line]) -> Iterator[str]:
    """Yield what is different now, a clause for each device, in order of name."""
    was = {line.device: line for line in before}
    present = {line.device: line for line in now}
    for device in sorted(was.keys() | present.keys()):
        old, new = was.get(device), present.get(device)
        if old is None:
            yield f"device {device} is in the target now"
        elif new is None:
            yield f"device {device} is no longer in the target"
        elif old != new:
            yield f"device {device} {_difference(old, new)}"


def check_fresh(plan_id: str, before: Sequence[Line], now: Sequence[Line]) -> None:
    """Refuse a plan that would no longer do what was shown.

    Raises:
        ConflictError: `plan_stale`; it names what changed.
    """
    found = list(changes(before, now))
    if not found:
        return
    named = "; ".join(found[:MAX_NAMED])
    more = f" and {len(found) - MAX_NAMED} more" if len(found) > MAX_NAMED else ""
    raise ConflictError(
        "plan_stale",
        f"the plan {plan_id} is stale: {named}{more}; plan again",
        {"changes": len(found)},
    )


def _difference(old: Line, new: Line) -> str:
    if old.hardware != new.hardware:
        return f"has other hardware now ({old.hardware or 'none'} -> {new.hardware or 'none'})"
    if old.runs != new.runs:
        return f"runs {new.runs or 'nothing'} now, not {old.runs or 'nothing'}"
    if (old.variant, old.digest) != (new.variant, new.digest):
        return f"would get {new.variant or 'nothing'} now, not {old.variant or 'nothing'}"
    return f"would be {_outcome(new)} now, not {_outcome(old)}"


def _outcome(line: Line) -> str:
    return f"{line.action} ({line.code})" if line.code else line.action
