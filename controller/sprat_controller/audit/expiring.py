"""Erasing the bodies of audit records that have expired, batch by batch.

A batch is one transaction: the record that says which expired, the rows by which triggers let them,
and the bodies. Killed anywhere, it was done or it was not. Only what is below a checkpoint that is
signed may go, and the next batch only when the record of the one before is below one, too: an
export up to the newest checkpoint always holds the word for what it lacks.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

import sqlalchemy as sql
from sprat_proto import notes
from sprat_proto.audit_events import Tag
from sprat_proto.notes import NoteError
from sqlmodel import Session, col

from sprat_controller.audit import checkpoints, expiries, log, retention
from sprat_controller.audit.checkpoints import Checkpoints
from sprat_controller.audit.expiries import ALL_TAGS, LASTING, Policy, ranges_of
from sprat_controller.errors import ConflictError
from sprat_controller.signer.port import SignerError
from sprat_controller.store.session import BUSY_TIMEOUT_MS, Database
from sprat_controller.store.tables import (
    AuditExpiry,
    AuditHold,
    AuditRecord,
    Device,
    DeviceAuditRecord,
    Execution,
    of,
)
from sprat_controller.store.tables.audit import HAS_BODY

LOOK_EVERY: Final = timedelta(hours=1)
# Between two batches of one look: each asks the signer, which has others to serve.
PAUSE: Final = timedelta(seconds=3)
BATCH: Final = 1000
# Of devices in one record, which must not be longer than an entry of a tile may be.
_MAX_DEVICES: Final = 300
_logger = logging.getLogger(__name__)
_RECORDS, _DEVICE_RECORDS = of(AuditRecord), of(DeviceAuditRecord)
_EXECUTIONS: Final = of(Execution)


class _Kept(NamedTuple):
    """A record of a device's log."""

    device_id: str
    seq: int
    received_at: datetime


@dataclass(frozen=True)
class _Rule:
    """A policy at a moment, and what it does not reach."""

    policy: Policy
    cutoff: datetime
    but_tags: frozenset[str]
    holds: Sequence[AuditHold]


class Expiring:
    """Erases what has expired; one thread, and it does not matter which controller's."""

    def __init__(self, database: Database, checkpoints_: Checkpoints) -> None:
        self._database = database
        self._checkpoints = checkpoints_
        self._due: datetime | None = None
        self._is_settled = True  # nothing that was erased is left in SQLite's write-ahead log

    def look(self, now: datetime) -> None:
        """Erase a batch if it is time; may be called at any rate."""
        # A clock that was set back makes it due, too.
        if self._due is not None and timedelta() < self._due - now <= LOOK_EVERY:
            return
        self._due = now + (PAUSE if self.step(now) else LOOK_EVERY)

    def step(self, now: datetime) -> bool:
        """Erase the next batch; True: there was one, so that there may be more."""
        with self._database.reading() as session:
            if not any(row.days for row in retention.policies(session)):
                return False
        size = self._signed_size(now)
        if size is None:
            return False
        with self._database.transaction() as session:
            # Another controller may have been here since.
            done = _last_expiry(session) <= size and any(
                _erase_own(session, rule, size, now) or _erase_of_devices(session, rule, now)
                for rule in _rules(session, now)
            )
        if done:
            self._is_settled = self._database.is_shared
        elif not self._is_settled:
            self._is_settled = self._settle()
        return done

    def _signed_size(self, now: datetime) -> int | None:
        """Return up to where the log is signed; None: not up to the last expiry."""
        with self._database.reading() as session:
            last, signed = _last_expiry(session), checkpoints.newest(session)
        if signed is None or signed.checkpoint.size < last:
            try:
                signed = self._checkpoints.make(now)
            except (SignerError, ConflictError) as error:
                # `Checkpoints.look` raises the alarm.
                _logger.info("no audit records expire while none are signed: %s", error.message)
                return None
        return signed.checkpoint.size if signed and signed.checkpoint.size >= last else None

    def _settle(self) -> bool:
        """Have SQLite's write-ahead log hold no page of before; False: somebody reads it still."""
        with self._database.engine.connect() as connection:
            run = connection.exec_driver_sql
            try:
                # Who waits for readers holds up all writers.
                run("PRAGMA busy_timeout=0").close()
                busy = run("PRAGMA wal_checkpoint(TRUNCATE)").scalar()
            finally:
                run(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}").close()
        return not busy


