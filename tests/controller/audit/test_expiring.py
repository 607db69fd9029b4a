# pyright: reportPrivateUsage=false
# A batch is ended in its middle.
"""Records expire as a policy says, and what is left proves what it proved before."""

from __future__ import annotations

import json
from collections.abc import Generator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from simulators.signing_desk import Desk
from sprat_controller.audit import expiring, exporting, log, retention
from sprat_controller.audit.checkpoints import Checkpoints
from sprat_controller.audit.expiries import Policy
from sprat_controller.audit.expiring import Expiring
from sprat_controller.audit.export import Finding, Result, verify
from sprat_controller.audit.retention import Held
from sprat_controller.audit.tree import Tree
from sprat_controller.audit.verify import verify_controller
from sprat_controller.errors import ConflictError, NotFoundError, RequestError
from sprat_controller.signer.port import SignerUnavailableError
from sprat_controller.store.queries import AuditFilter
from sprat_controller.store.session import Database
from sprat_controller.store.tables import AuditExpiry, AuditRecord
from sprat_proto import notes
from sprat_proto.audit_events import Tag
from sprat_proto.merkle import verify_consistency, verify_inclusion
from sqlalchemy.exc import DBAPIError
from sqlmodel import col, select

SECRET = "a-heron-at-low-tide"


class Kept:
    """A log, its checkpoints, and what erases of it."""

    def __init__(self, database: Database, desk: Desk) -> None:
        self.database = database
        self.desk = desk
        self.checkpoints = Checkpoints(database, desk.core)
        self.expiring = Expiring(database, self.checkpoints)

    def append(self, count: int, tag: Tag = Tag.DEVICE_LABELLED, device: str = "gw-1") -> None:
        with self.database.transaction() as session:
            for _ in range(count):
                log.append(
                    session,
                    tag,
                    at=self.desk.now,
                    actor="user:ann",
                    subject=f"device/{device}",
                    detail={"rollout": f"of-{device}"},
                )

    def keep(self, days: int | None, tag: str = "", reason: str = "") -> None:
        with self.database.transaction() as session:
            policy = Policy(tag, days)
            retention.set_policy(session, policy, reason, actor="user:ann", now=self.desk.now)

    def hold(self, held: Held) -> None:
        with self.database.transaction() as session:
            retention.add_hold(session, "h", held, "case", actor="user:ann", now=self.desk.now)

    def expire(self) -> int:
        """Erase all that has expired; return in how many batches."""
        batches = 0
        while self.expiring.step(self.desk.now):
            batches += 1
        return batches

    def gone(self) -> list[int]:
        with self.database.reading() as session:
            rows = session.exec(select(AuditRecord).order_by(col(AuditRecord.seq)))
            return [row.seq for row in rows if not row.body]

    def export(self) -> list[bytes]:
        signed = self.checkpoints.make(self.desk.now)
        assert signed is not None
        whole = b"".join(exporting.whole(self.database, signed))
        return whole.splitlines(keepends=True)

    def verified(self, lines: list[bytes] | None = None) -> Finding:
        return verify(self.export() if lines is None else lines, [self.checkpoints.key()])

    def said(self) -> list[dict[str, Any]]:
        with self.database.reading() as session:
            wanted = select(AuditRecord.body).where(AuditRecord.tag == Tag.AUDIT_EXPIRED.value)
            return [json.loads(body)["detail"] for body in session.exec(wanted)]


@pytest.fixture
def desk(tmp_path: Path) -> Generator[Desk]:
    (tmp_path / "signer").mkdir()
    made = Desk(tmp_path / "signer")
    yield made
    made.core.close()


@pytest.fixture
def kept(any_database: Database, desk: Desk) -> Kept:
    return Kept(any_database, desk)


@pytest.fixture
def one(database: Database, desk: Desk) -> Kept:
    """On SQLite alone."""
    return Kept(database, desk)


def old_and_new(kept: Kept, count: int = 5) -> None:
    """Have records, a policy, and half a year go by, and records again."""
    kept.append(count)
    kept.keep(183)
    kept.desk.later(days=184)
    kept.append(count)
    kept.checkpoints.make(kept.desk.now)


def test_nothing_expires_before_somebody_says_so(one: Kept) -> None:
    one.append(3)
    one.desk.later(days=4000)
    one.checkpoints.make(one.desk.now)
    assert one.expire() == 0
    assert one.gone() == []


