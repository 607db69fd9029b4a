"""Reading lists for people: pages of audit, models, tokens. Nothing here changes anything."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlmodel import Session, col, select

from sprat_controller.access import within
from sprat_controller.access.scopes import EVERYTHING, Scope
from sprat_controller.errors import NotFoundError
from sprat_controller.store.tables import (
    AuditRecord,
    DeviceAuditRecord,
    Publisher,
    Release,
    Variant,
)


@dataclass(frozen=True)
class AuditFilter:
    """Which records are wanted: those that meet all of it; None is all."""

    tag: str | None = None
    actor: str | None = None
    subject: str | None = None
    within: Scope = EVERYTHING  # of whoever asks
    device: str | None = None
    rollout: str | None = None
    since: datetime | None = None
    until: datetime | None = None  # not any more
    concerning: Scope = EVERYTHING  # only devices in it, rollouts with one of them, and releases

    def said(self) -> dict[str, str]:
        """Return what is asked for, by name; nothing: all."""
        given = {
            "tag": self.tag,
            "actor": self.actor,
            "subject": self.subject,
            "device": self.device,
            "rollout": self.rollout,
            "since": self.since.isoformat() if self.since else None,
            "until": self.until.isoformat() if self.until else None,
            "within": None if self.within.is_everything else self.within.text,
            "concerning": None if self.concerning.is_everything else self.concerning.text,
        }
        return {name: value for name, value in given.items() if value is not None}


def audit_page(
    session: Session, wanted: AuditFilter, *, after: int, limit: int
) -> Sequence[AuditRecord]:
    """Return records of the controller's log from behind position `after`, oldest first."""
    seen = within.records(session, wanted.within)
    statement = select(AuditRecord).where(col(AuditRecord.seq) > after, seen)
    if not wanted.concerning.is_everything:
        statement = statement.where(within.concerning(session, wanted.concerning))
    for column, value in (
        (col(AuditRecord.tag), wanted.tag),
        (col(AuditRecord.actor), wanted.actor),
        (col(AuditRecord.subject), wanted.subject),
        (col(AuditRecord.device_id), wanted.device),
        (col(AuditRecord.rollout_id), wanted.rollout),
    ):
        if value is not None:
            statement = statement.where(column == value)
    if wanted.since is not None:
        statement = statement.where(col(AuditRecord.at) >= wanted.since)
    if wanted.until is not None:
        statement = statement.where(col(AuditRecord.at) < wanted.until)
    return session.exec(statement.order_by(col(AuditRecord.seq)).limit(limit)).all()


def device_audit_page(
    session: Session, device_id: str, *, after: int, limit: int
) -> Sequence[DeviceAuditRecord]:
    """Return records of a device's log from behind position `after`, oldest first."""
    statement = (
        select(DeviceAuditRecord)
        .where(DeviceAuditRecord.device_id == device_id, col(DeviceAuditRecord.seq) > after)
        .order_by(col(DeviceAuditRecord.seq))
        .limit(limit)
    )
    return session.exec(statement).all()


def publishers(session: Session) -> Sequence[Publisher]:
    """Return all publishers by name."""
    return session.exec(select(Publisher).order_by(col(Publisher.name))).all()


def models(session: Session) -> dict[str, list[Release]]:
    """Return the releases of each model, highest counter first, models by name."""
    statement = select(Release).order_by(col(Release.model), col(Release.counter).desc())
    found: defaultdict[str, list[Release]] = defaultdict(list)
    for release in session.exec(statement):
        found[release.model].append(release)
    return dict(found)


def releases(session: Session, model: str) -> Sequence[Release]:
    """Return the releases of a model, highest counter first.

    Raises:
        NotFoundError: No such model.
    """
    statement = select(Release).where(Release.model == model)
    found = session.exec(statement.order_by(col(Release.counter).desc())).all()
    if not found:
        raise NotFoundError("model_not_found", f"there is no model {model!r}")
    return found


def release(session: Session, model: str, release: str) -> tuple[Release, Sequence[Variant]]:
    """Return a release and its variants, by name.

    Raises:
        NotFoundError: No such model or release.
    """
    row = session.get(Release, (model, release))
    if row is None:
        known = ", ".join(one.release for one in releases(session, model))
        raise NotFoundError(
            "release_not_found", f"the model {model} has no release {release!r}, only {known}"
        )
    variants = session.exec(
        select(Variant)
        .where(Variant.model == model, Variant.release == release)
        .order_by(col(Variant.variant))
    )
    return row, variants.all()
