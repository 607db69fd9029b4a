"""What is exported ends at the checkpoint that it begins with, whatever comes meanwhile."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest
from simulators.signing_desk import Desk
from sprat_controller.audit import exporting, log, retention
from sprat_controller.audit.checkpoints import Checkpoints, Signed
from sprat_controller.audit.expiries import Policy
from sprat_controller.audit.expiring import Expiring
from sprat_controller.audit.export import Result, verify
from sprat_controller.errors import ConflictError
from sprat_controller.store.queries import AuditFilter
from sprat_controller.store.session import Database
from sprat_proto.audit_events import Tag

TOKENS = AuditFilter(tag=Tag.TOKEN_CREATED.value)


class Growing:
    """A log that is signed, and goes on."""

    def __init__(self, database: Database, desk: Desk) -> None:
        self.database, self.desk = database, desk
        self.checkpoints = Checkpoints(database, desk.core)

    def append(self, count: int) -> None:
        with self.database.transaction() as session:
            for number in range(count):
                log.append(
                    session,
                    Tag.TOKEN_CREATED,
                    at=self.desk.now,
                    actor="user:ann",
                    subject=f"token/{number}",
                )

    def sign(self) -> Signed:
        signed = self.checkpoints.make(self.desk.now)
        assert signed is not None
        return signed


@pytest.fixture
def growing(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Generator[Growing]:
    monkeypatch.setattr(exporting, "PAGE", 3)
    (tmp_path / "signer").mkdir()
    desk = Desk(tmp_path / "signer")
    yield Growing(database, desk)
    desk.core.close()


@pytest.mark.parametrize("count", [1, 3, 4, 7])
@pytest.mark.parametrize("more", [0, 1, 3])
def test_an_export_ends_where_its_checkpoint_does(growing: Growing, count: int, more: int) -> None:
    growing.append(count)
    signed = growing.sign()
    growing.append(more)
    for made in (
        exporting.whole(growing.database, signed),
        exporting.part(growing.database, signed, TOKENS),
    ):
        lines = b"".join(made).splitlines(keepends=True)
        found = verify(lines, [growing.checkpoints.key()])
        assert (found.result, found.records) == (Result.INTACT, count), found
    shown = exporting.view(growing.database, TOKENS, count, lambda body: body + b"\n")
    assert len(b"".join(shown).splitlines()) == count


def test_an_export_is_cut_off_if_records_of_it_expire_meanwhile(growing: Growing) -> None:
    growing.append(7)
    with growing.database.transaction() as session:
        policy = Policy("", 183)
        retention.set_policy(session, policy, "", actor="user:ann", now=growing.desk.now)
    growing.desk.later(days=200)
    signed = growing.sign()
    made = exporting.whole(growing.database, signed)
    lines = [next(made), next(made)]
    assert Expiring(growing.database, growing.checkpoints).step(growing.desk.now)
    with pytest.raises(ConflictError, match="try again"):
        next(made)
    found = verify(b"".join(lines).splitlines(keepends=True), [growing.checkpoints.key()])
    assert found.result is Result.INCOMPLETE
    whole = b"".join(exporting.whole(growing.database, growing.sign()))
    found = verify(whole.splitlines(keepends=True), [growing.checkpoints.key()])
    assert (found.result, found.expired) == (Result.INTACT, 7)