def test_what_expired_is_gone_and_the_rest_proves_what_it_proved(kept: Kept) -> None:
    kept.append(5)
    before = kept.checkpoints.make(kept.desk.now)
    assert before is not None
    old_and_new(kept)
    assert kept.expire() == 1
    assert kept.gone() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    (said,) = kept.said()
    assert (said["from"], said["up_to"], said["count"]) == (1, 10, 10)
    assert said["ranges"] == [[1, 10]]
    assert said["policy"] == {"tag": "", "days": 183}
    found = kept.verified()
    assert (found.result, found.expired, found.records) == (Result.INTACT, 10, 17)
    assert "10 expired" in found.message
    after = kept.checkpoints.make(kept.desk.now)
    assert after is not None
    with kept.database.reading() as session:
        tree = Tree(session)
        size, root = after.checkpoint.size, after.checkpoint.root
        proof = tree.consistency(before.checkpoint.size, size)
        verify_consistency(5, size, proof, before.checkpoint.root, root)
        row = session.get_one(AuditRecord, 3)
        verify_inclusion(bytes.fromhex(row.hash), 2, size, tree.inclusion(3, size), root)
        assert (row.actor, row.tag, row.subject, row.device_id, row.rollout_id) == (
            *("", "", ""),
            *(None, None),
        )
        report = verify_controller(session)
    assert (report.ok, report.expired) == (True, 10)
    assert report.message.endswith("unbroken, 10 expired")


def test_the_line_of_an_expired_record_is_its_hash_in_its_place(one: Kept) -> None:
    old_and_new(one)
    whole = one.export()
    one.expire()
    lines = one.export()
    hash_of_third = json.loads(whole[3])["hash"]
    assert lines[3] == b'{"hash":"%b","expired":3}\n' % hash_of_third.encode()
    assert json.loads(lines[3]) == {"hash": hash_of_third, "expired": 3}


def test_bodies_are_not_in_the_files_any_more(one: Kept, tmp_path: Path) -> None:
    one.append(3, device=SECRET)
    one.keep(183)
    one.desk.later(days=184)
    one.append(300)
    one.checkpoints.make(one.desk.now)
    assert any(SECRET.encode() in file.read_bytes() for file in tmp_path.glob("*.db*"))
    one.expire()
    assert one.gone() == [1, 2, 3]
    assert not any(SECRET.encode() in file.read_bytes() for file in tmp_path.glob("*.db*"))


def test_only_what_is_below_a_signed_checkpoint_expires(one: Kept) -> None:
    one.append(3)
    one.keep(183)
    one.checkpoints.make(one.desk.now)
    one.append(3)
    one.desk.later(days=200)

    def away() -> Any:
        raise SignerUnavailableError("signer_unavailable", "away")

    one.desk.core.log_state = away
    assert one.expire() == 1
    assert one.gone() == [1, 2, 3]
    # Nothing more before what says so is signed; an export would lack it.
    with one.database.reading() as session, pytest.raises(ConflictError, match="try again"):
        expiring.check_covered(session, 4)
    assert one.expire() == 0
    del one.desk.core.log_state
    assert one.expire() == 1
    assert one.gone() == [1, 2, 3, 5, 6, 7]
    assert one.verified().result is Result.INTACT


def test_a_tag_has_a_policy_of_its_own(kept: Kept) -> None:
    kept.append(2)
    kept.append(2, Tag.DEVICE_FELL_BACK)
    kept.append(2, Tag.DEVICE_RECOVERED)
    kept.keep(400)
    kept.keep(183, Tag.DEVICE_FELL_BACK.value)
    kept.keep(None, Tag.DEVICE_RECOVERED.value)
    kept.desk.later(days=200)
    kept.append(1)
    kept.expire()
    assert kept.gone() == [3, 4]
    kept.desk.later(days=450)
    kept.expire()
    # What says how long, and what expired, is there for ever.
    assert kept.gone() == [1, 2, 3, 4, 10]
    assert kept.verified().result is Result.INTACT


@pytest.mark.parametrize(
    ("held", "gone"),
    [
        (Held(device_id="gw-1"), [3, 4]),
        (Held(rollout_id="of-gw-2"), [1, 2]),
        (Held(device_id="gw-1", rollout_id="of-gw-2"), [1, 2, 3, 4]),
        (Held(since=datetime.fromisoformat("2026-11-25T12:00:00+00:00")), []),
        (Held(since=datetime.fromisoformat("2026-11-25T12:00:01+00:00")), [1, 2, 3, 4]),
    ],
)
def test_what_is_held_is_kept_until_it_is_released(kept: Kept, held: Held, gone: list[int]) -> None:
    kept.append(2)
    kept.append(2, device="gw-2")
    kept.keep(183)
    kept.hold(held)
    kept.desk.later(days=200)
    kept.append(1)
    kept.expire()
    assert kept.gone() == gone
    assert kept.verified().result is Result.INTACT
    with kept.database.transaction() as session:
        by: Any = {"actor": "user:ann", "now": kept.desk.now}
        retention.release_hold(session, "h", "closed", **by)
        with pytest.raises(ConflictError, match="before"):
            retention.release_hold(session, "h", "closed", **by)
        with pytest.raises(NotFoundError):
            retention.release_hold(session, "other", "closed", **by)
    kept.expire()
    assert kept.gone() == [1, 2, 3, 4]
    assert kept.verified().result is Result.INTACT


