"""The job that keeps the broker's list new, with a broker and a signer that note what they do."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from simulators.pki import DAY, NOW, Pki
from sprat_controller.errors import StartupError
from sprat_controller.link import revocations
from sprat_controller.link.revocation_list import Health, health, read
from sprat_controller.link.revocations import RevocationJob
from sprat_controller.signer.port import SignerUnavailableError
from sprat_controller.store.session import Database
from sprat_controller.store.tables import AuditRecord
from sprat_proto.audit_events import Tag
from sqlmodel import col, select


class NotedBroker:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[str | bytes] = []

    async def revoke(self, revocations: bytes) -> None:
        self.told.append(revocations)

    async def cut_off(self, device_id: str) -> None:
        self.told.append(device_id)


class Bench:
    """A job whose time belongs to the test, and whose signer may be away."""

    def __init__(self, database: Database) -> None:
        self.pki, self.broker, self.database = Pki(), NotedBroker(), database
        self.now, self.is_away = NOW, False
        self.job = RevocationJob(
            self.broker,
            self.issue,
            self.issue(),
            clock=lambda: self.now,
            database=database,
        )

    def issue(self) -> bytes:
        if self.is_away:
            raise SignerUnavailableError("signer_unavailable", "the signer is away")
        return self.pki.revocation_list(self.now)

    def health(self) -> Health:
        return health(self.job.standing.held, self.now)

    def alarms(self) -> list[str]:
        with self.database.reading() as session:
            found = select(AuditRecord.body).where(AuditRecord.tag == Tag.REVOCATIONS_LATE.value)
            bodies = session.exec(found.order_by(col(AuditRecord.seq))).all()
        return [json.loads(body)["detail"]["state"] for body in bodies]

    async def look_after(self, much: timedelta) -> list[str | bytes]:
        self.now += much
        before = len(self.broker.told)
        await self.job.look()
        return self.broker.told[before:]


@pytest.fixture
def bench(database: Database) -> Bench:
    return Bench(database)


async def test_a_new_list_comes_at_the_start_and_hourly(bench: Bench) -> None:
    assert len(await bench.look_after(timedelta())) == 1
    assert await bench.look_after(timedelta(minutes=59)) == []
    told = await bench.look_after(timedelta(minutes=1))
    assert told == [bench.job.standing.held.pem]


async def test_who_is_revoked_is_in_the_list_before_it_is_cut_off(bench: Bench) -> None:
    await bench.look_after(timedelta())
    bench.job.revoked("dev-a")
    assert await bench.look_after(timedelta(seconds=1)) == [bench.job.standing.held.pem, "dev-a"]
    assert await bench.look_after(timedelta(seconds=1)) == []


async def test_who_is_revoked_while_the_signer_is_away_is_cut_off_until_it_is_listed(
    bench: Bench,
) -> None:
    await bench.look_after(timedelta())
    bench.is_away = True
    bench.job.revoked("dev-a")
    for _ in range(3):
        assert await bench.look_after(timedelta(minutes=1)) == ["dev-a"]
    bench.is_away = False
    assert await bench.look_after(timedelta(minutes=1)) == [bench.job.standing.held.pem, "dev-a"]
    assert await bench.look_after(timedelta(minutes=1)) == []


async def test_t48_a_list_that_is_not_renewed_is_an_alarm_before_the_outage(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    await bench.look_after(timedelta())
    bench.is_away = True
    await bench.look_after(timedelta(hours=23))
    assert bench.alarms() == []
    await bench.look_after(timedelta(hours=2))
    assert bench.health() is Health.LATE
    await bench.look_after(timedelta(hours=1))
    await bench.look_after(6 * DAY)
    assert bench.health() is Health.EXPIRED
    assert bench.alarms() == ["LATE", "EXPIRED"]
    assert "then none is let in any more: see that the signer runs" in caplog.text
    assert "none is let in: see that the signer runs" in caplog.text
    bench.is_away = False
    await bench.look_after(timedelta(minutes=1))
    assert bench.health() is Health.GOOD


async def test_a_damaged_list_never_reaches_the_broker(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(_at: datetime) -> bytes:
        return b"damaged"

    monkeypatch.setattr(bench.pki, "revocation_list", damaged)
    assert await bench.look_after(timedelta(hours=1)) == []


def test_a_broker_starts_with_its_old_list_when_there_is_no_new_one(
    bench: Bench, tmp_path: Path
) -> None:
    kept = tmp_path / "revoked.pem"
    assert read(revocations.first(bench.issue, kept)).expires_at > bench.now
    kept.write_bytes(bench.issue())
    old = kept.read_bytes()
    bench.is_away = True
    assert revocations.first(bench.issue, kept) == old
    kept.unlink()
    with pytest.raises(StartupError, match="start the signer first"):
        revocations.first(bench.issue, kept)