def check_covered(session: Session, size: int) -> None:
    """Check that a log of a size says of each record that expired that it did.

    Raises:
        ConflictError: `audit_not_signed`: the newest expiry is in no checkpoint yet.
    """
    last = _last_expiry(session)
    if last > size:
        raise ConflictError(
            "audit_not_signed",
            f"records expired by record {last}, and the newest checkpoint has {size}: try again"
            " when the signer has signed it",
        )


def ranges_of_device(session: Session, device_id: str) -> list[tuple[int, int, int]]:
    """Return which records of a device's log expired, and by which record: first, last, that."""
    rows = of(AuditExpiry).c
    wanted = (
        sql.select(rows.first_seq, rows.last_seq, rows.seq)
        .where(rows.device_id == device_id)
        .order_by(rows.first_seq)
    )
    return [(first, last, seq) for first, last, seq in session.connection().execute(wanted)]


def _last_expiry(session: Session) -> int:
    newest = sql.select(sql.func.max(col(AuditExpiry.seq)))
    return session.connection().execute(newest).scalar() or 0


def _rules(session: Session, now: datetime) -> Iterator[_Rule]:
    rows = retention.policies(session)
    held = retention.holds(session, released=False)
    lasting = frozenset(tag.value for tag in LASTING)
    of_their_own = frozenset(row.tag for row in rows if row.tag != ALL_TAGS)
    for row in rows:
        policy = Policy(row.tag, row.days)
        cutoff = policy.cutoff(now)
        if cutoff is not None:
            but = lasting | of_their_own if row.tag == ALL_TAGS else lasting
            yield _Rule(policy, cutoff, but, held)


def _tags(tag: sql.ColumnElement[str], rule: _Rule) -> sql.ColumnElement[bool]:
    if rule.policy.tag != ALL_TAGS:
        return tag == rule.policy.tag
    return tag.not_in(sorted(rule.but_tags))


def _held(
    hold: AuditHold, device: Any, rollout: sql.ColumnElement[bool], at: Any
) -> sql.ColumnElement[bool]:
    """Return what is true of the records that a hold keeps."""
    met: list[sql.ColumnElement[bool]] = [sql.true()]
    if hold.device_id is not None:
        met.append(sql.func.coalesce(device, "") == hold.device_id)
    if hold.rollout_id is not None:
        met.append(rollout)
    if hold.since is not None:
        met.append(at >= hold.since)
    return sql.and_(*met)


def _erase_own(session: Session, rule: _Rule, size: int, now: datetime) -> bool:
    """Erase the next batch of the controller's own log; False: there is none."""
    rows = _RECORDS.c
    held = [
        _held(
            hold,
            rows.device_id,
            sql.func.coalesce(rows.rollout_id, "") == hold.rollout_id,
            rows.at,
        )
        for hold in rule.holds
    ]
    wanted = (
        sql.select(rows.seq)
        .where(
            sql.text(HAS_BODY),
            rows.at < rule.cutoff,
            rows.seq <= size,
            _tags(rows.tag, rule),
            *(sql.not_(one) for one in held),
        )
        .order_by(rows.seq)
        .limit(BATCH)
    )
    seqs: list[int] = list(session.connection().execute(wanted).scalars())
    if not seqs:
        return False
    ranges = {"": ranges_of(seqs)}
    said = expiries.of_controller(ranges[""])
    _say(session, rule, ranges, said, subject=expiries.CONTROLLERS, now=now)
    empty = {"body": b"", "actor": "", "tag": "", "subject": ""}
    erased = sql.update(_RECORDS).values(**empty, device_id=None, rollout_id=None)
    session.connection().execute(erased.where(rows.seq.in_(seqs)))
    return True


