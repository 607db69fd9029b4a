"""How long audit records are kept, and which are kept all the same: rows, each change recorded.

Nothing expires before somebody says so. What is shorter than the EU AI Act asks for is refused,
unless it is forced with a reason, which stands in the log.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sprat_proto.audit_events import GRAMMAR, Tag
from sqlmodel import Session, col, select

from sprat_controller.audit import log
from sprat_controller.audit.expiries import ALL_TAGS, FLOOR_DAYS, LASTING, MAX_DAYS, Policy
from sprat_controller.errors import ConflictError, NotFoundError, RequestError
from sprat_controller.store.tables import AuditHold, AuditRetention

MAX_HOLDS: Final = 200
_MAX_TAGS: Final = 200


@dataclass(frozen=True)
class Held:
    """What a hold keeps: records that meet all of it, and there is at least one thing to meet.

    Attributes:
        device_id: Records about it, and its own log.
        rollout_id: Records about it, and the own logs of its devices.
        since: Records from then on.
    """

    device_id: str | None = None
    rollout_id: str | None = None
    since: datetime | None = None


def policies(session: Session) -> Sequence[AuditRetention]:
    """Return how long records are kept, by tag; that of all tags first."""
    return session.exec(select(AuditRetention).order_by(col(AuditRetention.tag))).all()


def set_policy(
    session: Session, policy: Policy, reason: str, *, actor: str, now: datetime
) -> AuditRetention:
    """Have records be kept for so long from now on.

    Args:
        session: A transaction.
        policy: For which tags, and how many days.
        reason: Why it is shorter than `FLOOR_DAYS`; empty: it must not be.
        actor: Who says so.
        now: The time.

    Raises:
        RequestError: `retention_too_short`, `bad_retention`: no such tag, or it never expires.
        ConflictError: `too_many_retentions`.
    """
    _check_tag(policy.tag)
    if policy.days is not None and not 0 < policy.days <= MAX_DAYS:
        raise RequestError(
            "bad_retention", f"expected 1 to {MAX_DAYS} days, or for ever, found {policy.days}"
        )
    is_short = policy.days is not None and policy.days < FLOOR_DAYS
    if is_short and not reason.strip():
        raise RequestError(
            "retention_too_short",
            f"expected at least {FLOOR_DAYS} days (EU AI Act, Art. 19 and 26: at least six months),"
            f" found {policy.days}: force it with a reason, which is recorded",
        )
    row = session.get(AuditRetention, policy.tag)
    if row is None and len(policies(session)) >= _MAX_TAGS:
        raise ConflictError(
            "too_many_retentions", f"at most {_MAX_TAGS} tags have one of their own"
        )
    before = Policy(policy.tag, row.days).said() if row else None
    made = AuditRetention(
        tag=policy.tag,
        days=policy.days,
        reason=reason if is_short else "",
        set_at=now,
        set_by=actor,
    )
    made = session.merge(made)
    _record(session, policy, before, made.reason, actor=actor, now=now)
    return made


def clear_policy(session: Session, tag: str, *, actor: str, now: datetime) -> None:
    """Have no policy for a tag any more: that of all tags counts, or without one it is for ever.

    Raises:
        NotFoundError: It has none.
    """
    row = session.get(AuditRetention, tag)
    if row is None:
        named = f"of the tag {tag[:80]!r}" if tag else "of all tags"
        raise NotFoundError("retention_not_found", f"there is no retention {named}")
    session.delete(row)
    session.flush()
    before = Policy(tag, row.days).said()
    _record(session, Policy(tag, None), before, "", actor=actor, now=now)


def holds(session: Session, *, released: bool = True) -> Sequence[AuditHold]:
    """Return the holds by id; those that were released, too, or not."""
    wanted = select(AuditHold).order_by(col(AuditHold.id))
    if not released:
        wanted = wanted.where(col(AuditHold.released_at).is_(None))
    return session.exec(wanted).all()


def add_hold(
    session: Session, hold_id: str, held: Held, reason: str, *, actor: str, now: datetime
) -> AuditHold:
    """Keep records that would expire, until it is released.

    Raises:
        RequestError: `bad_hold`: it says neither what it keeps, or not why.
        ConflictError: `too_many_holds`.
    """
    if held == Held() or not reason.strip():
        raise RequestError(
            "bad_hold", "expected a device, a rollout or a time since when, and a reason"
        )
    if len(holds(session, released=False)) >= MAX_HOLDS:
        raise ConflictError("too_many_holds", f"at most {MAX_HOLDS} holds are there at a time")
    row = AuditHold(
        id=hold_id,
        device_id=held.device_id,
        rollout_id=held.rollout_id,
        since=held.since,
        reason=reason,
        added_at=now,
        added_by=actor,
    )
    session.add(row)
    detail = {
        "device": held.device_id,
        "rollout": held.rollout_id,
        "since": held.since.isoformat() if held.since else None,
        "message": reason,
    }
    log.append(
        session,
        Tag.HOLD_ADDED,
        at=now,
        actor=actor,
        subject=f"hold/{hold_id}",
        after="held",
        detail={name: value for name, value in detail.items() if value is not None},
    )
    return row


def release_hold(
    session: Session, hold_id: str, reason: str, *, actor: str, now: datetime
) -> AuditHold:
    """Let what a hold kept expire.

    Raises:
        NotFoundError: There is no such hold.
        ConflictError: `hold_released`: it was released before.
    """
    row = session.get(AuditHold, hold_id)
    if row is None:
        raise NotFoundError("hold_not_found", f"there is no hold {hold_id[:80]!r}")
    if row.released_at is not None:
        raise ConflictError("hold_released", f"the hold {hold_id} was released before")
    row.released_at, row.released_by = now, actor
    session.add(row)
    named = {"device": row.device_id, "rollout": row.rollout_id, "message": reason}
    log.append(
        session,
        Tag.HOLD_RELEASED,
        at=now,
        actor=actor,
        subject=f"hold/{hold_id}",
        before="held",
        after="released",
        detail={name: value for name, value in named.items() if value},
    )
    return row


def _check_tag(tag: str) -> None:
    if tag in {one.value for one in LASTING}:
        raise RequestError(
            "bad_retention", f"expected a tag of records that expire, found {tag}: it is kept"
        )
    if tag != ALL_TAGS and not GRAMMAR.fullmatch(tag):
        raise RequestError(
            "bad_retention",
            f"expected a tag such as application:inference:answered, found {tag[:80]!r}",
        )


def _record(
    session: Session, policy: Policy, before: str | None, reason: str, *, actor: str, now: datetime
) -> None:
    # `expiries.Expiries` reads these: 0 days is for ever.
    said: dict[str, object] = {"tag": policy.tag, "days": policy.days or 0}
    log.append(
        session,
        Tag.RETENTION_SET,
        at=now,
        actor=actor,
        subject=f"retention/{policy.tag or 'all'}",
        before=before or "none",
        after=policy.said(),
        detail=said | ({"forced": True, "message": reason} if reason else {}),
    )
