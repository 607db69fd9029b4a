"""Who may approve a rollout, and when it is enough. Pure.

Nobody approves what they asked for or changed last, whatever they are allowed to do otherwise.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sprat_proto.approval import ApproverPolicy, GroupPolicy


@dataclass(frozen=True)
class Given:
    """One approval.

    Attributes:
        actor: Who gave it, as the audit log says it.
        key_id: Of the approver's key that signed it; empty: it was given without a signature.
    """

    actor: str
    key_id: str


def rules(policy: ApproverPolicy, groups: Collection[str]) -> tuple[GroupPolicy, ...]:
    """Return what it takes in each of the groups that ask for something, in order of name."""
    found = (policy.of(group) for group in sorted(groups))
    return tuple(rule for rule in found if rule is not None)


def enforced(asked: Sequence[GroupPolicy]) -> tuple[GroupPolicy, ...]:
    """Return what devices check themselves, which nobody can have them leave out."""
    return tuple(rule for rule in asked if rule.approval == "device-enforced")


def enforcing(policy: ApproverPolicy) -> frozenset[str]:
    """Return the groups whose devices check approvals themselves."""
    return frozenset(one.group for one in policy.groups if one.approval == "device-enforced")


def name_of(actor: str) -> str:
    """Return the name of an actor of the audit log, without what kind it is of."""
    return actor.partition(":")[2] or actor


def missing(
    policy: ApproverPolicy, asked: Sequence[GroupPolicy], given: Collection[Given]
) -> tuple[str, ...]:
    """Return what is still missing, a few words for each group; nothing: it is approved.

    A signature counts while its key is in the policy.
    """
    listed = {approver.key.key_id for approver in policy.approvers}
    signatures = {one.key_id for one in given} & listed
    people = {one.actor for one in given}
    found: list[str] = []
    for rule in asked:
        is_signed = rule.approval == "device-enforced"
        left = rule.threshold - len(signatures if is_signed else people)
        if left > 0:
            what = "signature" if is_signed else "approval"
            found.append(f"{left} {what}{'s' if left > 1 else ''} for the group {rule.group}")
    return tuple(found)