def _erase_of_devices(session: Session, rule: _Rule, now: datetime) -> bool:
    """Erase the next batch of devices' logs; False: there is none."""
    found = _of_devices(session, rule)
    if not found:
        return False
    by_device: dict[str, list[int]] = {}
    for one in found:
        by_device.setdefault(one.device_id, []).append(one.seq)
    ranges = {name: ranges_of(sorted(seqs)) for name, seqs in sorted(by_device.items())}
    said = expiries.of_devices(ranges)
    _say(session, rule, ranges, said, subject=expiries.DEVICES, now=now)
    rows = _DEVICE_RECORDS.c
    erased = sql.update(_DEVICE_RECORDS).values(body=b"", tag="")
    for name, seqs in by_device.items():
        where = sql.and_(rows.device_id == name, rows.seq.in_(seqs))
        session.connection().execute(erased.where(where))
    return True


def _of_devices(session: Session, rule: _Rule) -> list[_Kept]:
    """Return records of devices that have expired, as many as one batch may have."""
    found: list[_Kept] = []
    names: set[str] = set()
    signed: dict[str, int | None] = {}
    for page in _pages(session, rule):
        _learn(session, signed, page)
        for one in page:
            size = signed.get(one.device_id)
            if size is not None and one.seq > size:
                continue  # no checkpoint of the device is of it
            names.add(one.device_id)
            if len(names) > _MAX_DEVICES:
                return found
            found.append(one)
        if len(found) >= BATCH:
            return found
    return found


def _pages(session: Session, rule: _Rule) -> Iterator[list[_Kept]]:
    rows = _DEVICE_RECORDS.c
    key = sql.tuple_(rows.received_at, rows.device_id, rows.seq)
    of_rollouts = [
        rows.device_id.in_(
            sql.select(_EXECUTIONS.c.device_id).where(_EXECUTIONS.c.rollout_id == hold.rollout_id)
        )
        for hold in rule.holds
    ]
    held = [
        _held(hold, rows.device_id, of_rollout, rows.received_at)
        for hold, of_rollout in zip(rule.holds, of_rollouts, strict=True)
    ]
    wanted = (
        sql.select(rows.device_id, rows.seq, rows.received_at)
        .where(
            sql.text(HAS_BODY),
            rows.received_at < rule.cutoff,
            _tags(rows.tag, rule),
            *(sql.not_(one) for one in held),
        )
        .order_by(rows.received_at, rows.device_id, rows.seq)
        .limit(BATCH)
    )
    last: _Kept | None = None
    while True:
        after = wanted
        if last is not None:
            here = (last.received_at, last.device_id, last.seq)
            after = wanted.where(key > sql.tuple_(*(sql.literal(one) for one in here)))
        page = [_Kept(*row) for row in session.connection().execute(after)]
        if not page:
            return
        yield page
        last = page[-1]


def _learn(session: Session, signed: dict[str, int | None], page: Sequence[_Kept]) -> None:
    """Look up how much of their logs devices have signed; None: they sign none."""
    missing = {one.device_id for one in page} - signed.keys()
    if not missing:
        return
    wanted = sql.select(col(Device.id), col(Device.audit_checkpoint), col(Device.audit_seed))
    for name, note, seed in session.connection().execute(wanted.where(col(Device.id).in_(missing))):
        signed[name] = None if seed is None else _size_of(note)


def _size_of(note: str | None) -> int:
    try:
        return notes.read_checkpoint(notes.read_note(note or "").text).size
    except NoteError:
        return 0


def _say(
    session: Session,
    rule: _Rule,
    ranges: Mapping[str, Sequence[expiries.Range]],
    said: Mapping[str, object],
    *,
    subject: str,
    now: datetime,
) -> None:
    """Write down what expires, and let the triggers know."""
    run = session.connection()
    if run.dialect.name == "sqlite":
        # What is erased is overwritten in the file, as well.
        run.exec_driver_sql("PRAGMA secure_delete=ON").close()
    count = sum(last - first + 1 for some in ranges.values() for first, last in some)
    seq = log.append(
        session,
        Tag.AUDIT_EXPIRED,
        at=now,
        actor="controller",
        subject=subject,
        detail=expiries.expiry(rule.policy, rule.cutoff, count) | dict(said),
    )
    listed = [
        {"device_id": name, "first_seq": first, "last_seq": last, "seq": seq}
        for name, some in ranges.items()
        for first, last in some
    ]
    run.execute(sql.insert(of(AuditExpiry)), listed)