def test_a_record_is_kept_for_all_of_its_days(one: Kept) -> None:
    one.append(2)
    one.keep(183)
    one.checkpoints.make(one.desk.now)
    one.desk.later(days=183)
    assert one.expire() == 0
    one.desk.later(seconds=1)
    assert one.expire() == 1
    assert one.gone() == [1, 2]


def test_a_policy_is_of_its_tag_and_of_none_that_begins_so(one: Kept) -> None:
    one.append(2)
    one.keep(183, Tag.DEVICE_LABELLED.value[:-1])
    one.checkpoints.make(one.desk.now)
    one.desk.later(days=400)
    assert one.expire() == 0


def test_of_two_controllers_that_erase_at_once_one_waits_until_the_others_word_is_signed(
    one: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expiring, "BATCH", 3)
    old_and_new(one, 6)
    size = one.expiring._signed_size(one.desk.now)
    assert size is not None
    other = Expiring(one.database, one.checkpoints)
    assert other.step(one.desk.now)

    def as_before(_now: datetime) -> int | None:
        return size

    monkeypatch.setattr(one.expiring, "_signed_size", as_before)
    assert not one.expiring.step(one.desk.now)
    assert one.gone() == [1, 2, 3]
    assert one.verified().result is Result.INTACT


def test_it_goes_in_batches_and_a_kill_between_two_loses_nothing(
    one: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expiring, "BATCH", 7)
    old_and_new(one, 40)
    assert one.expiring.step(one.desk.now)
    assert len(one.gone()) == 7
    assert one.verified().result is Result.INTACT
    again = Kept(one.database, one.desk)
    assert again.expire() == 5
    assert again.gone() == list(range(1, 41))
    assert again.verified().expired == 40


