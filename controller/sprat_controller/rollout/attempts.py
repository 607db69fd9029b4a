"""By which names a device knows an execution. Pure.

A device runs what has one name at most once. So each attempt of an execution has a name of its own
(`<id>`, `<id>.2`, `<id>.3`: another variant, or once more the same), and so has
the way back from one that the planner ended (`<id>.return`, `<id>.2.return`).
"""

from __future__ import annotations

from typing import Final

_RETURN: Final = "return"


def name_of(execution_id: str, attempt: int | None) -> str:
    """Return the name of an attempt, counted from 1; None: the id is a name already."""
    return execution_id if attempt in (None, 1) else f"{execution_id}.{attempt}"


def way_back(name: str) -> str:
    """Return the name of the execution by which a device goes back from this attempt.

    No row has it. Each attempt has its own: a device runs what has one name at most once.
    """
    return f"{name}.{_RETURN}"


def execution_of(name: str) -> str:
    """Return the id of the execution that the name belongs to, whatever attempt it is of."""
    return name.partition(".")[0]


def is_way_back(name: str) -> bool:
    """Tell whether a device goes back by this name."""
    return name.endswith(f".{_RETURN}")
