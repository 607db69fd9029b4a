"""Whether those who asked for a rollout may still do so when its time comes by itself.

Who creates a rollout with a time to start at, or changes it last, does with that what they may do
then; the rollout starts much later, when nobody asks. So at that moment both are looked at again,
and so is whether it is approved: a disabled approver's word is gone, a demoted one's was good when
it was given.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

import sqlalchemy
from sprat_proto.approval import ApproverPolicy
from sprat_proto.states import ReasonCode
from sqlmodel import Session, col

from sprat_controller.access import within
from sprat_controller.access.policy import Permission
from sprat_controller.access.scopes import Scope
from sprat_controller.rollout import approvals
from sprat_controller.rollout.plan import Reason
from sprat_controller.rollout.records import strategy_of
from sprat_controller.rollout.recurring.rules import SkipCode
from sprat_controller.rollout.requests import reach, target_from
from sprat_controller.rollout.strategy import Membership
from sprat_controller.store.tables import Rollout

# Over which devices somebody has a permission by now; None: over none.
Standing: TypeAlias = Callable[[Session, str, Permission], Scope | None]

_NOT_APPROVED: Final = Reason(
    ReasonCode.NOT_APPROVED,
    "too few of those who approved it may still do so: whoever starts it by hand asks for approval"
    " anew",
    "as many approvals as it takes",
)


def objection(
    session: Session, rollout: Rollout, policy: ApproverPolicy, standing: Standing | None
) -> Reason | None:
    """Return why a rollout is not to start by itself by now; None: nothing speaks against it.

    Args:
        session: A transaction.
        rollout: Which is SCHEDULED.
        policy: Who must approve what.
        standing: See `Standing`; None: only approvals are looked at.
    """
    if standing is not None:
        for author in dict.fromkeys((rollout.created_by, rollout.edited_by or rollout.created_by)):
            for permission in _needed(rollout):
                if not _covers(session, rollout, standing(session, author, permission)):
                    return _may_not(author, permission)
    return None if approvals.is_approved(session, rollout, policy) else _NOT_APPROVED


def _needed(rollout: Rollout) -> tuple[Permission, ...]:
    """Return what creating the rollout asks for."""
    if strategy_of(rollout).override:
        return (Permission.ROLL_OUT, Permission.OVERRIDE)
    return (Permission.ROLL_OUT,)


def _covers(session: Session, rollout: Rollout, may: Scope | None) -> bool:
    """Tell whether a scope has all that the rollout can bring something to.

    That is what its target can reach; of one that takes in nobody later, also just the devices that
    are in it.
    """
    if may is None:
        return False
    if may.contains(reach(target_from(rollout.target))):
        return True
    if strategy_of(rollout).membership is Membership.CONTINUOUS:
        return False
    rollout_id = col(Rollout.id)
    has_all = within.has_all(session, may, rollout_id)
    found = sqlalchemy.select(rollout_id).where(rollout_id == rollout.id, has_all)
    return session.connection().execute(found).first() is not None


def _may_not(author: str, permission: Permission) -> Reason:
    return Reason(
        SkipCode.AUTHOR_MAY_NOT,
        f"{author}, who asked for it or changed it last, has {permission} over all of its devices"
        " no more: have somebody start it who may",
        f"{permission} over all of its devices",
    )