def test_a_batch_is_done_or_it_is_not(one: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    old_and_new(one)

    erase_own = expiring._erase_own

    def killed(*given: Any) -> bool:
        assert erase_own(*given)
        raise RuntimeError("killed")

    with monkeypatch.context() as patched:
        patched.setattr(expiring, "_erase_own", killed)
        with pytest.raises(RuntimeError):
            one.expire()
    assert (one.gone(), one.said()) == ([], [])
    with one.database.reading() as session:
        assert session.exec(select(AuditExpiry)).all() == []
    one.expire()
    assert one.verified().expired == 5


def test_it_is_looked_for_hourly_and_more_often_while_there_is_more(
    one: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expiring, "BATCH", 4)
    old_and_new(one, 6)
    counts: list[int] = []
    for _ in range(8):
        one.expiring.look(one.desk.now)
        counts.append(len(one.gone()))
        one.desk.later(seconds=2)
    assert counts == [4, 4, 6, 6, 6, 6, 6, 6]


@pytest.mark.parametrize("seq", [1, 4, 6])
def test_a_record_that_was_taken_out_is_told_from_one_that_expired(one: Kept, seq: int) -> None:
    old_and_new(one)
    one.expire()
    lines = one.export()
    at = (
        next(n for n, line in enumerate(lines) if f'"seq":{seq},'.encode() in line)
        if seq > 5
        else 0
    )
    if seq > 5:
        digest = json.loads(lines[at])["hash"]
        lines[at] = b'{"hash":"%b","expired":%d}\n' % (digest.encode(), seq)
    else:
        # What says that they expired is taken out itself.
        at = next(n for n, line in enumerate(lines) if b"controller:audit:expired" in line)
        digest = json.loads(lines[at])["hash"]
        last = json.loads(lines[at])["record"]["seq"]
        lines[at] = b'{"hash":"%b","expired":%d}\n' % (digest.encode(), last)
        seq = 1
    found = one.verified(lines)
    assert (found.result, found.seq) == (Result.TAMPERED, seq)
    assert found.message == f"record {seq} was removed, no record says that it expired"


@pytest.mark.parametrize(
    "line",
    [b'"expired":0}', b'"expired":01}', b'"expired":"3"}', b'"expired":3,"x":1}', b'"expired":}'],
)
def test_a_malformed_line_of_an_expired_record_is_none(one: Kept, line: bytes) -> None:
    old_and_new(one)
    one.expire()
    lines = one.export()
    lines[3] = lines[3].split(b'"expired"')[0] + line + b"\n"
    assert one.verified(lines).result is Result.TAMPERED


def test_an_expired_line_with_another_hash_is_found(one: Kept) -> None:
    old_and_new(one)
    one.expire()
    lines = one.export()
    lines[3] = b'{"hash":"%b","expired":3}\n' % (b"0" * 64)
    assert one.verified(lines).result is Result.TAMPERED


def test_an_expiry_that_no_policy_allows_is_found(one: Kept) -> None:
    """Who holds the controller may write any record, and cannot take back what stood before."""
    old_and_new(one)
    signed = one.checkpoints.make(one.desk.now)
    assert signed is not None
    detail = {"count": 1, "ranges": [[6, 6]], "policy": {"tag": "", "days": 1}}
    with one.database.transaction() as session:
        seq = log.append(
            session,
            Tag.AUDIT_EXPIRED,
            at=one.desk.now,
            actor="controller",
            subject="log/controller",
            detail=detail,
        )
        session.add(AuditExpiry(device_id="", first_seq=7, last_seq=7, seq=seq))
        session.flush()
        erase(session, 7)
    found = one.verified()
    assert (found.result, found.seq) == (Result.TAMPERED, 7)
    with one.database.reading() as session:
        assert not verify_controller(session).ok


def erase(session: Any, seq: int) -> None:
    session.connection().exec_driver_sql(
        "UPDATE audit_record SET body = '', actor = '', tag = '', subject = '', device_id = NULL,"  # noqa: S608 - a number
        f" rollout_id = NULL WHERE seq = {seq}"
    )


def test_the_database_lets_nothing_be_erased_that_did_not_expire(kept: Kept) -> None:
    kept.append(3)
    for statement in (
        "UPDATE audit_record SET body = '' WHERE seq = 2",
        "UPDATE audit_record SET actor = 'x' WHERE seq = 2",
        "UPDATE audit_record SET hash = '0' WHERE seq = 2",
        "DELETE FROM audit_record WHERE seq = 2",
    ):
        with pytest.raises(DBAPIError), kept.database.transaction() as session:
            session.connection().exec_driver_sql(statement)
    with (
        pytest.raises(DBAPIError, match="append-only"),
        kept.database.transaction() as session,
    ):
        erase(session, 2)
    assert kept.gone() == []


def test_what_is_shorter_than_half_a_year_is_forced_with_a_reason(one: Kept) -> None:
    for policy, reason in (
        (Policy("", 182), ""),
        (Policy("", 182), "  "),
        (Policy("", 0), "x"),
        (Policy("", -1), "x"),
        (Policy("", 36_501), "x"),
        (Policy("no tag", 200), ""),
        (Policy(Tag.AUDIT_EXPIRED.value, 200), ""),
    ):
        with one.database.transaction() as session, pytest.raises(RequestError):
            retention.set_policy(session, policy, reason, actor="user:ann", now=one.desk.now)
    one.keep(30, reason="a trial, no personal data")
    with one.database.reading() as session:
        (record,) = session.exec(select(AuditRecord))
    body = json.loads(record.body)
    assert body["after"] == "30 days"
    assert body["detail"]["message"] == "a trial, no personal data"
    one.append(2)
    one.desk.later(days=31)
    one.append(1)
    one.expire()
    assert one.gone() == [2, 3]
    assert one.verified().result is Result.INTACT


def test_there_is_a_bound_of_holds_at_a_time(one: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "MAX_HOLDS", 2)
    by: Any = {"actor": "user:ann", "now": one.desk.now}

    def hold(name: str) -> None:
        with one.database.transaction() as session:
            retention.add_hold(session, name, Held(device_id="gw-1"), "case", **by)

    hold("a")
    hold("b")
    with pytest.raises(ConflictError, match="at most 2 holds"):
        hold("c")
    with one.database.transaction() as session:
        retention.release_hold(session, "a", "closed", **by)
    hold("c")


def test_a_policy_that_is_cleared_erases_nothing_more(one: Kept) -> None:
    old_and_new(one)
    with one.database.transaction() as session:
        retention.clear_policy(session, "", actor="user:ann", now=one.desk.now)
        with pytest.raises(NotFoundError):
            retention.clear_policy(session, "", actor="user:ann", now=one.desk.now)
    assert one.expire() == 0


def test_a_part_and_a_view_leave_out_what_expired(one: Kept) -> None:
    old_and_new(one)
    one.expire()
    signed = one.checkpoints.make(one.desk.now)
    assert signed is not None
    wanted = AuditFilter(since=one.desk.now - timedelta(days=1000))
    lines = b"".join(exporting.part(one.database, signed, wanted)).splitlines(keepends=True)
    found = one.verified(lines)
    assert (found.result, found.records) == (Result.INTACT, signed.checkpoint.size - 5)
    shown = exporting.view(one.database, wanted, signed.checkpoint.size, lambda body: body + b"\n")
    assert len(b"".join(shown).splitlines()) == signed.checkpoint.size - 5
    notes.verify(signed.note, [one.checkpoints.key()])
