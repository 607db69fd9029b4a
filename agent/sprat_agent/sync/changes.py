"""What an assignment would make different on this device. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from sprat_proto.approval import Change
from sprat_proto.assignment import Assignment

from sprat_agent.sync.plan import Committed


def changes(
    assignment: Assignment, committed: Mapping[str, Committed], known: frozenset[str]
) -> tuple[Change, ...]:
    """Return all that would become different, of which each must be approved where that is asked.

    Args:
        assignment: The one that is to be accepted.
        committed: What each alias stands for now.
        known: Ids of executions that were begun or ended here: they are never run again.
    """
    context = assignment.policy.context
    found: list[Change] = []
    for one in assignment.models:
        now = committed.get(one.alias)
        if (
            now is not None
            and (now.wanted.digest, now.wanted.run_until) == (one.digest, one.run_until)
            and (now.wanted.terms, now.wanted.fit_policy) == (one.terms, one.fit_policy)
            and (now.context == context or one.execution_id in known)
        ):
            continue
        others = (other.context for alias, other in committed.items() if alias != one.alias)
        held = max(others, default=0)
        found.append(
            Change(
                one.alias,
                one.digest,
                context,
                run_until=one.run_until,
                held_context=held,
                terms=one.terms,
                policy=one.fit_policy,
                windows=one.times,
            )
        )
    assigned = {one.alias for one in assignment.models}
    gone = sorted(set(committed) - assigned)
    return (*found, *(Change(alias, "", context) for alias in gone))
